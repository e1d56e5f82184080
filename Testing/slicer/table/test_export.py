"""Cases of the scene as files of a job."""

from __future__ import annotations

import os
import re

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")

from semicardiac.data.cases import load_image, load_labels
from semicardiac.images.labels import get_label_set
from semicardiac.images.volumes import read_volume, write_volume
from SemiCardiacSegLib.table.case_table import DataSet
from SemiCardiacSegLib.table.export import SafeNames, writeCases

from Testing.slicer.datasets import makeDataSet, writeImage
from Testing.slicer.scenes import (
    SHAPE,
    heartLabels,
    makeHeartSegmentation,
    makeSegmentation,
    makeSequence,
    makeTransform,
    makeVolume,
    matrixOf,
    obliqueMatrix,
    saveAndReload,
)

pytestmark = pytest.mark.usefixtures("scene")
ACDC = get_label_set("acdc")
MMWHS = get_label_set("mmwhs")

_manySeeds = settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def dataSet(scene) -> DataSet:
    return makeDataSet()


def addLabeled(dataSet: DataSet, name: str = "patient001_ED", **options):
    volume = makeVolume(name, **options)
    return dataSet.addVolume(volume, makeHeartSegmentation(volume))


def matrixBySimpleITK(path) -> np.ndarray:
    """IJK to RAS, point by point."""
    image = sitk.ReadImage(str(path))
    points = [
        image.TransformContinuousIndexToPhysicalPoint(ijk) for ijk in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    ]
    origin, *steps = (np.array(point) * (-1, -1, 1) for point in points)
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([*(step - origin for step in steps), origin])
    return matrix


class TestVolumes:
    @_manySeeds
    @given(seed=st.integers(0, 10_000), leftHanded=st.booleans(), dtype=st.sampled_from(["uint8", "int16", "float32"]))
    def test_geometry_and_voxels_are_those_of_the_node(self, dataSet, tmp_path, seed, leftHanded, dtype):
        array = np.random.default_rng(seed).integers(0, 200, SHAPE).astype(dtype)
        matrix = obliqueMatrix(seed, leftHanded=leftHanded)
        dataSet.remove([row.key for row in dataSet.rows()])
        addLabeled(dataSet, "a", array=array, matrix=matrix)
        (case,) = writeCases(dataSet, tmp_path / str(seed))
        node = dataSet.rows()[0].volumeNode
        np.testing.assert_allclose(matrixBySimpleITK(case.image), matrixOf(node), atol=1e-6)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(case.image))), array)
        np.testing.assert_allclose(matrixBySimpleITK(case.labels), matrixOf(node), atol=1e-6)
        np.testing.assert_array_equal(load_labels(case, ACDC).array, heartLabels())

    def test_geometry_by_nibabel(self, dataSet, tmp_path):
        """The engine reads what was written; nibabel then sees the same as the node."""
        addLabeled(dataSet, matrix=obliqueMatrix(7))
        (case,) = writeCases(dataSet, tmp_path)
        write_volume(tmp_path / "a.nii", load_image(case))
        image = nib.load(tmp_path / "a.nii")
        np.testing.assert_allclose(image.affine, obliqueMatrix(7), atol=1e-4)  # NIfTI holds single precision
        node = dataSet.rows()[0].volumeNode
        np.testing.assert_array_equal(np.asarray(image.dataobj), slicer.util.arrayFromVolume(node).T)

    def test_gantry_tilt(self, dataSet, tmp_path):
        """Axes that are not at right angles are kept, too."""
        matrix = obliqueMatrix(3)
        matrix[:3, 2] += 0.3 * matrix[:3, 1]
        addLabeled(dataSet, matrix=matrix)
        (case,) = writeCases(dataSet, tmp_path)
        np.testing.assert_allclose(matrixOf(dataSet.rows()[0].volumeNode), matrix, atol=1e-9)
        np.testing.assert_allclose(read_volume(case.image).ijk_to_ras, matrix, atol=1e-6)

    def test_slicer_reads_it_to_the_same_place(self, dataSet, tmp_path):
        addLabeled(dataSet, matrix=obliqueMatrix(5))
        (case,) = writeCases(dataSet, tmp_path)
        node = slicer.util.loadVolume(str(case.image), {})
        bounds, expected = np.zeros(6), np.zeros(6)
        node.GetRASBounds(bounds)
        dataSet.rows()[0].volumeNode.GetRASBounds(expected)
        np.testing.assert_allclose(bounds, expected, atol=1e-6)

    def test_after_the_scene_was_saved(self, dataSet, tmp_path):
        addLabeled(dataSet)
        saveAndReload(tmp_path / "scene.mrb")
        (case,) = writeCases(dataSet, tmp_path / "job")
        np.testing.assert_allclose(
            read_volume(case.image).ijk_to_ras, matrixOf(dataSet.rows()[0].volumeNode), atol=1e-6
        )
        np.testing.assert_array_equal(load_labels(case, ACDC).array, heartLabels()[::-1])


