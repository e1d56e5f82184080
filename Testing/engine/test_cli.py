"""The command line: what it understands, what it says to mistakes, and its exit statuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import semicardiac
import SimpleITK as sitk
from helpers import draw_heart, quick_settings, write_itk, write_study
from semicardiac.cli import main, parse_arguments
from semicardiac.commands import COMMANDS
from semicardiac.errors import UserError
from semicardiac.jobs import load_job


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A folder with a study and a job that was trained on it for a few steps."""
    folder = tmp_path_factory.mktemp("trained")
    study = write_study(folder / "study")
    options = ["--steps", "6", "--deterministic", "--device", "cpu", *quick_settings()]
    assert main(["train", str(study), "--out", str(folder / "job"), *options]) == 0
    return folder


class TestHelp:
    def test_names_every_command_and_shows_examples(self, capsys):
        assert main(["--help"]) == 0
        text = capsys.readouterr().out
        assert all(f"• {name}" in text for name in COMMANDS)
        assert "semicardiac train data/acdc --out" in text

    def test_no_arguments_show_the_help(self, capsys):
        assert main([]) == 0
        assert "usage: semicardiac" in capsys.readouterr().out

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_command_shows_its_examples(self, capsys, name: str):
        assert main([name, "--help"]) == 0
        text = capsys.readouterr().out
        assert f"usage: semicardiac {name}" in text
        assert f"\n  semicardiac {name}" in text

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_example_of_a_help_can_be_parsed(self, name: str):
        for line in COMMANDS[name].EXAMPLES.strip().splitlines():
            assert isinstance(parse_arguments(line.split()[1:]), COMMANDS[name])

    def test_version(self, capsys):
        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"semicardiac {semicardiac.__version__}\n"


class TestMistakesInOptions:
    @pytest.mark.parametrize(
        ("arguments", "texts"),
        [
            ("tran data", ["tran", "semicardiac --help"]),
            ("train data --ot job", ["--ot", "did you mean --out"]),
            ("train data --minutes soon --out job", ["--minutes", "soon"]),
            ("train data --preset papier --out job", ["papier", "paper"]),
            ("train data --out", ["--out"]),
            ("train --out job", ["no data was named"]),
            ("train data", ["no folder for the training", "--out JOB"]),
            ("train data --out job --minutes 1 --steps 5", ["--minutes, --steps", "Give one"]),
            ("train --resume job --out other", ["--resume", "Drop --out"]),
            ("train data --out job", ["data", "no such file or folder"]),
            ("segment model --out results", ["no volume to segment"]),
            ("segment model scan.nii.gz --out results", ["model", "no such file or folder"]),
            ("run nowhere", ["not a job folder"]),
            ("train --resume nowhere --minutes 1", ["job.json", "missing"]),
            ("info nowhere", ["no such model"]),
            ("report nowhere", ["nowhere"]),
            ("evaluate a b --out c --labels acd", ["acd", "acdc"]),
            ("demo --minutes 0", ["--minutes"]),
        ],
    )
    def test_one_line_on_stderr_and_status_2(self, tmp_path: Path, monkeypatch, capsys, arguments: str, texts):
        monkeypatch.chdir(tmp_path)
        assert main(arguments.split()) == 2
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if line]
        assert "error" in out + err
        if "run" not in arguments.split()[:1]:  # which speaks JSON where nobody looks at a terminal
            assert not out
            assert len(lines) == 1
            assert lines[0].startswith("error: ")
        assert all(text in out + err for text in texts), out + err
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("options", "texts"),
        [
            ("--set loss.lamda_u=1", ["loss.lamda_u", "Did you mean 'lambda_u'"]),
            ("--set loss.lambda_u=-1", ["loss.lambda_u", "greater than or equal to 0"]),
            ("--set loss.lambda_u", ["section.key=value"]),
            ("--labels nothing.json", ["nothing.json", "missing"]),
            ("--split p7", ["no split 'p7'", "p70"]),
            ("--split p70 --labeled 7", ["p70", "ACDC"]),
            ("--labeled many", ["--labeled", "many"]),
            ("--labeled 3", ["labels"]),
            ("--seeds 0", ["seeds", "greater than or equal to 1"]),
            ("--validate-every 2", ["validate_every", "less than or equal to 1"]),
            ("--minutes -1", ["schedule.minutes", "greater than 0"]),
        ],
    )
    def test_settings_are_judged_before_anything_is_written(self, study: Path, capsys, options: str, texts: list[str]):
        job = study.parent / "job"
        assert main(["train", str(study), "--out", str(job), *options.split()]) == 2
        err = capsys.readouterr().err
        assert len(err.splitlines()) == 1
        assert all(text in err for text in texts), err
        assert not job.exists()

    def test_an_output_folder_with_something_in_it_is_left_alone(self, study: Path, capsys):
        assert main(["train", str(study), "--out", str(study)]) == 2
        assert "not empty" in capsys.readouterr().err

    def test_a_device_that_is_not_there(self, study: Path, capsys):
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a CUDA device")
        assert main(["check", str(study), "--device", "cuda"]) == 2
        assert "no CUDA device" in capsys.readouterr().err


