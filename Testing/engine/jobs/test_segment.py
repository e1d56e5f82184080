"""A segment job: which files it writes and when, what it holds in memory, and that its folder can be moved."""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from semicardiac.base import files
from semicardiac.base.events import AnyEvent, Device, Progress, Result, Warned, Writing, read_events
from semicardiac.base.tables import read_csv
from semicardiac.base.temporaries import temporary_beside
from semicardiac.cli.progress import Console
from semicardiac.evaluation.clinical import cycle_phases, implausible, patient_measures, volumes_ml
from semicardiac.evaluation.heart_function import COLUMNS
from semicardiac.images.volumes import Volume, read_labels, read_series, write_series
from semicardiac.jobs import segment
from semicardiac.jobs.job import SegmentJob, create_job, load_job
from semicardiac.jobs.record import Record
from semicardiac.jobs.run import run_job
from semicardiac.models import predict
from semicardiac.models.compute import ComputePlan
from semicardiac.models.model import save_model
from semicardiac.models.networks import build_network
from semicardiac.models.predict import Prediction
from semicardiac.report.write import write_report
from torch import Tensor

from Testing.engine.jobs.support import sign
from Testing.engine.networks import Thresholder, model_of
from Testing.engine.support import ACDC, draw_heart, engine_environment

GRID = np.diag([2.0, 2.0, 8.0, 1.0])


def frames(count: int) -> list[Volume]:
    """Frames of a cine, each with another heart."""
    return [Volume(draw_heart(seed, shape=(3, 40, 40))[0], GRID) for seed in range(count)]


@pytest.fixture
def model(tmp_path: Path, monkeypatch) -> Path:
    """A package; what it would predict is replaced by a threshold on the intensity."""
    made = model_of(Thresholder())
    network = build_network(made.config.network, ACDC.classes)
    monkeypatch.setattr(segment, "load_model", lambda _: made)
    save_model(tmp_path / "model", model_of(network))
    return tmp_path / "model"


def run(folder: Path) -> list[str]:
    """Runs a job; gives the paths of its new segmentations and maps as its events tell them."""
    before = len(read_events(folder / "events.jsonl")) if (folder / "events.jsonl").exists() else 0
    assert run_job(folder) == 0
    events = read_events(folder / "events.jsonl")[before:]
    return [event.path for event in events if isinstance(event, Result) and event.kind != "volumes"]


