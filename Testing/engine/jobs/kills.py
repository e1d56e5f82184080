"""A segment job that is cut off at every one of its writes, each time in a process of its own, and continued.

`python -m Testing.engine.jobs.kills FOLDER HOW` with a job folder FOLDER/job that has yet to run and its inputs beside
it. HOW is `killed` before the write, `killed in the middle` of it, or `full`: from then on the disk takes no more; with
`, no links` where the file system has none. Prints what went wrong, as a list in JSON.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import skimage.morphology  # noqa: F401 - else each process would wait for it
from semicardiac.base import files
from semicardiac.base.events import Result, read_events
from semicardiac.jobs import segment
from semicardiac.jobs.job import full_path
from semicardiac.jobs.run import run_job

from Testing.engine.networks import Thresholder, model_of

_WRITES = os.O_WRONLY | os.O_RDWR
_MOVES = ("os.rename", "os.link", "os.mkdir", "os.remove", "os.truncate")


def cut_off(folder: Path, at: int, how: str) -> None:
    """From now on, what this process writes below `folder` ends with write number `at`, counted from 0."""
    writes = 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal writes
        opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES
        if (not opens and event not in _MOVES) or not os.fsdecode(str(arguments[0])).startswith(str(folder)):
            return
        writes += 1
        if writes <= at:
            return
        if how == "full":
            if event != "os.remove":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return
        if opens and how == "killed in the middle":
            writes = -1000  # the write of half of it is none of the job's
            with open(arguments[0], "ab" if arguments[2] & os.O_APPEND else "wb") as file:
                file.write(b'{"event": "st')
        os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def in_a_process(work: Callable[[], int]) -> int:
    """The exit status of work in a process of its own; minus the number of the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        os._exit(work())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def contents(folder: Path) -> dict[str, bytes]:
    """What lies in a folder beside the inputs and what differs between runs."""
    files_there = (path for path in folder.rglob("*") if path.is_file() and path.name not in ("events.jsonl", "lock"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files_there}


def problems(source: Path, how: str) -> list[str]:
    """What differs from an undisturbed run after a job was cut off and continued, for each of its writes."""
    model = model_of(Thresholder())
    segment.load_model, segment.hash_of_model = lambda _: model, lambda _: "00"
    how, _, without_links = how.partition(", ")
    if without_links:

        def no_link(*_) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        files.os.link = no_link
    place = source.parent / "place"  # one for all, as job.json tells where the inputs are
    found: list[str] = []
    expected: dict[str, bytes] = {}

    def first(at: int | None) -> int:
        if at is not None:
            cut_off(place, at, how)
        return run_job(place / "job")

    for at in (None, *range(1000)):
        shutil.copytree(source, place)
        status = in_a_process(lambda at=at: first(at))
        if at is None:
            expected = contents(place)
        elif status == 0:
            shutil.rmtree(place)
            return found if at > 20 else [*found, f"there were only {at} writes"]
        else:
            allowed = (2,) if how == "full" else (-signal.SIGKILL,)
            found += [f"write {at}: ended with {status}"] * (status not in allowed)
            found += [f"write {at}: continued with {again}" for again in [in_a_process(lambda: first(None))] if again]
            now = contents(place)
            odd = sorted(name for name in now | expected if now.get(name) != expected.get(name))
            found += [f"write {at}: {odd} differ"] * bool(odd)
        told = {
            full_path(place / "job", event.path).name
            for event in read_events(place / "job" / "events.jsonl")
            if isinstance(event, Result)
        }
        found += [f"write {at}: told of {told}"] * (told != {path.name for path in (place / "out").iterdir()})
        shutil.rmtree(place)
    return [*found, "it never ended"]


if __name__ == "__main__":
    print(json.dumps(problems(Path(sys.argv[1]), sys.argv[2])))