class TestOptionsOfTrain:
    """What the options become in job.json; the training itself is left out."""

    @pytest.fixture
    def job(self, study: Path, monkeypatch):
        monkeypatch.setattr("semicardiac.runner.run_job", lambda folder, *_: 0)

        def make(*arguments: str):
            shutil.rmtree(study.parent / "job", ignore_errors=True)
            assert main(["train", str(study), "--out", str(study.parent / "job"), *arguments]) == 0
            return load_job(study.parent / "job")

        return make

    def test_without_any(self, job):
        made = job()
        assert made.config.schedule.minutes == 10
        assert [case.role for case in made.cases] == ["labeled", "labeled", "unlabeled", "unlabeled"]
        assert made.labels.name == "acdc"
        assert made.config.preprocess.plane == "acquired"

    def test_switches_presets_and_settings(self, job):
        settings = ["--set", "loss.lambda_u=0.5", "optim.ema=0.9", "--set", "seed=4"]
        config = job("--no-dptm", "--no-contrast", "--preset", "paper", *settings).config
        assert (config.loss.dptm, config.loss.rem, config.loss.contrast) == (False, True, False)
        assert (config.preset, config.loss.lambda_u, config.optim.ema, config.seed) == ("paper", 0.5, 0.9, 4)

    def test_steps_in_place_of_minutes(self, job):
        schedule = job("--steps", "60", "--validate-every", "0.5").config.schedule
        assert (schedule.minutes, schedule.steps, schedule.validate_every) == (None, 60, 0.5)

    def test_set_wins_over_options(self, job):
        assert job("--minutes", "3", "--set", "schedule.minutes=4").config.schedule.minutes == 4

    @pytest.mark.parametrize("share", ["1", "0.25", "25%"])
    def test_labeled_is_a_count_or_a_share_of_patients(self, job, share: str):
        roles = [case.role for case in job("--labeled", share).cases]
        assert (roles.count("labeled"), roles.count("unlabeled")) == (1, 3)

    def test_unlabeled_cases_lose_their_labels(self, job):
        assert all(case.labels is None for case in job("--labeled", "1").cases if case.role == "unlabeled")

    def test_resume_adds_time(self, job, study: Path):
        job("--minutes", "3")
        assert main(["train", "--resume", str(study.parent / "job"), "--minutes", "4"]) == 0
        assert load_job(study.parent / "job").config.schedule.minutes == 7


