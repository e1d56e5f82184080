"""The scripts of Testing/real: what fails is told, tables count what was computed, the pool is unseen."""

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


@pytest.fixture(scope="module")
def quick():
    return loaded(SCRIPT.with_name("quick.py"))


def test_a_look_counts_what_came_before_but_no_validation(quick, tmp_path: Path):
    (tmp_path / "history.csv").write_text("step,seconds,cpu_seconds\n20,30,34\n40,50,64\n60,70,104\n")
    rows = ["20,a,LV,0.5", "20,b,LV,0.7", "20,a,RV,0.2", "20,b,RV,", "60,a,LV,0.9", "60,b,LV,0.9", "60,a,RV,0.5"]
    (tmp_path / "validation.csv").write_text("step,case,structure,dice\n" + "\n".join(rows))
    events = [{"event": "warning", "warning": "", "time": time} for time in (1000, 1208)]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    first, last = quick.looks_of_job(tmp_path)
    assert first == pytest.approx((34, 68, 0.4))  # twice as long by the clock as on the processor
    assert last == pytest.approx((74, 148, 0.7))


def test_a_level_is_reached_at_the_first_look_that_has_it(quick):
    looks = [quick.Look(10, 20, 0.69), quick.Look(20, 40, 0.81), quick.Look(30, 60, 0.79)]
    assert [quick.reached(looks, level) for level in (0.7, 0.8, 0.85)] == [looks[1], looks[1], None]
    assert quick.markdown({"ours": looks}).splitlines()[-1] == (
        "| ours | 20 s (40 s) | 20 s (40 s) | not reached | 0.790 after 30 s |"
    )


def test_the_reference_goes_on_from_its_last_look(quick, tmp_path: Path):
    learner, looks = quick.reference.MeanTeacher(4), [quick.Look(10.0, 20.0, 0.5)]
    learner.steps = 7
    quick._save(tmp_path, learner, looks)
    again = quick.reference.MeanTeacher(4)
    assert quick._restore(tmp_path, again) == looks == quick.looks_of_reference(tmp_path)
    assert again.steps == 7
    kept, restored = (each.student.state_dict() for each in (learner, again))
    assert all(kept[name].equal(restored[name]) for name in kept)
