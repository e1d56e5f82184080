"""The command line: its help, its commands and its exit statuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import semicardiac
import SimpleITK as sitk
from semicardiac.cli.commands import COMMANDS
from semicardiac.cli.main import main, parse_arguments
from semicardiac.images.labels import get_label_set
from semicardiac.jobs.job import load_job, write_job
from semicardiac.methods.registry import METHODS

from Testing.engine.jobs.support import train_job
from Testing.engine.support import draw_heart, quick_settings, write_itk, write_study


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A folder with a study and a job that was trained on it for a few steps."""
    folder = tmp_path_factory.mktemp("trained")
    study = write_study(folder / "study")
    options = ["--steps", "6", "--deterministic", "--device", "cpu", *quick_settings()]
    assert main(["train", str(study), "--out", str(folder / "job"), *options]) == 0
    return folder


def test_the_help_describes_every_method(capsys: pytest.CaptureFixture):
    assert main(["train", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert all(f"{name}: {entry.about}" in text for name, entry in METHODS.items())


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
        assert "(default: )" not in text

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_example_of_a_help_can_be_parsed(self, name: str):
        for line in COMMANDS[name].EXAMPLES.strip().splitlines():
            assert isinstance(parse_arguments(line.split()[1:]), COMMANDS[name])

    def test_version(self, capsys):
        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"semicardiac {semicardiac.__version__}\n"


class TestOptionsOfTrain:
    """What the options become in job.json; the training itself is left out."""

    @pytest.fixture
    def job(self, study: Path, monkeypatch):
        monkeypatch.setattr("semicardiac.jobs.run.run_job", lambda folder, *_: 0)

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
        settings = ["--set", "method.lambda_u=0.5", "optim.ema=0.9", "--set", "seed=4"]
        config = job("--no-dptm", "--no-contrast", "--preset", "paper", *settings).config
        assert (config.method.dptm, config.method.rem, config.method.contrast) == (False, True, False)
        assert (config.preset, config.method.lambda_u, config.optim.ema, config.seed) == ("paper", 0.5, 0.9, 4)

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

    def test_the_model_to_start_from(self, job):
        assert job("--start-from", "first").start_from == Path("first").absolute()

    @pytest.mark.parametrize(
        ("options", "schedule"),
        [((), (10, None)), (("--steps", "9"), (None, 9)), (("--set", "schedule.steps=9"), (None, 9))],
    )
    def test_ten_minutes_unless_another_measure_is_named(self, job, options, schedule):
        found = job(*options).config.schedule
        assert (found.minutes, found.steps) == schedule

    @pytest.mark.parametrize(("options", "expected"), [([], "mmwhs"), (["--labels", "acdc"], "acdc")])
    def test_results_are_evaluated_with_the_labels_of_their_model(
        self, tmp_path: Path, monkeypatch, options: list[str], expected: str
    ):
        monkeypatch.setattr("semicardiac.jobs.run.run_job", lambda folder, *_: 0)
        job = train_job(tmp_path / "job").model_copy(update={"labels": get_label_set("mmwhs")})
        (tmp_path / "job" / "validation").mkdir(parents=True)
        write_job(tmp_path / "job", job)
        monkeypatch.chdir(tmp_path)
        assert main(["evaluate", "job/validation", "reference", "--out", "out", *options]) == 0
        assert load_job(tmp_path / "out").labels.name == expected

    def test_the_job_alone_is_made_for_a_run_elsewhere(self, study: Path, tmp_path: Path, capsys):
        folder = tmp_path / "job"
        assert main(["train", str(study), "--out", str(folder), "--job-only"]) == 0
        assert f"semicardiac run {folder}" in capsys.readouterr().out
        assert [path.name for path in folder.iterdir() if path.suffix] == ["job.json"]

    def test_torchrun_is_told_to_run_jobs_alone(self, study: Path, tmp_path: Path, capsys, monkeypatch):
        for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")):
            monkeypatch.setenv(name, value)
        assert main(["train", str(study), "--out", str(tmp_path / "job")]) == 2
        assert "--job-only" in capsys.readouterr().err
        assert not (tmp_path / "job").exists()

    def test_resume_adds_time(self, job, study: Path, capsys):
        job("--minutes", "3")
        assert main(["train", "--resume", str(study.parent / "job"), "--minutes", "4"]) == 0
        assert "Training for 7 minutes in all" in capsys.readouterr().err
        assert load_job(study.parent / "job").config.schedule.minutes == 7

    def test_what_a_resumed_training_would_ignore_is_refused_by_name(self, job, study: Path, capsys):
        before = job("--minutes", "3")
        resume = ["train", "--resume", str(study.parent / "job")]
        ignored = ["--labeled", "1", "--preset", "paper", "--seed", "3", "--no-rem", "--set", "method.lambda_u=0"]
        assert main([*resume, str(study), *ignored, "--device", "cpu", "--minutes", "4"]) == 2
        err = capsys.readouterr().err
        named = "DATA, --labeled, --seed, --preset, --set, --device, --no-rem"
        assert f"{named} would change nothing" in err
        assert "only --minutes or --steps go with --resume" in err
        assert main([*resume, "--minutes", "4", "--steps", "9"]) == 2
        assert "--minutes, --steps" in capsys.readouterr().err
        assert load_job(study.parent / "job") == before


class TestSegment:
    def test_names_results_after_inputs_and_keeps_the_grid(self, trained: Path, tmp_path: Path):
        scan = trained / "study" / "patient003" / "patient003_frame01.nii.gz"
        out, maps = tmp_path / "out", ["--confidence", "--entropy", "--threshold", "--pseudo-labels"]
        assert main(["segment", str(trained / "job"), str(scan), "--out", str(out), *maps]) == 0
        names = {path.name for path in out.iterdir() if path.is_file()} - {"volumes.csv"}
        endings = ["", *(f"_{option.removeprefix('--').replace('-', '_')}" for option in maps)]
        assert names == {f"patient003_frame01{ending}.nii.gz" for ending in endings}
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
        [("nii.gz", ["cine.nii.gz"]), ("seg.nrrd", ["cine_frame01.seg.nrrd", "cine_frame02.seg.nrrd"])],
    )
    def test_a_time_series_gives_a_time_series(self, trained: Path, tmp_path: Path, suffix: str, names: list[str]):
        frames = [sitk.GetImageFromArray(draw_heart(seed)[0]) for seed in (1, 2)]
        sitk.WriteImage(sitk.JoinSeries(frames), str(tmp_path / "cine.nii.gz"))
        out = tmp_path / "out"
        options = ["--out", str(out), "--format", suffix]
        assert main(["segment", str(trained / "job"), str(tmp_path / "cine.nii.gz"), *options]) == 0
        assert sorted(path.name for path in out.iterdir() if path.is_file()) == [*names, "volumes.csv"]
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
    def test_what_cannot_be_used_keeps_the_others_from_nothing(self, trained: Path, tmp_path: Path, capsys, kind: str):
        good = write_itk(tmp_path / "good.nii.gz", draw_heart(1)[0])
        array = draw_heart(2)[0]
        array[0, 0, 0] = np.nan if kind == "nan" else 1
        bad = write_itk(tmp_path / "bad.nii.gz", np.zeros_like(array) if kind == "constant" else array)
        if kind == "truncated":
            bad.write_bytes(bad.read_bytes()[:500])
        out = tmp_path / "out"
        assert main(["segment", str(trained / "job"), str(good), str(bad), "--out", str(out)]) == 2
        assert "bad.nii.gz" in capsys.readouterr().err
        assert [path.name for path in out.glob("*.nii.gz")] == ["good.nii.gz"]

    def test_the_job_alone_can_be_made(self, trained: Path, tmp_path: Path, capsys):
        scan = write_itk(tmp_path / "scan.nrrd", draw_heart(1)[0])
        out = tmp_path / "out"
        assert main(["segment", str(trained / "job"), str(scan), "--out", str(out), "--job-only"]) == 0
        assert f"semicardiac run {out / 'segment-job'}" in capsys.readouterr().out
        assert [path.name for path in out.rglob("*") if path.is_file() and path.suffix] == ["job.json"]

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


class TestInfo:
    def test_tells_what_a_model_segments(self, trained: Path, capsys):
        assert main(["info", str(trained / "job")]) == 0
        out = capsys.readouterr().out
        assert "RV cavity, LV myocardium, LV cavity" in out
        assert "preset" in out

    def test_zips_the_model(self, trained: Path, tmp_path: Path, capsys):
        path = tmp_path / "model.zip"
        assert main(["info", str(trained / "job"), "--zip", str(path)]) == 0
        assert f"wrote {path}" in capsys.readouterr().out
        scan = write_itk(tmp_path / "scan.nrrd", draw_heart(1)[0])
        assert main(["segment", str(path), str(scan), "--out", str(tmp_path / "out")]) == 0
        content = path.read_bytes()
        assert main(["info", str(trained / "job"), "--zip", str(path)]) == 2
        assert f"{path}: there is a file of this name already. Name a new file" in capsys.readouterr().err
        assert path.read_bytes() == content


def test_check_looks_for_what_would_stop_the_training(study: Path, capsys):
    for options, status in (([], 0), (["--set", "optim.batch_labeled=50"], 2), (["--preset", "paper"], 2)):
        assert main(["check", str(study), *options]) == status
    out = capsys.readouterr().out
    assert "the labeled cases have 12 slices, fewer than the 50 in a batch" in out
    assert "the labeled cases have 12 slices, fewer than the 16 in a batch" in out


def test_a_job_that_is_done_says_so_when_it_is_run_again(trained: Path, tmp_path: Path, monkeypatch, capsys):
    job = Path(shutil.copytree(trained / "job", tmp_path / "job"))
    weights = (job / "model" / "model.safetensors").read_bytes()
    assert main(["train", "--resume", str(job)]) == 0
    assert "nothing was left to do" in capsys.readouterr().err
    assert main(["run", str(job)]) == 0  # for programs, as there is no terminal here
    started, done = map(json.loads, capsys.readouterr().out.splitlines())
    assert (started["event"], started["resumed"], done["event"]) == ("started", True, "done")
    assert done["summary"]["steps"] == 6
    assert (job / "model" / "model.safetensors").read_bytes() == weights


def test_a_crash_outside_a_job_has_status_1_and_leaves_a_report_without_names(tmp_path: Path, monkeypatch, capsys):
    folder = tmp_path / "Jane Doe"
    write_study(folder)
    message = f"in {folder}/patient001 with patient002_frame01\n" + "all that was at hand\n" * 1000

    def crash(*_) -> None:
        raise ZeroDivisionError(message)

    monkeypatch.setattr("semicardiac.data.discover.discover", crash)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert main(["check", str(folder)]) == 1
    err = capsys.readouterr().err
    assert "error: an error inside semicardiac: ZeroDivisionError" in err
    assert err.count("all that was at hand") < 20
    path = next(tmp_path.glob("semicardiac-crash-*.txt"))
    last = err.splitlines()[-1]
    assert last.startswith("error: ")
    assert f"Send us {path}" in last
    report = path.read_text(encoding="utf-8")
    assert "ZeroDivisionError: <...>" in report
    assert "in find" in report  # the traceback is there
    assert not [name for name in ("Jane", "Doe", "patient00") if name in report]


@pytest.mark.slow
def test_a_terminal_that_knows_only_ascii(semicardiac, tmp_path: Path):
    ascii_only = {
        "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii",
    }  # fmt: skip
    study = write_study(tmp_path / "study")

    def run(*arguments: object) -> str:
        done = semicardiac(*arguments, **ascii_only)
        assert done.returncode == 0, done.stderr
        text = done.stdout + done.stderr
        assert text.isascii()
        assert "?" not in text
        return text

    assert "* train" in run("--help")
    done = semicardiac("train", "data", "--ot", "job", **ascii_only)
    assert done.stderr.startswith("error: unrecognized options: --ot, job; did you mean --out. ")
    roles = ("--labeled", 1, "--validation", 1)
    run("train", study, "--out", "job", *roles, "--seeds", 2, "--steps", 4, "--device", "cpu", *quick_settings())
    scan = study / "patient001" / "patient001_frame01.nii.gz"
    run("segment", "job", scan, "--out", "results")
    assert "mean +/- SD" in run("evaluate", "results", study, "--out", "evaluation")
    run("info", "job")
    pytest.importorskip("matplotlib")
    run("report", "job")
    assert "mean ± SD" in (tmp_path / "job" / "report.html").read_text(encoding="utf-8")


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
