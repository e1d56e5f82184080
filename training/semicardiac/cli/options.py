"""What the commands of `semicardiac` share: kinds of options, and a job that is run and shown."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

Flag = Annotated[bool, arg(help_behavior_hint="")]
Data = Annotated[Positional[tuple[Path, ...]], arg(metavar="DATA", help_behavior_hint="")]


def optional(metavar: str = "", *, help: str | None = None) -> Any:  # noqa: A002 - as tyro calls it
    """An option whose absence needs no mention in the help, which is the docstring of its field if not given here."""
    return arg(metavar=metavar or None, help=help, help_behavior_hint="")


def job_made(folder: Path) -> str:
    """What is said of a job that is to be run later."""
    return f"The job is in {folder}. Run it:   semicardiac run {shlex.quote(str(folder))}"


def run_shown(folder: Path, *, jsonl: bool) -> int:
    """Runs a job and shows what it tells, to a person or as lines of JSON; returns its exit status."""
    from ..jobs.run import run_job
    from .progress import Console, Lines

    if jsonl:
        return run_job(folder, Lines())
    with Console(folder=folder) as console:
        return run_job(folder, console)