class TestLabels:
    def test_files_hold_source_values(self, dataSet, tmp_path):
        labels = np.random.default_rng(0).integers(0, MMWHS.classes, SHAPE).astype(np.uint8)
        dataSet.setLabelSet("mmwhs")
        volume = makeVolume()
        masks = {name: labels == label for label, name in enumerate(MMWHS.names, start=1)}
        dataSet.addVolume(volume, makeSegmentation(volume, dict(reversed(masks.items()))))
        (case,) = writeCases(dataSet, tmp_path)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(case.labels))), MMWHS.to_source(labels))
        np.testing.assert_array_equal(load_labels(case, MMWHS).array, labels)

    def test_mapping_of_the_user(self, dataSet, tmp_path):
        row = addLabeled(dataSet)
        dataSet.setMapping(row.key, {"S1": "LV cavity"})
        (case,) = writeCases(dataSet, tmp_path)
        np.testing.assert_array_equal(load_labels(case, ACDC).array == 3, heartLabels() == 1)

    def test_unlabeled_cases_have_none(self, dataSet, tmp_path):
        addLabeled(dataSet, "a")
        dataSet.setRole([addLabeled(dataSet, "b").key], "unlabeled")
        labeled, unlabeled = writeCases(dataSet, tmp_path)
        assert labeled.labels.name == "a_labels.nrrd"
        assert unlabeled.labels is None
        assert sorted(os.listdir(tmp_path / "data")) == ["a.nrrd", "a_labels.nrrd", "b.nrrd"]


class TestCases:
    def test_what_the_table_says(self, dataSet, tmp_path):
        row = addLabeled(dataSet, "patient001 ED")
        dataSet.setPatient(row.key, "Müller")
        dataSet.setRole([row.key], "validation")
        addLabeled(dataSet, "patient002_frame01")
        validation, labeled = writeCases(dataSet, tmp_path)
        assert (validation.name, validation.patient, validation.role, validation.phase) == (
            ("patient001_ED", "Müller", "validation", "ED")
        )
        assert (labeled.name, labeled.patient, labeled.role, labeled.phase) == (
            ("patient002_frame01", "patient002", "labeled", None)
        )

    def test_ignored_cases_are_left_out(self, dataSet, tmp_path):
        addLabeled(dataSet, "a")
        dataSet.setRole([addLabeled(dataSet, "b").key], "ignore")
        assert [case.name for case in writeCases(dataSet, tmp_path)] == ["a"]

    def test_frames_of_a_sequence(self, dataSet, tmp_path):
        addLabeled(dataSet, "other")
        frames = [np.full(SHAPE, index, np.int16) for index in range(3)]
        dataSet.addSequence(makeSequence(frames, obliqueMatrix(9), "patient007_4d"))
        cases = writeCases(dataSet, tmp_path)[1:]
        assert [case.name for case in cases] == [f"patient007_4d_frame0{number}" for number in (1, 2, 3)]
        assert {(case.patient, case.role, case.labels, case.frame) for case in cases} == {
            ("patient007", "unlabeled", None, None)
        }
        for frame, case in zip(frames, cases, strict=True):
            np.testing.assert_array_equal(load_image(case).array, frame)
            np.testing.assert_allclose(load_image(case).ijk_to_ras, obliqueMatrix(9), atol=1e-6)

    def test_files_stay_where_they_are(self, dataSet, tmp_path):
        writeImage(tmp_path / "study" / "patient001_frame01.nrrd")
        writeImage(tmp_path / "study" / "patient001_frame01_gt.nrrd", heartLabels())
        for index in range(30):
            writeImage(tmp_path / "pool" / f"patient{index + 10:03d}.nrrd")
        dataSet.addPaths([tmp_path / "study", tmp_path / "pool"])
        cases = writeCases(dataSet, tmp_path / "job")
        assert len(cases) == 31
        assert cases[0].labels == tmp_path / "study" / "patient001_frame01_gt.nrrd"
        assert {case.image.parent for case in cases[1:]} == {tmp_path / "pool"}
        assert {case.role for case in cases[1:]} == {"unlabeled"}
        assert not (tmp_path / "job").exists()

    def test_frames_of_a_4d_file(self, dataSet, tmp_path):
        addLabeled(dataSet, "other")
        array = np.arange(3 * np.prod(SHAPE), dtype=np.int16).reshape(3, *SHAPE)
        nib.save(nib.Nifti1Image(array.T, np.eye(4)), tmp_path / "patient009_4d.nii.gz")
        dataSet.addPaths([tmp_path / "patient009_4d.nii.gz"])
        cases = writeCases(dataSet, tmp_path / "job")[1:]
        assert [case.frame for case in cases] == [0, 1, 2]
        np.testing.assert_array_equal(load_image(cases[1]).array, array[1])

    def test_scene_stays_as_it_is(self, dataSet, scene, tmp_path):
        addLabeled(dataSet)
        dataSet.addSequence(makeSequence([np.zeros(SHAPE)]))
        dataSet.allProblems()
        heard = []
        scene.AddObserver("AnyEvent", lambda caller, event: heard.append(event))
        nodes = [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]
        times = [node.GetMTime() for node in nodes]
        writeCases(dataSet, tmp_path)
        assert heard == []
        assert [node.GetMTime() for node in nodes] == times


