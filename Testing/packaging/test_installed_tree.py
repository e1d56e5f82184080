"""The installed extension works by itself: moved to another folder, with nothing of the source tree in reach."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from Testing.engine.support import QUICK
from Testing.packaging.support import Extension

MARK = "0.0.0+moved"
"""The version that the moved engine gives itself, so that no other can be taken for it."""


@pytest.fixture(scope="module")
def moved(installed: Extension, tmp_path_factory) -> Path:
    """The folder of the modules at a place that is not easy: spaces and letters that are not ASCII."""
    place = tmp_path_factory.mktemp("elsewhere") / "Slicer Erweiterungen ü" / "qt-scripted-modules"
    shutil.copytree(installed.modules, place)
    start = place / "semicardiac/__init__.py"
    lines = start.read_text(encoding="utf-8").splitlines()
    start.write_text("\n".join([*lines[:-1], f'__version__ = "{MARK}"', ""]), encoding="utf-8")
    return place


def run_python(moved: Path, folder: Path, code: str, *arguments: object) -> str:
    """Runs code where only the moved folder is on the path, as Slicer puts it there; returns what it prints."""
    script = folder / "script.py"
    script.write_text(code, encoding="utf-8")
    finished = subprocess.run(
        [sys.executable, script, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(moved), "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=240,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


FIND = """
from SemiCardiacSegLib.engine import process as engine
print(engine.packageFolder(), engine.version(), sep="\\n")
"""

IMPORT_ALL = """
import importlib, sys
from pathlib import Path

import SemiCardiacSegLib

folder = Path(SemiCardiacSegLib.__file__).parent
for path in folder.rglob("*.py"):
    name = ".".join(path.relative_to(folder).with_suffix("").parts)
    if name not in ("parameters", "widget") and not name.startswith("panels."):  # which need Qt
        importlib.import_module(f"SemiCardiacSegLib.{name}")
print(*sorted({"torch", "pydantic", "tyro", "nibabel", "skimage"} & set(sys.modules)))
"""

TRAIN_AND_SEGMENT = """
import subprocess, sys
from pathlib import Path

from SemiCardiacSegLib.engine import process as engine

engine.addToPath()
from semicardiac.phantom import study as phantom
from semicardiac.base.settings import parse_assignments
from semicardiac.config import make_config
from semicardiac.jobs.job import SegmentJob, TrainJob, create_job
from semicardiac.images.labels import get_label_set

folder = Path(sys.argv[1])
drawn = phantom.write_study(folder / "study", labeled=1, unlabeled=1, test=1, seed=0)
config = make_config("default", parse_assignments(sys.argv[2:]))
cases = tuple(case for case in drawn if case.role != "ignore")
jobs = {
    "training": TrainJob(cases=cases, labels=get_label_set("acdc"), config=config, device="cpu"),
    "results": SegmentJob(
        model=folder / "training",
        inputs=(folder / "study/test",),
        out=folder / "results",
        suffix=".seg.nrrd",
        device="cpu",
    ),
}
for name, job in jobs.items():
    create_job(folder / name, job)
    subprocess.run(engine.command("run", folder / name), env=engine.environment(), cwd=folder, check=True)
"""


def test_the_module_finds_the_engine_beside_it(moved: Path, tmp_path: Path):
    place, version = run_python(moved, tmp_path, FIND).splitlines()
    assert Path(place) == moved / "semicardiac"
    assert version == MARK


def test_the_library_imports_without_the_engines_requirements(moved: Path, tmp_path: Path):
    pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")
    assert run_python(moved, tmp_path, IMPORT_ALL).split() == []


@pytest.mark.slow
def test_it_trains_on_the_phantom_and_segments(moved: Path, tmp_path: Path):
    run_python(moved, tmp_path, TRAIN_AND_SEGMENT, tmp_path, *QUICK, "schedule.steps=4")
    for name in ("training", "results"):
        lines = (tmp_path / name / "events.jsonl").read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines]
        assert events[0]["event"] == "started"
        assert events[0]["version"] == MARK
        assert events[-1]["event"] == "done"
    tests = {path.name.removesuffix(".nii.gz") for path in (tmp_path / "study/test").rglob("*.nii.gz")}
    results = {path.name.removesuffix(".seg.nrrd") for path in (tmp_path / "results").glob("*.seg.nrrd")}
    assert results == tests != set()