class TestBadInput:
    """`check` says each in one line, and `train` refuses it, both with status 2, before anything long."""

    @staticmethod
    def broken(study: Path, kind: str) -> str:
        """Breaks a study in one way; gives a text that the complaint must hold."""
        image = study / "patient001" / "patient001_frame01.nii.gz"
        labels = study / "patient001" / "patient001_frame01_gt.nii.gz"
        array, mask = draw_heart(1)
        if kind == "truncated":
            content = image.read_bytes()
            image.write_bytes(content[: len(content) // 2])
            return "patient001_frame01.nii.gz"
        if kind == "not a volume":
            image.write_bytes(b"this is no volume")
            return "patient001_frame01.nii.gz"
        if kind == "other geometry":
            write_itk(labels, mask, spacing=(2.0, 2.5, 8.0))
            return "2.5"
        if kind == "other size":
            write_itk(labels, mask[:, :30])
            return "30"
        if kind == "unknown value":
            mask[0, 0, :7] = 9
            write_itk(labels, mask)
            return "9 (7 voxels)"
        if kind == "empty labels":
            write_itk(labels, np.zeros_like(mask))
            return "empty"
        if kind == "nan":
            array[0, 0, :5] = np.nan
            write_itk(image, array)
            return "5"
        if kind == "inf":
            array[0, 0, 0] = np.inf
            write_itk(image, array)
            return "infinite"
        if kind == "constant":
            write_itk(image, np.full_like(array, 7))
            return "7"
        if kind == "rgb":
            write_itk(image, np.repeat(array.astype(np.uint8)[..., None], 3, axis=-1), is_vector=True)
            return "patient001_frame01.nii.gz"
        if kind == "4D":
            sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(array)] * 2), str(image))
            return "2"
        if kind == "label fractions":
            write_itk(labels, mask + 0.25)
            return "whole numbers"
        if kind == "duplicate":
            for path in (image, labels):
                shutil.copy(path, study / "patient002" / path.name.replace("001", "002"))
            return "patient002_frame01"
        if kind == "no labeled":
            for path in study.rglob("*_gt.nii.gz"):
                path.unlink()
            return "no labeled case"
        for path in study.rglob("*.nii.gz"):
            if "patient001" not in path.name:
                path.unlink()
        write_itk(image, array[:1])
        write_itk(labels, mask[:1])
        return "slices"

    @pytest.mark.parametrize(
        "kind",
        [
            "truncated", "not a volume", "other geometry", "other size", "unknown value", "empty labels", "nan", "inf",
            "constant", "rgb", "4D", "label fractions", "duplicate", "no labeled", "fewer slices than a batch",
        ],
    )  # fmt: skip
    def test_is_refused(self, study: Path, capsys, kind: str):
        text = self.broken(study, kind)
        assert main(["check", str(study)]) == 2
        out, err = capsys.readouterr()
        complaints = [line for line in (out + err).splitlines() if line.startswith("error: ")]
        assert len(complaints) == 1
        assert text in complaints[0]
        job = study.parent / "job"
        assert main(["train", str(study), "--out", str(job), "--steps", "1"]) == 2
        assert text in capsys.readouterr().err
        assert not job.exists() or not (job / "work").exists()

    def test_a_job_that_was_refused_can_be_made_again_in_the_same_folder(self, study: Path, monkeypatch):
        image = study / "patient001" / "patient001_frame01.nii.gz"
        content = image.read_bytes()
        image.write_bytes(content[:100])
        command = ["train", str(study), "--out", str(study.parent / "job"), "--steps", "1"]
        assert main(command) == 2
        image.write_bytes(content)
        monkeypatch.setattr("semicardiac.runner._work", lambda *_: {})
        assert main(command) == 0

    def test_the_same_patient_labeled_and_in_validation(self, study: Path, capsys):
        rows = ["image,labels,patient,role"]
        for number, (patient, role) in enumerate((("a", "labeled"), ("a", "validation")), start=1):
            name = f"patient{number:03d}/patient{number:03d}_frame01"
            rows.append(f"{name}.nii.gz,{name}_gt.nii.gz,{patient},{role}")
        (study / "cases.csv").write_text("\n".join(rows))
        assert main(["check", str(study / "cases.csv")]) == 2
        assert "validation" in capsys.readouterr().out

    def test_no_unlabeled_case_is_a_warning(self, tmp_path: Path, capsys):
        study = write_study(tmp_path / "study", labeled=4, unlabeled=0)
        assert main(["check", str(study)]) == 0
        assert "warning: " in capsys.readouterr().out

    def test_a_sound_study_passes_and_the_machine_is_described(self, tmp_path: Path, capsys):
        study = write_study(tmp_path / "study", labeled=3, unlabeled=3)
        assert main(["check", str(study)]) == 0
        out = capsys.readouterr().out
        assert "3 labeled, 3 unlabeled, 0 validation" in out
        assert "torch: " in out
        assert "0 errors, 0 warnings" in out


