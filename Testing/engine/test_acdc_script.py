"""The scripts of Testing/real: what fails is told, the table counts what was computed, the pool is unseen."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from Testing.engine.support import REPOSITORY, engine_environment

SCRIPT = REPOSITORY / "Testing" / "real" / "acdc.py"


def loaded(script: Path):
    spec = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def acdc():
    return loaded(SCRIPT)


def test_the_pool_is_all_but_the_labeled_patients(tmp_path: Path):
    patients = [f"patient{number:03d}" for number in (9, 2, 7, 1, 8, 3, 5, 4, 6)]
    (tmp_path / "splits.json").write_text(json.dumps({"train_patients": patients}), encoding="utf-8")
    for patient in patients:
        (tmp_path / patient).mkdir()
        for phase in (1, 12):
            for end in ("", "_gt"):
                (tmp_path / patient / f"{patient}_frame{phase:02d}{end}.nii.gz").touch()
    found = loaded(SCRIPT.with_name("pool.py")).pool(tmp_path)
    names = [f"{patient}_frame{phase}.nii.gz" for patient in ("patient004", "patient006") for phase in ("01", "12")]
    assert [path.name for path in found] == names


@pytest.mark.parametrize("out", ["out", "a file"], ids=["a training that fails", "a training that cannot be started"])
def test_what_fails_is_named_and_ends_in_status_1(tmp_path: Path, out: str):
    (tmp_path / "a file").touch()
    command = [sys.executable, SCRIPT, tmp_path / "nowhere", tmp_path / out, "--only", "no-rem"]
    environment = engine_environment()
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 1
    assert "failed: no-rem-7-1000" in done.stderr


def test_only_a_whole_model_with_its_measurement_is_done(acdc, tmp_path: Path):
    assert not acdc.done(tmp_path)
    (tmp_path / "metrics.json").touch()
    assert not acdc.done(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "SHA256SUMS").touch()
    assert acdc.done(tmp_path)


def test_images_are_counted_by_the_batches_of_each_stage(acdc):
    history = [
        {"step": "20", "stage": "supervised"},
        {"step": "40", "stage": "supervised"},
        {"step": "60", "stage": "semi-supervised"},
    ]
    optim = {"batch_labeled": 5, "batch_mixed": [2, 4]}
    assert acdc.images_of(history, 63, optim) == 40 * 5 + 20 * 6 + 3 * 6
