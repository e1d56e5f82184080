"""What a developer needs to understand a crash, without a patient's name in it."""

from __future__ import annotations

import re
import traceback
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from platform import platform, python_version

from . import __version__
from .jobs import Job, TrainJob

SHORTEST_NAME = 3
"""Names shorter than this stay: they name nobody, and replacing every '1' would spoil the traceback."""


def crash_report(error: BaseException, job: Job | None) -> str:
    """Versions, configuration and traceback; the names of cases, patients and files are replaced by numbers."""
    versions = [f"semicardiac {__version__}, Python {python_version()}, {platform()}"]
    for package in ("torch", "numpy", "SimpleITK", "nibabel", "scikit-image", "scipy", "pydantic"):
        with suppress(metadata.PackageNotFoundError):
            versions.append(f"{package} {metadata.version(package)}")
    settings = job.config.model_dump_json(indent=2) if isinstance(job, TrainJob) else "none"
    kind = f"kind of job: {job.kind if job else 'unknown'}\nconfiguration: {settings}"
    report = "\n\n".join(["\n".join(versions), kind, "".join(traceback.format_exception(error))])
    for name, replacement in _private_names(job):
        if len(name) >= SHORTEST_NAME:
            report = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", lambda _, text=replacement: text, report)
    return report


def _private_names(job: Job | None) -> list[tuple[str, str]]:
    """Names and what to put in their place, the longest first since folders are parts of the names of their files."""
    names = {str(Path.home()): "~"}
    if isinstance(job, TrainJob):
        for number, case in enumerate(job.cases):
            files = [path for path in (case.image, case.labels) if path is not None]
            names |= {str(path.parent): "<folder>" for path in files}
            names |= {path.name: f"<file of case {number}>" for path in files}
            names |= {case.patient: f"<patient of case {number}>", case.name: f"<case {number}>"}
    elif job is not None:
        paths = [value for value in job.model_dump().values() if isinstance(value, Path)]
        for number, path in enumerate([*paths, *getattr(job, "inputs", ())]):
            names |= {str(path.parent): "<folder>", path.name: f"<file {number}>"}
    return sorted(names.items(), key=lambda pair: -len(pair[0]))