class TestSegment:
    def test_names_results_after_inputs_and_keeps_the_grid(self, trained: Path, tmp_path: Path):
        scan = trained / "study" / "patient003" / "patient003_frame01.nii.gz"
        out = tmp_path / "out"
        assert main(["segment", str(trained / "job"), str(scan), "--out", str(out), "--confidence", "--entropy"]) == 0
        names = {path.name for path in out.iterdir() if path.is_file()}
        assert names == {f"patient003_frame01{ending}.nii.gz" for ending in ("", "_confidence", "_entropy")}
        image = sitk.ReadImage(str(scan))
        for name in names:
            result = sitk.ReadImage(str(out / name))
            assert result.GetSize() == image.GetSize()
            np.testing.assert_allclose(result.GetSpacing(), image.GetSpacing(), rtol=1e-6)
            np.testing.assert_allclose(result.GetOrigin(), image.GetOrigin(), atol=1e-4)
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "patient003_frame01.nii.gz")))
        assert set(np.unique(labels)) <= {0, 1, 2, 3}

    def test_a_folder_stands_for_its_images(self, trained: Path, tmp_path: Path):
        options = ["--out", str(tmp_path), "--format", "nrrd"]
        assert main(["segment", str(trained / "job"), str(trained / "study"), *options]) == 0
        assert {path.name for path in tmp_path.glob("*.nrrd")} == {f"patient{n:03d}_frame01.nrrd" for n in range(1, 5)}

    @pytest.mark.parametrize(
        ("suffix", "names"),
        [("nii.gz", ["cine.nii.gz"]), ("seg.nrrd", ["cine_frame00.seg.nrrd", "cine_frame01.seg.nrrd"])],
    )
    def test_a_time_series_gives_a_time_series(self, trained: Path, tmp_path: Path, suffix: str, names: list[str]):
        frames = [sitk.GetImageFromArray(draw_heart(seed)[0]) for seed in (1, 2)]
        sitk.WriteImage(sitk.JoinSeries(frames), str(tmp_path / "cine.nii.gz"))
        out = tmp_path / "out"
        options = ["--out", str(out), "--format", suffix]
        assert main(["segment", str(trained / "job"), str(tmp_path / "cine.nii.gz"), *options]) == 0
        assert sorted(path.name for path in out.iterdir() if path.is_file()) == names
        if suffix == "nii.gz":
            assert sitk.ReadImage(str(out / "cine.nii.gz")).GetSize()[3] == 2

    def test_never_overwrites(self, trained: Path, tmp_path: Path, capsys):
        scan = tmp_path / "scan.nii.gz"
        shutil.copy(trained / "study" / "patient003" / "patient003_frame01.nii.gz", scan)
        content = scan.read_bytes()
        assert main(["segment", str(trained / "job"), str(scan), "--out", str(tmp_path)]) == 2
        assert "a file of this name already" in capsys.readouterr().err
        assert scan.read_bytes() == content

    def test_two_inputs_of_one_name(self, trained: Path, tmp_path: Path, capsys):
        scans = [write_itk(tmp_path / name / "scan.nrrd", draw_heart(1)[0]) for name in "ab"]
        assert main(["segment", str(trained / "job"), *map(str, scans), "--out", str(tmp_path / "out")]) == 2
        assert "same name" in capsys.readouterr().err

    @pytest.mark.parametrize("kind", ["nan", "constant", "truncated"])
    def test_all_inputs_are_checked_before_the_first_result(self, trained: Path, tmp_path: Path, capsys, kind: str):
        good = write_itk(tmp_path / "good.nii.gz", draw_heart(1)[0])
        array = draw_heart(2)[0]
        array[0, 0, 0] = np.nan if kind == "nan" else 1
        bad = write_itk(tmp_path / "bad.nii.gz", np.zeros_like(array) if kind == "constant" else array)
        if kind == "truncated":
            bad.write_bytes(bad.read_bytes()[:500])
        out = tmp_path / "out"
        assert main(["segment", str(trained / "job"), str(good), str(bad), "--out", str(out)]) == 2
        assert "bad.nii.gz" in capsys.readouterr().err
        assert not list(out.glob("*.nii.gz"))

    def test_a_damaged_model_is_refused(self, trained: Path, tmp_path: Path, capsys):
        shutil.copytree(trained / "job" / "model", tmp_path / "model")
        weights = tmp_path / "model" / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        scan = write_itk(tmp_path / "scan.nrrd", draw_heart(1)[0])
        assert main(["segment", str(tmp_path / "model"), str(scan), "--out", str(tmp_path / "out")]) == 2
        assert "model.safetensors" in capsys.readouterr().err

    def test_evaluate_and_report_follow(self, trained: Path, tmp_path: Path, capsys):
        labeled = [trained / "study" / f"patient00{n}" / f"patient00{n}_frame01.nii.gz" for n in (1, 2)]
        results, tables = str(tmp_path / "results"), str(tmp_path / "tables")
        assert main(["segment", str(trained / "job"), *map(str, labeled), "--out", results]) == 0
        assert main(["evaluate", results, str(trained / "study"), "--out", tables]) == 0
        assert "2 volumes" in capsys.readouterr().err
        assert (tmp_path / "tables" / "metrics.csv").exists()
        assert json.loads((tmp_path / "tables" / "metrics.json").read_text())["volumes"] == 2
        pytest.importorskip("matplotlib")
        for job in (trained / "job", tmp_path / "tables"):
            assert main(["report", str(job)]) == 0
            assert "<html" in (job / "report.html").read_text(encoding="utf-8")


