"""Every bad input gets a finding that says what, where and how to fix it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from semicardiac.base.errors import UserError
from semicardiac.cli.environment import check_environment
from semicardiac.config import make_config
from semicardiac.data import case_reader
from semicardiac.data.cases import Case, split
from semicardiac.data.checks import check_cases, spacing_fault
from semicardiac.data.discover import discover
from semicardiac.data.findings import Finding
from semicardiac.images.volumes import Volume, read_series, write_series

from Testing.engine.data.odd_images import ACDC, MATRIX, SHAPE, SMALL_BATCHES, make_image, make_labels, write
from Testing.engine.data.support import DATA
from Testing.engine.images.support import make_matrix


@pytest.fixture
def cases(tmp_path) -> dict[str, Case]:
    """A sound study: one labeled, two unlabeled and one validation patient."""
    roles = {"lab": "labeled", "unl": "unlabeled", "unl2": "unlabeled", "val": "validation"}
    made = {}
    for seed, (name, role) in enumerate(roles.items()):
        image = write(tmp_path / f"{name}.nii.gz", make_image(seed))
        labels = write(tmp_path / f"{name}_gt.nii.gz", make_labels()) if role != "unlabeled" else None
        made[name] = Case(name=name, patient=name, image=image, labels=labels, role=role)
    return made


def check(cases: dict[str, Case], **options) -> list[Finding]:
    return check_cases(list(cases.values()), ACDC, options.pop("config", SMALL_BATCHES), **options)


def changed(case: Case, **changes) -> Case:
    return Case.model_validate({**case.model_dump(), **changes})


def test_a_sound_study_gives_no_finding(cases):
    assert check(cases) == []


def test_progress_is_told(cases):
    told = []
    check(cases, progress=lambda *step: told.append(step))
    assert told == [(1, 4, "lab"), (2, 4, "unl"), (3, 4, "unl2"), (4, 4, "val")]


def poke(array: np.ndarray, value: float) -> np.ndarray:
    array = array.astype(np.float32)
    array[1, 2, 3] = array[0, 0, 0] = value
    return array


def save_nifti(path: Path, array: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(array, MATRIX), path)


RGB = np.zeros((40, 40, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])

BAD_IMAGES = {
    "missing": (lambda path: path.unlink(), "this file is missing"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:2000]), "damaged, cut short"),
    "not a volume": (
        lambda path: path.write_bytes(b"<html>404</html>"),
        "damaged, cut short or not what its name says",
    ),
    "empty file": (lambda path: path.write_bytes(b""), "damaged, cut short"),
    "NaN": (lambda path: write(path, poke(make_image(0), np.nan)), "2 of 6400 voxels are NaN or infinite"),
    "infinite": (lambda path: write(path, poke(make_image(0), -np.inf)), "2 of 6400 voxels are NaN or infinite"),
    "constant": (lambda path: write(path, np.full(SHAPE, 7, np.int16)), "the image is constant: all voxels are 7"),
    "RGB": (lambda path: save_nifti(path, RGB), "an RGB volume where one number in each voxel is expected"),
    "vector": (lambda path: save_nifti(path, np.ones((40, 40, 4, 1, 3), np.int16)), "40 x 40 x 4 x 1 x 3"),
    "time series": (
        lambda path: write_series(path, [Volume(make_image(index), MATRIX) for index in range(3)]),
        "time series of 3 frames where a single volume is expected",
    ),
    "complex": (lambda path: save_nifti(path, np.ones((40, 40, 4), np.complex64)), "voxels are of type complex64"),
    "flat": (lambda path: save_nifti(path, np.ones((40, 40), np.int16)), "two-dimensional image"),
    "thin": (lambda path: write(path, make_image(0, (4, 40, 1))), "the slices have 40 x 1 voxels"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
@pytest.mark.parametrize("name", ["lab", "unl", "val"])
def test_bad_image(cases, name, kind):
    spoil, said = BAD_IMAGES[kind]
    spoil(cases[name].image)
    found = [finding for finding in check(cases) if said in finding.what]
    assert [finding.level for finding in found] == ["error"]
    assert name in found[0].where
    assert cases[name].image.name in found[0].where
    assert found[0].hint


BAD_LABELS = {
    "missing": (lambda path: path.unlink(), "this file is missing"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:100]), "damaged, cut short"),
    "unknown values": (
        lambda path: write(path, np.where(make_labels() == 2, 9, make_labels()).astype(np.uint8)),
        "the label values 9 (160 voxels) are not in the label set 'acdc' (0 background, 1 RV cavity",
    ),
    "empty": (lambda path: write(path, np.zeros(SHAPE, np.uint8)), "the labels are empty"),
    "fractions": (lambda path: write(path, (make_labels() * 0.5).astype(np.float32)), "labels must be whole numbers"),
    "another size": (lambda path: write(path, make_labels((4, 40, 39))), "40 x 40 x 4 and 39 x 40 x 4 voxels"),
    "shifted": (
        lambda path: write(path, make_labels(), MATRIX + np.outer([0, 6, 0, 0], [0, 0, 0, 1])),
        "up to 6 mm apart: the first voxels are 6 mm apart",
    ),
    "another spacing": (
        lambda path: write(path, make_labels(), np.diag([1.0, 1.0, 1.0, 1.0])),
        "the spacings are 2 x 2 x 8 and 1 x 1 x 1 mm",
    ),
    "LPS taken for RAS": (
        lambda path: write(path, make_labels(), np.diag([-1.0, -1.0, 1.0, 1.0]) @ MATRIX),
        "the axes are turned by up to 180.0 degrees",
    ),
    "time series": (lambda path: write_series(path, [Volume(make_labels(), MATRIX)] * 2), "time series of 2 frames"),
}


@pytest.mark.parametrize("kind", BAD_LABELS)
@pytest.mark.parametrize("name", ["lab", "val"])
def test_bad_labels(cases, name, kind):
    spoil, said = BAD_LABELS[kind]
    spoil(cases[name].labels)
    found = [finding for finding in check(cases) if said in finding.what]
    assert [finding.level for finding in found] == ["error"]
    assert cases[name].labels.name in found[0].where
    assert found[0].hint


class TestRoles:
    def test_no_labeled_case(self, cases):
        del cases["lab"]
        assert ("error", "there is no labeled case") in [(each.level, each.what) for each in check(cases)]

    def test_no_case_at_all(self):
        assert [finding.what for finding in check({})] == ["there is no labeled case"]

    def test_no_unlabeled_case(self, cases):
        del cases["unl"], cases["unl2"]
        (finding,) = check(cases)
        assert (finding.level, finding.what.split(":")[0]) == ("warning", "there is no unlabeled case")

    @pytest.mark.parametrize(("name", "level"), [("lab", "error"), ("unl", "warning")])
    def test_a_patient_in_training_and_validation(self, cases, name, level):
        cases["val"] = changed(cases["val"], patient=cases[name].patient)
        (finding,) = check(cases)
        assert finding.level == level
        assert finding.what == f"this patient has cases that are {cases[name].role} and validation"
        assert finding.where == f"patient {name}"

    def test_a_patient_in_every_role(self, cases):
        for name in ("unl", "val"):
            cases[name] = changed(cases[name], patient=cases["lab"].patient)
        (finding,) = check(cases)
        assert finding.what == "this patient has cases that are labeled, unlabeled and validation"

    @pytest.mark.parametrize("role", ["labeled", "validation"])
    def test_a_role_that_needs_labels(self, cases, role):
        cases["unl"] = cases["unl"].with_role(role)
        assert Finding(
            "error", f"this case has the role '{role}' but no labels", "unl", "Name its labels, or change its role"
        ) in check(cases)

    def test_a_name_that_repeats(self, cases):
        cases["unl2"] = changed(cases["unl2"], name="unl")
        (finding,) = check(cases)
        assert (finding.level, finding.where) == ("error", "unl")
        assert "unl.nii.gz and " in finding.what

    def test_what_is_to_be_ignored_is_not_looked_at(self, cases):
        cases["unl"].image.unlink()
        cases["unl"] = cases["unl"].with_role("ignore")
        assert check(cases) == []


class TestLabelMapsAsImages:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16])
    def test_are_doubted(self, cases, dtype):
        write(cases["unl"].image, make_labels().astype(dtype))
        (finding,) = check(cases)
        assert (finding.level, finding.where) == ("warning", f"unl: {cases['unl'].image}")
        assert "probably a label map and no image: it holds 4 different" in finding.what
        assert "ignore" in finding.hint

    @pytest.mark.parametrize("array", [make_image(9) % 12, make_labels().astype(np.float32)])
    def test_images_of_few_values_are_not(self, cases, array):
        write(cases["unl"].image, array)
        assert not any("label map" in finding.what for finding in check(cases))


class TestDuplicates:
    def copy(self, cases: dict[str, Case], source: str, name: str, **changes) -> list[Finding]:
        """The same image under another name, compressed anew and in another format and type."""
        image = np.asanyarray(nib.load(cases[source].image).dataobj).T
        path = cases[source].image.with_name(f"{name}.nrrd")
        write(path, image.astype(np.float32))
        cases[name] = changed(cases[source], name=name, patient=name, image=path, **changes)
        return check(cases)

    def test_a_copied_case(self, cases):
        (finding,) = self.copy(cases, "lab", "copy")
        assert (finding.level, finding.where) == ("error", "lab and copy")
        assert "the same image stands under 2 names" in finding.what
        assert "lab.nii.gz and " in finding.what

    def test_a_validation_image_that_is_trained_on(self, cases):
        (finding,) = self.copy(cases, "val", "copy", role="unlabeled")
        assert finding.level == "error"

    @pytest.mark.parametrize("source", ["lab", "unl"])
    def test_an_image_that_is_only_used_twice(self, cases, source):
        (finding,) = self.copy(cases, source, "copy", role="unlabeled")
        assert finding.level == "warning"

    def test_one_image_labeled_by_two_people(self, cases):
        labels = np.roll(make_labels(), 1, axis=2)
        path = write(cases["lab"].labels.with_name("second_gt.nii.gz"), labels)
        (finding,) = self.copy(cases, "lab", "second", labels=path)
        assert finding.level == "warning"


class TestSizes:
    def test_a_single_slice_is_a_warning(self, cases):
        write(cases["unl"].image, make_image(9, (1, 40, 40)))
        (finding,) = check(cases)
        assert finding.level == "warning"
        assert finding.what.startswith("this is a single slice")

    @pytest.mark.parametrize("name", ["lab", "unl"])
    def test_little_contrast(self, cases, name):
        image = make_image(7).astype(np.float32)
        image[:, ::9, ::7] *= 1e20
        write(cases[name].image, image)
        (finding,) = check(cases)
        assert finding.level == "warning"
        assert "little contrast" in finding.what
        assert f"{name}.nii.gz" in finding.where

    @pytest.mark.parametrize(("side", "wide"), [(0.002, "0.08"), (40.0, "1600")])
    def test_a_spacing_that_cannot_be(self, cases, side, wide):
        write(cases["unl"].image, make_image(9), np.diag([side, side, side, 1]))
        (finding,) = check(cases)
        assert finding.level == "warning"
        assert f"the image is {wide} mm wide" in finding.what

    @pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
    def test_a_stack_that_was_saved_without_a_spacing(self, cases, suffix):
        image = cases["unl"].image.with_name(f"unplaced{suffix}")
        write(image, make_image(9, (11, 80, 80)), np.eye(4))
        cases["unl"] = changed(cases["unl"], image=image)
        (finding,) = check(cases)
        assert finding.level == "warning"
        assert "the spacing is 1 x 1 x 1 mm, as in files that were saved without one" in finding.what

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            (
                {"batch_labeled": 5, "batch_mixed": (2, 4)},
                "the labeled cases have 4 slices, fewer than the 5 in a batch",
            ),
            (
                {"batch_labeled": 4, "batch_mixed": (5, 4)},
                "the labeled cases have 4 slices, fewer than the 5 in a batch",
            ),
            (
                {"batch_labeled": 4, "batch_mixed": (2, 9)},
                "the unlabeled cases have 8 slices, fewer than the 9 in a batch",
            ),
        ],
    )
    def test_fewer_slices_than_a_batch(self, cases, settings, said):
        (finding,) = check(cases, config=make_config(overrides={"optim": settings}))
        assert (finding.level, finding.what) == ("error", said)

    def test_slices_are_counted_in_the_plane_of_the_training(self, cases):
        config = make_config(
            overrides={"preprocess": {"plane": "sagittal"}, "optim": {"batch_labeled": 40, "batch_mixed": (40, 80)}}
        )
        assert check(cases, config=config) == []

    def test_without_a_configuration_the_default_batches_count(self, cases):
        (finding,) = check_cases(list(cases.values()), ACDC)
        assert finding.what == "the labeled cases have 4 slices, fewer than the 6 in a batch"

    def test_a_structure_that_nobody_labeled(self, cases):
        write(cases["lab"].labels, np.where(make_labels() == 1, 0, make_labels()).astype(np.uint8))
        (finding,) = check(cases)
        assert (finding.level, finding.what) == (
            "warning",
            "'RV cavity' is in no labeled case, so that it cannot be learned",
        )


OBLIQUE = make_matrix(3) / np.array([*np.linalg.norm(make_matrix(3)[:3, :3], axis=0), 1])  # voxels of 1 mm


class TestSpacing:
    @pytest.mark.parametrize(
        ("shape", "matrix", "said"),
        [
            ((11, 256, 256), np.eye(4), "1 x 1 x 1 mm"),
            ((11, 256, 256), np.diag([-1, -1, 1, 1]), "1 x 1 x 1 mm"),  # as SimpleITK writes it
            ((256, 256, 11), np.eye(4), "1 x 1 x 1 mm"),
            ((40, 256, 256), np.eye(4), "1 x 1 x 1 mm"),
            ((11, 256, 256), OBLIQUE, "1 x 1 x 1 mm"),
            ((1, 256, 256), np.eye(4), "1 x 1 x 1 mm"),
            ((11, 256, 256), np.diag([1.4, 1.4, 1, 1]), "its 11 slices are 11 mm high in all"),
            ((256, 11, 256), np.diag([1.4, 0.1, 1.4, 1]), "its 11 slices are 1.1 mm high in all"),
        ],
    )
    def test_no_heart_fits_into_it(self, shape, matrix, said):
        what, hint = spacing_fault(Volume(np.zeros(shape, np.uint8), np.array(matrix, float)))
        assert said in what
        assert hint

    @pytest.mark.parametrize(
        ("shape", "matrix"),
        [
            ((88, 132, 175), np.diag([0.625, 0.625, 0.625, 1])),  # a left atrium, as narrow as they come
            ((120, 256, 256), np.eye(4)),  # resampled to 1 mm
            ((100, 256, 256), np.diag([0.5, 0.5, 0.6, 1])),  # CT
            ((3, 256, 256), np.diag([1.4, 1.4, 8, 1])),
            ((10, 192, 192), np.diag([1.0, 1.0, 10, 1])),
            ((1, 256, 256), OBLIQUE),  # a slice of a long axis
        ],
    )
    def test_what_scanners_make_is_no_reason_for_doubt(self, shape, matrix):
        assert spacing_fault(Volume(np.zeros(shape, np.uint8), np.array(matrix, float))) is None

    @pytest.mark.data
    @pytest.mark.skipif(not DATA.is_dir(), reason=f"no real volumes at {DATA}")
    @pytest.mark.parametrize("folder", ["scd", "la", "extras"])
    def test_real_volumes_are_no_reason_for_doubt(self, folder):
        for path in sorted((DATA / folder).rglob("*.nii.gz")):
            assert spacing_fault(read_series(path)[0]) is None, path


class TestLabelsElsewhere:
    """What is said of labels that lie on another grid than their image."""

    PLACED = np.array([[-1.5, 0, 0, 90], [0, -1.5, 0, 120], [0, 0, 8, -60], [0, 0, 0, 1.0]])

    @pytest.mark.parametrize(
        ("matrix", "copied"),
        [
            (np.eye(4), True),
            (np.diag([-1.0, -1, 1, 1]), True),
            (np.diag([1.5, 1.5, 8, 1]), True),  # their spacing is right, and their origin is none
            (PLACED + np.outer([8, 0, 0, 0], [0, 0, 0, 1]), False),
            (PLACED @ np.diag([1, 1, 0.5, 1]), False),
        ],
    )
    def test_labels_that_were_saved_without_a_place_get_that_of_the_image(self, cases, matrix, copied):
        write(cases["lab"].image, make_image(0), self.PLACED)
        write(cases["lab"].labels, make_labels(), matrix)
        (finding,) = check(cases)
        assert finding.what.startswith("image and labels do not lie on the same grid")
        assert ("copy the geometry from the header of the image" in finding.hint) == copied
        assert ("Resample" in finding.hint) != copied

    def test_labels_of_another_size_have_to_be_resampled(self, cases):
        write(cases["lab"].labels, make_labels((5, 40, 40)), np.eye(4))
        assert "Resample" in check(cases)[0].hint


class TestManyCases:
    def test_what_several_cases_have_in_common_is_said_once(self, cases):
        for number in range(5):
            image = write(cases["unl"].image.with_name(f"s{number}.nii.gz"), make_image(20 + number, (1, 40, 40)))
            cases[f"s{number}"] = Case(name=f"s{number}", patient=f"s{number}", image=image)
        (finding,) = check(cases)
        assert str(finding).startswith("warning: this is a single slice: it is used, but")
        assert "harder to find (s0, s1, s2 and 2 more). Take the whole stack" in str(finding)

    def test_an_error_keeps_the_path_of_its_first_file(self, cases):
        for name in ("unl", "unl2"):
            cases[name].image.unlink()
        (finding,) = check(cases)
        assert str(finding).startswith(f"error: unl: {cases['unl'].image}, and so in unl2: this file is missing")

    def test_two_files_of_one_case_are_two_findings(self, cases):
        cases["lab"].image.unlink()
        cases["lab"].labels.unlink()
        assert [finding.what for finding in check(cases)] == ["this file is missing"] * 2

    @pytest.mark.parametrize(
        ("error", "said"),
        [(MemoryError(), "not enough memory to read this file"), (PermissionError(13, "Permission denied"), "denied")],
    )
    def test_one_that_cannot_be_read_is_named_and_the_others_are_looked_at(self, cases, monkeypatch, error, said):
        original = case_reader.read_series

        def read(path: Path) -> list[Volume]:
            if path == cases["unl"].image:
                raise error
            return original(path)

        write(cases["unl2"].image, make_image(9, (1, 40, 40)))
        monkeypatch.setattr(case_reader, "read_series", read)
        first, second = check(cases)
        assert (first.level, first.where) == ("error", f"unl: {cases['unl'].image}")
        assert said in first.what
        assert second.what.startswith("this is a single slice")


def test_frames_of_one_file_are_read_once(cases, tmp_path, monkeypatch):
    write_series(tmp_path / "cine.nii.gz", [Volume(make_image(50 + index), MATRIX) for index in range(3)])
    cine = [Case(name=f"t{index}", patient="cine", image=tmp_path / "cine.nii.gz", frame=index) for index in range(4)]
    read = []
    original = case_reader.read_series
    monkeypatch.setattr(case_reader, "read_series", lambda path: read.append(path) or original(path))
    (finding,) = check_cases([cases["lab"], *cine], ACDC, SMALL_BATCHES)
    assert (finding.level, finding.what) == ("error", "there is no frame 3")
    assert len(read) == 2


def test_errors_come_first(cases):
    write(cases["unl"].image, make_image(9, (1, 40, 40)))
    cases["val"].image.unlink()
    assert [finding.level for finding in check(cases)] == ["error", "warning"]


class TestEnvironment:
    def test_names_what_a_bug_report_needs(self):
        found = check_environment("cpu")
        assert found["device"] == "cpu"
        assert {"system", "python", "torch", "numpy", "SimpleITK", "nibabel", "memory", "processors"} <= set(found)

    def test_cuda_where_there_is_none(self, monkeypatch):
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        with pytest.raises(UserError, match="CUDA") as caught:
            check_environment("cuda")
        assert "device cpu" in caught.value.hint

    def test_a_device_that_nobody_knows(self):
        with pytest.raises(UserError, match="gpu"):
            check_environment("gpu")


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real volumes at {DATA}")
def test_acdc_is_sound_but_for_the_patient_that_it_holds_twice():
    findings = check_cases(split(discover([DATA / "acdc"]), protocol="p70", labeled=7), ACDC)
    assert {finding.level for finding in findings} == {"warning"}
    assert [finding.where for finding in findings] == [
        "patient074_frame01 and patient076_frame01",
        "patient074_frame12 and patient076_frame12",
    ]