class TestFiles:
    def test_frames_in_files_of_their_own_are_numbered_from_1(self, model: Path, tmp_path: Path):
        cine = frames(3)
        write_series(tmp_path / "cine.nii.gz", cine)
        job = SegmentJob(model=model, inputs=(tmp_path / "cine.nii.gz",), out=tmp_path / "out", suffix=".seg.nrrd")
        run(create_job(tmp_path / "job", job))
        for number, frame in enumerate(cine, start=1):
            found = read_labels(tmp_path / "out" / f"cine_frame{number:02d}.seg.nrrd", ACDC, grid=frame)
            expected = predict.segment(segment.load_model(model), frame, flips=False).labels
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

    def test_what_cannot_be_segmented_keeps_the_others_from_nothing(self, model: Path, tmp_path: Path):
        sound, odd, other = frames(3)
        write_series(tmp_path / "a.nrrd", [sound])
        write_series(tmp_path / "lines.nrrd", [Volume(draw_heart(0, shape=(3, 1, 400))[0], GRID)])
        write_series(tmp_path / "flat.nrrd", [odd.with_array(np.full_like(odd.array, 7))])
        write_series(tmp_path / "z.nrrd", [other])
        inputs = tuple(tmp_path / f"{name}.nrrd" for name in ("a", "lines", "flat", "z"))
        folder = create_job(tmp_path / "job", SegmentJob(model=model, inputs=inputs, out=tmp_path / "out"))
        told: list[AnyEvent] = []
        assert run_job(folder, told.append) == 2
        assert "2 of 4 volumes could not be segmented (lines and flat)" in told[-1].what
        warned = {event.where: event.warning for event in told if isinstance(event, Warned)}
        assert "the slices have 1 x 400 voxels" in warned[str(inputs[1])]
        assert "the image is constant" in warned[str(inputs[2])]
        assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.nii.gz", "z.nii.gz", "volumes.csv"}
        assert {row["case"] for row in table(tmp_path / "out" / "volumes.csv")} == {"a", "z"}
        for path in inputs[1:3]:
            write_series(path, [odd])
        assert run(folder) == [(tmp_path / "out" / f"{name}.nii.gz").as_posix() for name in ("lines", "flat")]
        assert {row["case"] for row in table(tmp_path / "out" / "volumes.csv")} == {"a", "lines", "flat", "z"}

    def test_one_input_that_cannot_be_segmented_is_the_error(self, model: Path, tmp_path: Path):
        write_series(tmp_path / "lines.nrrd", [Volume(draw_heart(0, shape=(3, 1, 400))[0], GRID)])
        job = SegmentJob(model=model, inputs=(tmp_path / "lines.nrrd",), out=tmp_path / "out")
        told: list[AnyEvent] = []
        assert run_job(create_job(tmp_path / "job", job), told.append) == 2
        assert told[-1].where == str(tmp_path / "lines.nrrd")
        assert told[-1].what.startswith("the slices have 1 x 400 voxels")
        assert not [event for event in told if isinstance(event, Warned)]

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

    def test_a_file_that_appears_meanwhile_stays_and_the_result_gets_its_own_name(
        self, model: Path, tmp_path: Path, monkeypatch
    ):
        for name in ("a", "a-2", "b"):
            write_series(tmp_path / f"{name}.nrrd", frames(1))
        inputs = (tmp_path / "a.nrrd", tmp_path / "a-2.nrrd", tmp_path / "b.nrrd")
        folder = create_job(tmp_path / "job", SegmentJob(model=model, inputs=inputs, out=tmp_path / "out"))
        mine = [tmp_path / "out" / name for name in ("a.nii.gz", "b.nii.gz", "b-2.nii.gz")]

        def save(event: AnyEvent) -> None:
            if isinstance(event, Device):
                for path in mine:
                    path.write_text("mine")
            if isinstance(event, Result) and event.case == "a-2":
                raise KeyboardInterrupt

        assert run_job(folder, save) == 130
        assert run(folder) == [(tmp_path / "out" / "b-3.nii.gz").as_posix()]
        assert not run(folder)
        assert {path.read_text() for path in mine} == {"mine"}
        results = {path.name for path in (tmp_path / "out").iterdir()} - {path.name for path in mine}
        assert results == {"a-3.nii.gz", "a-2.nii.gz", "b-3.nii.gz", "volumes.csv"}
        warned = [event for event in read_events(folder / "events.jsonl") if isinstance(event, Warned)]
        assert [event.where for event in warned] == [str(mine[0]), str(mine[1])]

    def test_another_model_does_not_continue_what_one_has_begun(self, model: Path, tmp_path: Path):
        for name in ("a", "b"):
            write_series(tmp_path / f"{name}.nrrd", frames(1))
        inputs = (tmp_path / "a.nrrd", tmp_path / "b.nrrd")
        folder = create_job(tmp_path / "job", SegmentJob(model=model, inputs=inputs, out=tmp_path / "out"))

        def stop(event: AnyEvent) -> None:
            if isinstance(event, Result):
                raise KeyboardInterrupt

        assert run_job(folder, stop) == 130
        card = (model / "README.md").read_text(encoding="utf-8")
        (model / "README.md").write_text("of another training", encoding="utf-8")
        sign(model)
        told: list[AnyEvent] = []
        assert run_job(folder, told.append) == 2
        assert "not the model that the segmentation began with" in told[-1].what
        assert not (tmp_path / "out" / "b.nii.gz").exists()
        (model / "README.md").write_text(card, encoding="utf-8")
        sign(model)
        assert run(folder) == [(tmp_path / "out" / "b.nii.gz").as_posix()]

    def test_a_file_that_appears_at_the_last_moment_stays(self, model: Path, tmp_path: Path):
        write_series(tmp_path / "a.nrrd", frames(1))
        job = SegmentJob(model=model, inputs=(tmp_path / "a.nrrd",), out=tmp_path / "out")

        def save(event: AnyEvent) -> None:
            if isinstance(event, Writing) and event.path.endswith("a.nii.gz"):
                (tmp_path / "out" / "a.nii.gz").write_text("mine")

        assert run_job(create_job(tmp_path / "job", job), save) == 0
        assert (tmp_path / "out" / "a.nii.gz").read_text() == "mine"
        assert len(read_series(tmp_path / "out" / "a-2.nii.gz")) == 1

    def test_what_a_person_has_corrected_stays_when_a_map_is_made_again(self, model: Path, tmp_path: Path):
        write_series(tmp_path / "a.nrrd", frames(1))
        job = SegmentJob(model=model, inputs=(tmp_path / "a.nrrd",), out=tmp_path / "out", entropy=True)
        folder = create_job(tmp_path / "out" / "job", job)
        run(folder)
        (tmp_path / "out" / "a.nii.gz").write_text("corrected")
        (tmp_path / "out" / "a_entropy.nii.gz").unlink()
        assert run(folder) == ["../a_entropy.nii.gz"]
        assert (tmp_path / "out" / "a.nii.gz").read_text() == "corrected"

    def test_a_name_that_the_disk_does_not_take_is_told_before_the_work(self, model: Path, tmp_path: Path):
        name = "a" * 245
        for each in ("short", name):
            write_series(tmp_path / f"{each}.nii", frames(1))
        inputs = (tmp_path / "short.nii", tmp_path / f"{name}.nii")
        heard: list[AnyEvent] = []
        job = SegmentJob(model=model, inputs=inputs, out=tmp_path / "out", entropy=True)
        assert run_job(create_job(tmp_path / "job", job), heard.append) == 2
        assert "too long" in heard[-1].what
        assert f"{name}_entropy" in heard[-1].where
        assert not list((tmp_path / "out").iterdir())

    @pytest.mark.parametrize("suffix", [".nii.gz", ".seg.nrrd"])
    def test_a_full_disk_names_the_result_and_leaves_nothing(
        self, model: Path, tmp_path: Path, monkeypatch, suffix: str
    ):
        def fill(*_) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        write_series(tmp_path / "a.nrrd", frames(1))
        job = SegmentJob(model=model, inputs=(tmp_path / "a.nrrd",), out=tmp_path / "out", suffix=suffix)
        folder = create_job(tmp_path / "job", job)
        heard: list[AnyEvent] = []
        with monkeypatch.context() as patched:
            patched.setattr(files.os, "replace", fill)
            assert run_job(folder, heard.append) == 2
        assert (heard[-1].what, heard[-1].where) == ("the disk is full", str(tmp_path / "out" / f"a{suffix}"))
        assert not list((tmp_path / "out").iterdir())
        run(folder)

    def test_leftovers_of_a_killed_run_are_removed(self, model: Path, tmp_path: Path):
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        write_series(tmp_path / "a.nrrd", frames(1))
        job = SegmentJob(model=model, inputs=(tmp_path / "a.nrrd",), out=tmp_path / "out")
        folder = create_job(tmp_path / "job", job)
        for place in (folder, folder / "work" / "bank", tmp_path / "out"):
            place.mkdir(parents=True, exist_ok=True)
            name = temporary_beside(place / "half.nii.gz").name.replace(f"-{os.getpid()}-", f"-{gone.pid}-")
            (place / name).write_text("half")
        run(folder)
        assert not list(tmp_path.rglob("*half*"))