def test_info_tells_what_a_model_segments(trained: Path, capsys):
    assert main(["info", str(trained / "job")]) == 0
    out = capsys.readouterr().out
    assert "RV cavity, LV myocardium, LV cavity" in out
    assert "preset" in out


def test_a_crash_outside_a_job_has_status_1(monkeypatch, capsys):
    def crash(*_) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("semicardiac.cli.parse_arguments", crash)
    assert main(["info", "x"]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_mistake_in_an_option_is_no_traceback_in_a_process_of_its_own(semicardiac):
    done = semicardiac("train", "nowhere", "--out", "job")
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere: there is no such file or folder")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_events_for_programs_and_several_seeds(quick_train, study: Path):
    roles = ["--labeled", "1", "--validation", "1"]
    done = quick_train(study, "--out", "job", "--seeds", 2, *roles, "--deterministic", "--jsonl", steps=4)
    assert done.returncode == 0, done.stderr
    kinds = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert (kinds[0], kinds[-1]) == ("started", "done")
    job = study.parent / "job"
    summary = json.loads((job / "summary.json").read_text())
    assert summary["seeds"] == 2
    assert summary["training_steps_mean"] == 4
    assert summary["validation_mean_dice_sd"] >= 0
    assert (job / "seed1" / "model" / "model.safetensors").exists()
    weights = Path("model", "model.safetensors")
    first, second, whole = ((job / name / weights).read_bytes() for name in ("seed0", "seed1", ""))
    assert whole == first != second


def test_parse_arguments_gives_errors_as_one_line():
    with pytest.raises(UserError) as caught:
        parse_arguments(["evaluate"])
    assert "\n" not in str(caught.value)
    assert "PREDICTIONS" in str(caught.value)
