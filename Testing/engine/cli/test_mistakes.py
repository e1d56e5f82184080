"""What the command line says to mistakes in options and inputs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from semicardiac.base.errors import UserError
from semicardiac.cli.main import main, parse_arguments

from Testing.engine.support import draw_heart, write_itk, write_study


class TestMistakesInOptions:
    @pytest.mark.parametrize(
        ("arguments", "texts"),
        [
            ("tran data", ["tran", "Did you mean 'train'"]),
            ("train data --ot job", ["--ot", "did you mean --out"]),
            ("train data --minutes soon --out job", ["--minutes", "soon"]),
            ("train data --preset papier --out job", ["papier", "paper"]),
            ("train data --out", ["--out"]),
            ("train --out job", ["no data was named"]),
            ("train --set method.rem=false data --out job", ["'data' is not of the form", "data before --set"]),
            ("train data", ["no folder for the training", "--out JOB"]),
            ("train data --out job --minutes 1 --steps 5", ["--minutes, --steps", "Give one"]),
            ("train --resume job --out other", ["--resume", "Drop --out; only --minutes or --steps"]),
            ("train data --out job", ["data", "no such file or folder"]),
            ("segment model --out results", ["no volume to segment"]),
            ("segment model scan.nii.gz --out results", ["model", "no such file or folder"]),
            ("run nowhere", ["not a job folder"]),
            ("train --resume nowhere --minutes 1", ["job.json", "missing"]),
            ("info nowhere", ["no such model"]),
            ("report nowhere", ["nowhere"]),
            ("evaluate a b --out c --labels acd", ["acd", "acdc"]),
            ("demo --minutes 0", ["--minutes"]),
            ("phantom --out study --seed -1", ["seed", "0 or more"]),
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
            ("--set method.lamda_u=1", ["method.lamda_u", "Did you mean 'lambda_u'"]),
            ("--set method.lambda_u=-1", ["method.lambda_u", "greater than or equal to 0"]),
            ("--set method.lambda_u", ["section.key=value"]),
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


IMAGE, LABELS = "patient001_frame01.nii.gz", "patient001_frame01_gt.nii.gz"
COMPLAINTS = {
    "truncated": [IMAGE, "damaged, cut short or not what its name says", "Copy or export it again"],
    "not a volume": [IMAGE, "damaged, cut short or not what its name says", "Copy or export it again"],
    "other geometry": [LABELS, "not lie on the same grid", "2 x 2 x 8 and 2 x 2.5 x 8 mm", "Resample the labels"],
    "other size": [LABELS, "not lie on the same grid", "40 x 40 x 6 and 40 x 30 x 6 voxels", "Resample the labels"],
    "unknown value": [LABELS, "9 (7 voxels)", "not in the label set 'acdc'"],
    "empty labels": [LABELS, "the labels are empty", "Draw the labels"],
    "nan": [IMAGE, "5 of 9600 voxels are NaN or infinite", "Replace them by a number"],
    "inf": [IMAGE, "1 of 9600 voxels is NaN or infinite", "Replace them by a number"],
    "constant": [IMAGE, "the image is constant: all voxels are 7", "whether the right volume was exported"],
    "rgb": [IMAGE, "one number in each voxel is expected", "Export it as a scalar"],
    "4D": [IMAGE, "time series of 2 frames where a single volume is expected", "column 'frame' of a case list"],
    "label fractions": [LABELS, "whole numbers"],
    "duplicate": ["patient001_frame01 and patient002_frame01", "same image stands under 2 names", "Remove all but"],
    "no labeled": ["cases", "there is no labeled case", "Put labels beside the images"],
    "fewer slices than a batch": [
        "cases",
        "the labeled cases have 1 slice, fewer than the 6",
        "optim.batch_labeled",
    ],
}
"""Of each fault: the file or field, what was found, and how to fix it."""


class TestBadInput:
    """`check` says each in one line, and `train` refuses it, both with status 2, before anything long."""

    @staticmethod
    def broken(study: Path, kind: str) -> None:
        """Breaks a study in one way."""
        image, labels = (study / "patient001" / name for name in (IMAGE, LABELS))
        array, mask = draw_heart(1)
        if kind == "truncated":
            content = image.read_bytes()
            image.write_bytes(content[: len(content) // 2])
        elif kind == "not a volume":
            image.write_bytes(b"this is no volume")
        elif kind == "other geometry":
            write_itk(labels, mask, spacing=(2.0, 2.5, 8.0))
        elif kind == "other size":
            write_itk(labels, mask[:, :30])
        elif kind == "unknown value":
            mask[0, 0, :7] = 9
            write_itk(labels, mask)
        elif kind == "empty labels":
            write_itk(labels, np.zeros_like(mask))
        elif kind == "nan":
            array[0, 0, :5] = np.nan
            write_itk(image, array)
        elif kind == "inf":
            array[0, 0, 0] = np.inf
            write_itk(image, array)
        elif kind == "constant":
            write_itk(image, np.full_like(array, 7))
        elif kind == "rgb":
            write_itk(image, np.repeat(array.astype(np.uint8)[..., None], 3, axis=-1), is_vector=True)
        elif kind == "4D":
            sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(array)] * 2), str(image))
        elif kind == "label fractions":
            write_itk(labels, mask + 0.25)
        elif kind == "duplicate":
            for path in (image, labels):
                shutil.copy(path, study / "patient002" / path.name.replace("001", "002"))
        elif kind == "no labeled":
            for path in study.rglob("*_gt.nii.gz"):
                path.unlink()
        else:
            for path in study.rglob("*.nii.gz"):
                if "patient001" not in path.name:
                    path.unlink()
            write_itk(image, array[:1])
            write_itk(labels, mask[:1])

    @pytest.mark.parametrize("kind", COMPLAINTS)
    def test_is_refused(self, study: Path, capsys, kind: str):
        self.broken(study, kind)
        assert main(["check", str(study)]) == 2
        out, err = capsys.readouterr()
        complaints = [line for line in (out + err).splitlines() if line.startswith("error: ")]
        assert len(complaints) == 1
        assert not [text for text in COMPLAINTS[kind] if text not in complaints[0]], complaints[0]
        job = study.parent / "job"
        assert main(["train", str(study), "--out", str(job), "--steps", "1"]) == 2
        assert complaints[0] in capsys.readouterr().err.splitlines()
        assert not job.exists() or not (job / "work").exists()

    def test_a_job_that_was_refused_can_be_made_again_in_the_same_folder(self, study: Path, monkeypatch):
        image = study / "patient001" / "patient001_frame01.nii.gz"
        content = image.read_bytes()
        image.write_bytes(content[:100])
        command = ["train", str(study), "--out", str(study.parent / "job"), "--steps", "1"]
        assert main(command) == 2
        image.write_bytes(content)
        monkeypatch.setattr("semicardiac.jobs.run._work", lambda *_: {})
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
        assert "3 labeled (3 patients), 3 unlabeled (3 patients), 0 validation" in out
        assert "torch: " in out
        assert "0 errors, 0 warnings" in out

    def test_without_volumes_only_the_machine_is_described(self, capsys):
        """What a bug report asks for: nothing of anybody's data is in it."""
        assert main(["check"]) == 0
        names = [line.partition(": ")[0] for line in capsys.readouterr().out.splitlines()]
        assert {"system", "python", "torch", "device"} <= set(names)


def test_a_mistake_in_an_option_is_no_traceback_in_a_process_of_its_own(semicardiac):
    done = semicardiac("train", "nowhere", "--out", "job")
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere: there is no such file or folder")
    assert len(done.stderr.splitlines()) == 1


def test_parse_arguments_gives_errors_as_one_line():
    with pytest.raises(UserError) as caught:
        parse_arguments(["evaluate"])
    assert "\n" not in str(caught.value)
    assert "PREDICTIONS" in str(caught.value)
