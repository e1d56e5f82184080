"""Whether other processes still run."""

from __future__ import annotations

from collections.abc import Callable

# psutil is imported where it is used: Slicer imports this module before it is set up, and does not come with psutil.


def gone_check(pid: int) -> Callable[[], bool]:
    """A function that says whether the process that has this number now has ended.

    A process is known by its number and the time of its start, so that a later one that was given the same number is
    not taken for it. One that has ended and that its starter has not asked about yet (a zombie) has ended, too.
    """
    import psutil

    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return lambda: True

    def is_gone() -> bool:
        try:
            return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:  # it has ended between the two questions
            return True
        except psutil.AccessDenied:  # it runs, and is another user's
            return False

    return is_gone


def may_run(pid: int) -> bool:
    """Whether a process has this number now; also where psutil is not installed, so that nobody can tell."""
    try:
        return not gone_check(pid)()
    except ImportError:
        return True
