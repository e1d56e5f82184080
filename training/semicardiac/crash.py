"""What a developer needs to understand a crash, without a patient's name in it."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib import metadata
from itertools import islice
from pathlib import Path
from platform import platform, python_version

from . import __version__
from .jobs import Job, TrainJob
from .volumes import stem

SHORTEST_NAME = 3
"""Names shorter than this stay: they name nobody, and replacing every '1' would spoil the message."""
FILES_MAX = 100_000
"""Names that are taken from a folder."""


def crash_report(error: BaseException, job: Job | None = None, paths: Iterable[Path] = ()) -> str:
    """Versions, configuration and traceback; the names of cases, patients, files and folders are replaced.

    Args:
        error: What was raised.
        job: What ran.
        paths: Further files and folders whose names it must not tell.
    """
    versions = [f"semicardiac {__version__}, Python {python_version()}, {platform()}"]
    for package in ("torch", "numpy", "SimpleITK", "nibabel", "scikit-image", "scipy", "pydantic"):
        with suppress(metadata.PackageNotFoundError):
            versions.append(f"{package} {metadata.version(package)}")
    settings = job.config.model_dump_json(indent=2) if isinstance(job, TrainJob) else "none"
    kind = f"kind of job: {job.kind if job else 'none'}\nconfiguration: {settings}"
    names = _names_of_paths([*(_paths_in(job.model_dump()) if job else ()), *paths]) | _names_of_cases(job)
    lines = traceback.format_exception(error)
    told = "".join(line if line.startswith('  File "') else _hide(line, names) for line in lines)  # code names nobody
    report = "\n\n".join(["\n".join(versions), kind, told])
    return report.replace(str(Path.home()), "~")


def _hide(text: str, names: dict[str, str]) -> str:
    found = [name for name in names if len(name) >= SHORTEST_NAME and name in text]
    for name in sorted(found, key=len, reverse=True):  # folders are parts of the names of their files
        # An underscore ends a name, since results are named after their inputs: doe_jane_confidence.
        whole = rf"(?<![^\W_]){re.escape(name)}(?![^\W_])"
        text = re.sub(whole, lambda _, name=name: names[name], text)
    return text


def _names_of_cases(job: Job | None) -> dict[str, str]:
    """Names of cases and patients, and what to put in their place."""
    names: dict[str, str] = {}
    for number, case in enumerate(job.cases if isinstance(job, TrainJob) else ()):
        names |= {case.patient: f"<patient of case {number}>", case.name: f"<case {number}>"}
    return names


def _paths_in(value: object) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _paths_in(item)


def _names_of_paths(paths: Iterable[Path]) -> dict[str, str]:
    """Names of files and folders, of what the folders hold, and of the folders that they lie in."""
    names: dict[str, str] = {}
    for number, path in enumerate(dict.fromkeys(path.absolute() for path in paths)):
        names |= {str(folder): "<folder>" for folder in path.parents if folder != folder.parent}
        inside = (name for _, folders, files in os.walk(path) for name in (*folders, *files))
        for name in (path.name, path.parent.name, *islice(inside, FILES_MAX)):
            names |= {stem(name): f"<file {number}>", name: f"<file {number}>"}
    return names
