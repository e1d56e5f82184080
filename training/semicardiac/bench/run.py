"""Runs the bench: every measurement in its turn, its rows printed as they come, all of it into one file."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ..base.errors import UserError
from ..base.files import write_json
from ..base.text import number
from ..models.compute import keep_freed_memory, pick_device
from .rows import Measurement, Row, select
from .timing import Measured, Setting, Unmeasured

CHECKOUT = Path(__file__).resolve().parents[3]
"""Where Testing is, if the engine runs from a checkout."""
NO_CHECKOUT = "the reference is in the repository: run this from a checkout, installed with pip install --editable"


def run_bench(
    machine: Mapping[str, Any],
    *,
    device: str = "auto",
    rounds: int = 5,
    only: Sequence[str] = (),
    json: Path | None = None,
    say: Callable[[str], None] = print,
) -> bool:
    """Measures the rows of the bench and prints them as a table.

    Args:
        machine: What is known of it, by name; the processor, the threads and the load are added.
        device: Where to compute.
        rounds: How often each work takes its turn.
        only: Ids of the rows to measure; all if empty.
        json: File for the figures; none if None.
        say: Told each line.

    Returns:
        Whether no measurement has failed.

    Raises:
        UserError: If there is no such row or device, or the rounds are none.
    """
    if rounds < 1:
        raise UserError(f"got {rounds}", where="--rounds", hint="Take 1 at the least; 5 tell more")
    measurements = select(only)
    device = pick_device(device)
    if torch.device(device).type not in ("cpu", "cuda"):
        raise UserError(f"nothing can be timed on {device} yet", where="--device", hint="Use cpu or cuda")
    keep_freed_memory()  # as a training does
    machine = {**machine, **_state()}
    for name, value in machine.items():
        say(f"{name}: {value}")
    say(f"\n{'row':34}{'value':>10}{'bar':>10}   what it is")
    results, failed = [], False
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(device, rounds, Path(folder))
        for measurement in measurements:
            found, broken = _measured(measurement, setting)
            failed = failed or broken
            for row in measurement.rows:
                results.append(_result(row, found[row.id]))
                for line in _lines(row, results[-1]):
                    say(line)
    if json is not None:
        write_json(json, {"machine": machine, "rows": results})
    return not failed


def _state() -> dict[str, Any]:
    """What of a machine is not the same each time, or not told by the libraries."""
    load = ", ".join(f"{each:.2f}" for each in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
    return {"processor": _processor(), "threads": torch.get_num_threads(), "load": load}


def _processor() -> str:
    """The processor's name; of Linux, whose platform module knows none, as the kernel tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _measured(measurement: Measurement, setting: Setting) -> tuple[dict[str, Measured], bool]:
    """What came of each row, and whether the measurement failed: then the others still run."""
    try:
        if measurement.gpu and not setting.gpu:
            raise Unmeasured("this takes a CUDA device")
        return _function(measurement)(setting), False
    except Unmeasured as reason:
        note, failed = str(reason), False
    except Exception as error:
        note, failed = f"failed: {type(error).__name__}: {error}", True
    finally:
        if setting.gpu:
            torch.cuda.empty_cache()
    return {row.id: Measured(note=note) for row in measurement.rows}, failed


def _function(measurement: Measurement) -> Callable[[Setting], dict[str, Measured]]:
    module, _, name = measurement.place.partition(":")
    if not measurement.of_checkout:
        module = f"{__package__}.{module}"
    elif not (CHECKOUT / "Testing" / "bench" / "reference.py").is_file():
        raise Unmeasured(NO_CHECKOUT)
    elif str(CHECKOUT) not in sys.path:
        sys.path.append(str(CHECKOUT))
    found: Callable[[Setting], dict[str, Measured]] = getattr(import_module(module), name)
    return found


def _result(row: Row, measured: Measured) -> dict[str, Any]:
    """A row as the file holds it: `value` is the median of `rounds`, null if it was not measured."""
    value = statistics.median(measured.rounds) if measured.rounds else None
    return {
        "id": row.id, "about": row.about, "value": value, "unit": row.unit, "bar": row.bar, "better": row.better,
        "met": None if value is None else row.meets(value), "rounds": measured.rounds, "note": measured.note,
    }  # fmt: skip


def _lines(row: Row, result: Mapping[str, Any]) -> Iterator[str]:
    """A row of the table, and below it what has to be known of it."""
    value = f"{number(result['value'], _digits(result['value']))} {row.unit}".strip()
    bar = "" if row.bar is None else f"{'≤' if row.better == 'lower' else '≥'} {row.bar:g}"
    mark = " " if result["met"] is not False else "!"
    yield f"{row.id:34}{value:>10}{bar:>10} {mark} {row.about}"
    if len(result["rounds"]) > 1:
        least, most = (each(result["rounds"]) for each in (min, max))
        yield f"{'':57}{len(result['rounds'])} rounds: {number(least, _digits(least))} to {number(most, _digits(most))}"
    if result["note"]:
        yield f"{'':57}{result['note']}"


def _digits(value: float | None) -> int:
    return 3 if value is None or value < 10 else 1 if value < 1000 else 0