class TestNames:
    def test_same_names_and_strange_ones(self, dataSet, tmp_path):
        names = [
            "Jörg Müller/ED",
            "Jorg Muller ED",
            "jorg_muller_ed",
            "心臓",
            "../../etc",
            "a" * 300,
            "CON",
            "x_labels",
            "x",
        ]
        for name in names:
            addLabeled(dataSet, name)
        cases = writeCases(dataSet, tmp_path)
        assert len({case.name.lower() for case in cases}) == len(names)
        for case in cases:
            assert re.fullmatch(r"[0-9A-Za-z._-]{1,64}", case.name)
            assert case.image.parent == case.labels.parent == tmp_path / "data"
            assert load_image(case).array.shape == SHAPE
        assert len(os.listdir(tmp_path / "data")) == 2 * len(names)
        assert cases[0].name == "Jorg_Muller_ED"

    def test_long_names_end_in_a_letter(self):
        assert SafeNames()("a" * 59 + ". b") == "a" * 59

    @given(st.lists(st.text(max_size=80), max_size=30))
    def test_any_names(self, names):
        safe = SafeNames()
        made = [safe(name) for name in names]
        assert len({name.lower() for name in made}) == len(names)
        for name in made:
            assert re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z._-]*", name)
            assert name.split(".")[0].upper() not in ("CON", "NUL", "COM1")
            assert not name.endswith(".")

    def test_files_and_nodes_of_one_name(self, dataSet, tmp_path):
        addLabeled(dataSet, "patient001_ED")
        writeImage(tmp_path / "study" / "patient001_ED.nrrd")
        dataSet.addPaths([tmp_path / "study"])
        assert [case.name for case in writeCases(dataSet, tmp_path)] == ["patient001_ED", "patient001_ED_2"]

    def test_folder_with_spaces_and_other_letters(self, dataSet, tmp_path):
        addLabeled(dataSet)
        (case,) = writeCases(dataSet, tmp_path / "Ergebnisse für Jörg 心")
        assert load_labels(case, ACDC).array.any()


class TestFailure:
    def test_errors_of_the_table(self, dataSet, tmp_path):
        row = addLabeled(dataSet, "moved")
        row.volumeNode.SetAndObserveTransformNodeID(makeTransform().GetID())
        dataSet.addVolume(makeVolume("bare"), role="labeled")
        with pytest.raises(ValueError, match=r"moved: The volume 'moved' lies .* \(More errors in the table: 1\)"):
            writeCases(dataSet, tmp_path / "job")
        assert not (tmp_path / "job").exists()

    def test_nothing_half_made_stays(self, dataSet, tmp_path):
        addLabeled(dataSet, "a")
        addLabeled(dataSet, "b")
        (tmp_path / "data" / "b.nrrd").mkdir(parents=True)  # in the way
        with pytest.raises(OSError, match=r"b\.nrrd"):
            writeCases(dataSet, tmp_path)
        assert os.listdir(tmp_path / "data") == ["b.nrrd"]

    def test_folder_that_is_a_file(self, dataSet, tmp_path):
        addLabeled(dataSet)
        (tmp_path / "job").write_text("mine", encoding="utf-8")
        with pytest.raises((ValueError, OSError)):
            writeCases(dataSet, tmp_path / "job")
        assert (tmp_path / "job").read_text(encoding="utf-8") == "mine"
