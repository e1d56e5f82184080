"""A segment job: which files it writes and when, what it holds in memory, and that its folder can be moved."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
from helpers import ACDC, draw_heart
from helpers_engine import Thresholder, model_of
from semicardiac import inference, segment_job
from semicardiac.console import Console
from semicardiac.events import AnyEvent, Result, Warned, read_events
from semicardiac.jobs import SegmentJob, create_job, load_job
from semicardiac.model import save_model
from semicardiac.network import build_network
from semicardiac.report import write_report
from semicardiac.runner import run_job
from semicardiac.volumes import Volume, read_labels, read_series, write_series

GRID = np.diag([2.0, 2.0, 8.0, 1.0])


def frames(count: int) -> list[Volume]:
    """Frames of a cine, each with another heart."""
    return [Volume(draw_heart(seed, shape=(3, 40, 40))[0], GRID) for seed in range(count)]


@pytest.fixture
def model(tmp_path: Path, monkeypatch) -> Path:
    """A package; what it would predict is replaced by a threshold on the intensity."""
    made = model_of(Thresholder())
    network = build_network(made.config.network, ACDC.classes)
    monkeypatch.setattr(segment_job, "load_model", lambda _: made)
    save_model(tmp_path / "model", model_of(network))
    return tmp_path / "model"


def run(folder: Path) -> list[str]:
    """Runs a job; gives the paths of its new results as its events tell them."""
    before = len(read_events(folder / "events.jsonl")) if (folder / "events.jsonl").exists() else 0
    assert run_job(folder) == 0
    return [event.path for event in read_events(folder / "events.jsonl")[before:] if isinstance(event, Result)]


class TestFiles:
    def test_frames_in_files_of_their_own_are_numbered_from_1(self, model: Path, tmp_path: Path):
        cine = frames(3)
        write_series(tmp_path / "cine.nii.gz", cine)
        job = SegmentJob(model=model, inputs=(tmp_path / "cine.nii.gz",), out=tmp_path / "out", suffix=".seg.nrrd")
        run(create_job(tmp_path / "job", job))
        for number, frame in enumerate(cine, start=1):
            found = read_labels(tmp_path / "out" / f"cine_frame{number:02d}.seg.nrrd", ACDC, grid=frame)
            expected = inference.segment(segment_job.load_model(model), frame, flips=False).labels
            np.testing.assert_array_equal(found.array, expected.array)

    def test_a_spacing_that_no_scanner_has_is_said(self, model: Path, tmp_path: Path):
        (frame,) = frames(1)
        write_series(tmp_path / "wide.nrrd", [Volume(frame.array, np.diag([100.0, 100.0, 8.0, 1.0]))])
        write_series(tmp_path / "usual.nrrd", [frame])
        inputs = (tmp_path / "wide.nrrd", tmp_path / "usual.nrrd")
        folder = create_job(tmp_path / "job", SegmentJob(model=model, inputs=inputs, out=tmp_path / "out"))
        run(folder)
        warned = [event for event in read_events(folder / "events.jsonl") if isinstance(event, Warned)]
        assert [event.where for event in warned if "spacing" in event.warning] == [str(tmp_path / "wide.nrrd")]

    def test_an_image_with_little_contrast_is_said(self, model: Path, tmp_path: Path):
        sound, odd = frames(2)
        strange = odd.array.copy()
        strange[:, ::9, ::7] *= 1e20
        write_series(tmp_path / "cine.nrrd", [sound, odd.with_array(strange)])
        write_series(tmp_path / "usual.nrrd", [sound])
        inputs = (tmp_path / "cine.nrrd", tmp_path / "usual.nrrd")
        folder = create_job(tmp_path / "job", SegmentJob(model=model, inputs=inputs, out=tmp_path / "out"))
        run(folder)
        warned = [event for event in read_events(folder / "events.jsonl") if isinstance(event, Warned)]
        assert [event.where for event in warned if "contrast" in event.warning] == [str(tmp_path / "cine.nrrd")]

    def test_slices_that_cannot_be_are_refused_before_anything_is_segmented(self, model: Path, tmp_path: Path, capsys):
        write_series(tmp_path / "a.nrrd", frames(1))
        write_series(tmp_path / "lines.nrrd", [Volume(draw_heart(0, shape=(3, 1, 400))[0], GRID)])
        inputs = (tmp_path / "a.nrrd", tmp_path / "lines.nrrd")
        job = SegmentJob(model=model, inputs=inputs, out=tmp_path / "out")
        assert run_job(create_job(tmp_path / "job", job), Console()) == 2
        assert "lines.nrrd: the slices have 1 x 400 voxels" in capsys.readouterr().err
        assert not list((tmp_path / "out").iterdir())

    def test_two_results_of_one_name_are_refused_before_anything_is_written(self, model: Path, tmp_path: Path, capsys):
        write_series(tmp_path / "a.nrrd", frames(1))
        write_series(tmp_path / "a_entropy.nrrd", frames(1))
        inputs = (tmp_path / "a.nrrd", tmp_path / "a_entropy.nrrd")
        job = SegmentJob(model=model, inputs=inputs, out=tmp_path / "out", entropy=True)
        assert run_job(create_job(tmp_path / "job", job), Console()) == 2
        assert "the results of a and a_entropy would be one file" in capsys.readouterr().err
        assert not list((tmp_path / "out").iterdir())

    def test_a_result_that_was_deleted_is_written_again_and_the_others_are_not(self, model: Path, tmp_path: Path):
        for name in ("a", "b"):
            write_series(tmp_path / f"{name}.nrrd", frames(1))
        inputs = (tmp_path / "a.nrrd", tmp_path / "b.nrrd")
        folder = create_job(tmp_path / "out" / "job", SegmentJob(model=model, inputs=inputs, out=tmp_path / "out"))
        assert run(folder) == ["../a.nii.gz", "../b.nii.gz"]
        (tmp_path / "out" / "a.nii.gz").unlink()
        assert run(folder) == ["../a.nii.gz"]
        assert (tmp_path / "out" / "a.nii.gz").exists()


class TestMemory:
    @pytest.mark.parametrize(
        ("fields", "kept"), [({}, set()), ({"suffix": ".seg.nrrd"}, set()), ({"entropy": True}, {"entropy"})]
    )
    def test_of_a_cine_only_what_will_be_written_stays(
        self, model: Path, tmp_path: Path, monkeypatch, fields: dict, kept: set[str]
    ):
        alive: list[dict[str, weakref.ref]] = []

        def watched(*arguments, **options):
            gc.collect()
            for maps in alive[:-1]:  # the last one is what the loop holds at this moment
                assert {kind for kind, volume in maps.items() if volume() is not None} == kept
            prediction = original(*arguments, **options)
            alive.append({kind: weakref.ref(getattr(prediction, kind)) for kind in ("confidence", "entropy")})
            return prediction

        original = inference.segment
        monkeypatch.setattr(inference, "segment", watched)
        write_series(tmp_path / "cine.nii.gz", frames(4))
        job = SegmentJob(model=model, inputs=(tmp_path / "cine.nii.gz",), out=tmp_path / "out", **fields)
        run(create_job(tmp_path / "job", job))
        assert len(alive) == 4
        for kind in kept:
            assert len(read_series(tmp_path / "out" / f"cine_{kind}.nii.gz")) == 4


class TestMoved:
    """A folder with a job and its results goes elsewhere in the middle of the job."""

    @pytest.mark.parametrize("inside", [True, False], ids=["results in the job", "the job in the results"])
    def test_it_goes_on_and_is_reported(self, model: Path, tmp_path: Path, inside: bool):
        pytest.importorskip("matplotlib")
        here, there = tmp_path / "here", tmp_path / "there"
        for name in ("a", "b"):
            write_series(tmp_path / f"{name}.nrrd", frames(1))
        inputs = (tmp_path / "a.nrrd", tmp_path / "b.nrrd")
        place = Path("results") if inside else Path()
        name = Path() if inside else Path("segment-job")
        job = SegmentJob(model=model, inputs=inputs, out=here / place)
        folder = create_job(here / name, job)

        def interrupt(event: AnyEvent) -> None:
            if isinstance(event, Result):
                raise KeyboardInterrupt

        assert run_job(folder, interrupt) == 130
        shutil.move(here, there)
        assert run(there / name) == ["results/b.nii.gz" if inside else "../b.nii.gz"]
        assert load_job(there / name).out == there / place
        page = write_report(there / name).read_text(encoding="utf-8")
        assert page.count('<img src="data:image/png') == 2
        assert str(there / place / "a.nii.gz") in page
        assert json.loads((there / name / "job.json").read_text())["inputs"][0] == (tmp_path / "a.nrrd").as_posix()
