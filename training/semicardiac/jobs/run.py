"""Runs a job to its end, whatever that is: done, stopped, or an error that says who can fix it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import __version__
from ..base import files
from ..base.errors import Stopped, UserError
from ..base.events import Done, EventLog, Failed, Listener, Started, StoppedEvent
from ..base.explain import explain, fault_of_ours
from ..base.locks import exclusive
from ..base.ranks import LostRankError, Rank, current_rank
from ..base.temporaries import is_temporary, remove_abandoned
from .crash import crash_report
from .job import CRASH_REPORT, EVENTS, JOB, LOCK, Job, SegmentJob, TrainJob, load_job
from .shares import log_of
from .stop import STARTER, stop_requests, stop_signals

DONE, OUR_FAULT, USER_CAN_FIX, STOPPED = 0, 1, 2, 130
"""Exit statuses."""


def run_job(folder: Path, *listeners: Listener) -> int:
    """Runs the job of a folder, or continues it where it was interrupted.

    Of the processes that torchrun has started for a training, the first one holds the job's lock and writes; the others
    take their part in its steps.

    Args:
        folder: A job folder.
        listeners: Called with each event, which also goes to events.jsonl in the folder.

    Returns:
        The exit status: 0 done, 2 the user can fix it, 1 our fault, 130 stopped; 0 also for stopped where torchrun has
        started several processes, as it would start them again.
    """
    folder = Path(folder).absolute()
    aside = EventLog(None, *listeners)  # for what cannot or must not be written into the folder
    try:
        rank = current_rank()
        if not rank.first:
            return _status(_take_part(folder, rank, aside))
        if not (folder / JOB).is_file():
            raise UserError("this is not a job folder", where=folder, hint=f"A job folder holds a file {JOB}")
        with exclusive(folder / LOCK):
            log = EventLog(folder / EVENTS, *listeners)
            end = _run(folder, log)
            try:
                log.emit(end)
            except OSError:  # a full disk takes no event, but whoever listens should hear of it
                aside.emit(end)
    except (UserError, OSError) as error:  # another engine's job, or no place even for a lock
        end = _failure(error, folder, None)
        aside.emit(end)
    return _status(end)


def _status(end: Done | StoppedEvent | Failed) -> int:
    if isinstance(end, Failed):
        return USER_CAN_FIX if end.fault == "user" else OUR_FAULT
    return STOPPED if isinstance(end, StoppedEvent) and current_rank().count == 1 else DONE


def _run(folder: Path, log: EventLog) -> Done | StoppedEvent | Failed:
    """Does the job's work and tells how it ended."""
    start, cpu_start = time.monotonic(), time.process_time()
    job = None
    try:
        resumed = (folder / EVENTS).exists()
        (folder / CRASH_REPORT).unlink(missing_ok=True)
        _remove_abandoned(folder)
        job = load_job(folder)
        with stop_requests(folder) as stop:
            log.emit(Started(kind=job.kind, version=__version__, pid=os.getpid(), resumed=resumed))
            summary = _work(job, folder, log, stop)
        seconds, cpu_seconds = time.monotonic() - start, time.process_time() - cpu_start
        return Done(seconds=seconds, cpu_seconds=cpu_seconds, summary=summary)
    except (Stopped, KeyboardInterrupt):
        return StoppedEvent()
    except Exception as error:
        return _failure(error, folder, job)


def _take_part(folder: Path, rank: Rank, aside: EventLog) -> Done | StoppedEvent | Failed:
    """What a process does that is not the first of its job; only what goes wrong in it is told by it."""
    job = None
    try:
        job = load_job(folder)
        if isinstance(job, TrainJob):
            from ..training.ranks import joined
            from .train import run_train

            with joined(rank) as ranks, stop_signals() as stop:
                run_train(job, folder, EventLog(), stop, ranks)
        elif isinstance(job, SegmentJob):
            from .segment import run_segment

            with stop_signals() as stop:
                run_segment(job, folder, EventLog(log_of(folder, rank.number)), stop, rank)
        return Done(seconds=0.0, cpu_seconds=0.0)
    except (Stopped, KeyboardInterrupt):
        return StoppedEvent()
    except Exception as error:
        end = _failure(error, folder, job)
        if not isinstance(error, LostRankError):  # the first process tells of that
            aside.emit(end)
        return end


def _remove_abandoned(folder: Path) -> None:
    """What killed runs have left behind in the job folder and the folders in it."""
    for place, folders, _ in os.walk(folder):
        remove_abandoned(Path(place))
        folders[:] = [name for name in folders if not is_temporary(Path(name))]


def _work(job: Job, folder: Path, log: EventLog, stop: Callable[[], bool]) -> dict[str, Any]:
    """What the kind of job asks for. Imported here, since PyTorch takes seconds that not every job has to wait."""
    if STARTER in os.environ and isinstance(job, TrainJob | SegmentJob):
        from ..models.compute import leave_a_core

        leave_a_core()
    if isinstance(job, TrainJob):
        from ..training.ranks import joined
        from .train import run_train

        with joined(current_rank()) as ranks:
            return run_train(job, folder, log, stop, ranks)
    if isinstance(job, SegmentJob):
        from .segment import run_segment

        return run_segment(job, folder, log, stop, current_rank())
    from ..evaluation.evaluate import evaluate_folder

    return {"table": evaluate_folder(job.predictions, job.reference, job.labels, folder, log, stop).table}


def _failure(error: Exception, folder: Path, job: Job | None) -> Failed:
    """The event that tells of an error; of one that the user cannot fix also a crash report is written."""
    if (told := explain(error, folder)) is not None:
        return Failed(what=told.what, where=told.where, hint=told.hint, fault="user")
    report = folder / CRASH_REPORT
    with suppress(OSError, UserError):
        files.write_text(report, crash_report(error, job))
    told = fault_of_ours(error, report.name, where=folder)
    return Failed(what=told.what, where=told.where, hint=told.hint, fault="engine")