def table(path: Path) -> list[dict]:
    return read_csv(path, {"case", "phase", "structure", "measure", "unit", "implausible"}, COLUMNS)


class LeftVentricle(Thresholder):
    """Sees the cavity of the left ventricle where the image is bright."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = super().forward(image)
        return logits[:, [0, 3, 2, 1]], features


class TestVolumes:
    """volumes.csv, the table of what was measured."""

    @pytest.fixture(autouse=True)
    def sees_a_left_ventricle(self, model: Path, monkeypatch) -> None:
        made = model_of(LeftVentricle())
        monkeypatch.setattr(segment, "load_model", lambda _: made)

    def inputs(self, folder: Path) -> tuple[Path, ...]:
        """Both phases of one patient, one of another, and a cine."""
        series = {
            "patient001_ED": frames(1),
            "patient001_ES": frames(2)[1:],
            "patient002_ED": frames(1),
            "x": frames(3),
        }
        for name, each in series.items():
            write_series(folder / f"{name}.nii.gz", each)
        return tuple(folder / f"{name}.nii.gz" for name in series)

    @pytest.mark.parametrize("suffix", [".nii.gz", ".seg.nrrd"])
    def test_it_holds_what_the_segmentations_hold(self, model: Path, tmp_path: Path, suffix: str):
        job = SegmentJob(model=model, inputs=self.inputs(tmp_path), out=tmp_path / "out", suffix=suffix)
        folder = create_job(tmp_path / "job", job)
        run(folder)
        rows = table(tmp_path / "out" / "volumes.csv")
        predicted = [predict.segment(segment.load_model(model), frame, flips=False).labels for frame in frames(3)]
        volumes = [volumes_ml(each, ACDC) for each in predicted]
        cavity = [each[ACDC.names[2]] for each in volumes]
        ed, es = cycle_phases(cavity)
        of_structures = [row for row in rows if row["structure"]]
        assert {(row["measure"], row["unit"]) for row in of_structures} == {("volume_ml", "ml")}
        for case, expected in (("patient001_ED", volumes[:1]), ("patient001_ES", volumes[1:2]), ("x", volumes)):
            found = [[row["value"] for row in of_structures if row["case"] == case and row["structure"] == name]
                     for name in ACDC.names]  # fmt: skip
            np.testing.assert_allclose(np.transpose(found), [list(each.values()) for each in expected], rtol=1e-5)
        phases = {(row["case"], row["frame"]): row["phase"] for row in of_structures if not np.isnan(row["frame"])}
        assert phases == {("x", n + 1): {ed: "ED", es: "ES"}.get(n, "") for n in range(3)}
        named = {row["case"]: row["phase"] for row in of_structures if np.isnan(row["frame"])}
        assert named == {"patient001_ED": "ED", "patient001_ES": "ES", "patient002_ED": ""}
        for case, pair in (("patient001", (volumes[0], volumes[1])), ("x", (volumes[ed], volumes[es]))):
            found = {row["measure"]: row["value"] for row in rows if row["case"] == case and not row["structure"]}
            expected = patient_measures(*pair, ACDC)
            assert list(found) == list(expected)
            np.testing.assert_allclose(list(found.values()), list(expected.values()), rtol=1e-5)
            doubts = {row["measure"] for row in rows if row["case"] == case and row["implausible"]} - {"volume_ml"}
            assert doubts == implausible(*pair, ACDC).keys()
        assert not [row for row in rows if row["case"] == "patient002"]
        assert Record(folder).volumes_table == tmp_path / "out" / "volumes.csv"
        assert "volumes.csv" in write_report(folder).read_text(encoding="utf-8")

    def test_a_table_that_is_there_stays_and_each_segmentation_has_its_own(self, model: Path, tmp_path: Path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "volumes.csv").write_text("mine")
        for number, path in enumerate(self.inputs(tmp_path)[:2], start=2):
            job = SegmentJob(model=model, inputs=(path,), out=tmp_path / "out")
            run(folder := create_job(tmp_path / f"job{number}", job))
            run(folder)  # again: nothing is left to do
            rows = table(tmp_path / "out" / f"volumes-{number}.csv")
            assert {row["case"] for row in rows} == {path.name.removesuffix(".nii.gz")}
        assert (tmp_path / "out" / "volumes.csv").read_text() == "mine"
        assert len(list((tmp_path / "out").glob("*.csv"))) == 3

    def test_an_interrupted_job_measures_what_it_had_segmented_before_too(self, model: Path, tmp_path: Path):
        job = SegmentJob(model=model, inputs=self.inputs(tmp_path)[:2], out=tmp_path / "out")
        folder = create_job(tmp_path / "job", job)

        def stop(event: AnyEvent) -> None:
            if isinstance(event, Result):
                raise KeyboardInterrupt

        assert run_job(folder, stop) == 130
        assert not (tmp_path / "out" / "volumes.csv").exists()
        run(folder)
        cases = [row["case"] for row in table(tmp_path / "out" / "volumes.csv")]
        assert list(dict.fromkeys(cases)) == ["patient001_ED", "patient001_ES", "patient001"]

    @pytest.mark.parametrize("edited", [False, True])
    def test_a_segmentation_that_is_made_again_renews_the_table_unless_somebody_edited_it(
        self, model: Path, tmp_path: Path, edited: bool
    ):
        job = SegmentJob(model=model, inputs=self.inputs(tmp_path)[:2], out=tmp_path / "out")
        folder = create_job(tmp_path / "job", job)
        run(folder)
        first = (tmp_path / "out" / "volumes.csv").read_text()
        if edited:
            (tmp_path / "out" / "volumes.csv").write_text(first + "mine")
        (tmp_path / "out" / "patient001_ED.nii.gz").unlink()
        run(folder)
        texts = {path.name: path.read_text() for path in (tmp_path / "out").glob("*.csv")}
        assert texts == ({"volumes.csv": first + "mine", "volumes-2.csv": first} if edited else {"volumes.csv": first})

    def test_a_segmentation_that_somebody_spoilt_is_told_and_the_others_are_measured(self, model: Path, tmp_path: Path):
        job = SegmentJob(model=model, inputs=self.inputs(tmp_path)[:2], out=tmp_path / "out")

        def spoil(event: AnyEvent) -> None:
            if isinstance(event, Result) and event.case == "patient001_ES":
                (tmp_path / "out" / "patient001_ED.nii.gz").write_text("spoilt")

        told: list[AnyEvent] = []
        assert run_job(create_job(tmp_path / "job", job), spoil, told.append) == 0
        (warned,) = [event for event in told if isinstance(event, Warned) and "volumes.csv" in event.warning]
        assert warned.where == str(tmp_path / "out" / "patient001_ED.nii.gz")
        assert {row["case"] for row in table(tmp_path / "out" / "volumes.csv")} == {"patient001_ES"}


class TestMemory:
    @pytest.mark.parametrize(
        ("fields", "kept"),
        [
            ({}, {"segmentation"}),
            ({"suffix": ".seg.nrrd"}, set()),
            ({"suffix": ".seg.nrrd", "entropy": True}, {"entropy"}),
        ],
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
            alive.append({kind: weakref.ref(each) for kind, each in prediction.maps.items()})
            alive[-1]["segmentation"] = weakref.ref(prediction.labels)
            return prediction

        original = predict.segment
        monkeypatch.setattr(predict, "segment", watched)
        write_series(tmp_path / "cine.nii.gz", frames(4))
        job = SegmentJob(model=model, inputs=(tmp_path / "cine.nii.gz",), out=tmp_path / "out", **fields)
        run(create_job(tmp_path / "job", job))
        assert len(alive) == 4
        for kind in kept - {"segmentation"}:
            assert len(read_series(tmp_path / "out" / f"cine_{kind}.nii.gz")) == 4


class TestBeside:
    """Files are read ahead and written behind."""

    @pytest.fixture
    def folder(self, model: Path, tmp_path: Path) -> Path:
        for number, frame in enumerate(frames(4)):
            write_series(tmp_path / "in" / f"p{number}.nrrd", [frame])
        return create_job(tmp_path / "job", SegmentJob(model=model, inputs=(tmp_path / "in",), out=tmp_path / "out"))

    def test_voxels_are_read_once_and_one_input_ahead(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        read: list[str] = []
        ahead: list[int] = []

        def watched(path: Path) -> list[Volume]:
            read.append(path.stem)
            return read_series(path)

        def predicted(*arguments, **options) -> Prediction:
            ahead.append(len(read) - len(ahead))
            return original(*arguments, **options)

        original = predict.segment
        monkeypatch.setattr(segment, "read_series", watched)
        monkeypatch.setattr(predict, "segment", predicted)
        run(folder)
        assert read == ["p0", "p1", "p2", "p3"]
        assert max(ahead) <= 2

    def test_what_was_written_beside_a_stop_is_not_lost(self, folder: Path):
        def stop(event: AnyEvent) -> None:
            if isinstance(event, Progress) and event.stage == "segmenting" and event.case == "p1":
                signal.raise_signal(signal.SIGTERM)

        assert run_job(folder, stop) == 130
        written = {path.name for path in (folder.parent / "out").iterdir()}
        told = [event.case for event in read_events(folder / "events.jsonl") if isinstance(event, Result)]
        assert written == {f"{case}.nii.gz" for case in told}
        assert "p0" in told
        assert len(run(folder)) == 4 - len(told)

    def test_what_was_being_written_at_ctrl_c_leaves_nothing(self, folder: Path):
        def interrupt(event: AnyEvent) -> None:
            if isinstance(event, Progress) and event.stage == "segmenting" and event.case == "p1":
                raise KeyboardInterrupt

        assert run_job(folder, interrupt) == 130
        assert not list((folder.parent / "out").iterdir())
        assert len(run(folder)) == 4

    def test_a_job_that_goes_on_computes_as_it_began(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        plan = ComputePlan(device="cpu", name="cpu", dtype="bfloat16", channels_last=True, threads=1)

        def interrupt(event: AnyEvent) -> None:
            if isinstance(event, Result):
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(segment, "inference_plan", lambda *_, **__: plan)
            assert run_job(folder, interrupt) == 130
        run(folder)
        began, went_on = [event for event in read_events(folder / "events.jsonl") if isinstance(event, Device)]
        assert (went_on.dtype, went_on.channels_last) == (began.dtype, began.channels_last) == ("bfloat16", True)


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
@pytest.mark.parametrize("how", ["killed", "killed in the middle", "full", "killed, no links"])
def test_a_job_that_is_cut_off_at_any_write_can_be_continued(tmp_path: Path, how: str):
    place = tmp_path / "place"  # where the job will run
    source = tmp_path / "source"
    for name in ("a", "b"):
        write_series(source / "in" / f"{name}.nii.gz", frames(1))
    inputs = (place / "in" / "a.nii.gz", place / "in" / "b.nii.gz")
    job = SegmentJob(model=place / "model", inputs=inputs, out=place / "out", confidence=how == "killed")
    create_job(source / "job", job)
    command = [sys.executable, "-m", "Testing.engine.jobs.kills", str(source), how]
    done = subprocess.run(command, env=engine_environment(), capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
