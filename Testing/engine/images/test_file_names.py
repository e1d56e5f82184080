"""Names of files as archives and other systems leave them, and names as long as the disk allows."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from semicardiac.base.errors import UserError
from semicardiac.data.checks import check_cases
from semicardiac.data.discover import discover
from semicardiac.images import image_files
from semicardiac.images.volumes import count_frames, read_labels, read_volume, stem, write_labels, write_volume
from semicardiac.jobs import segment
from semicardiac.jobs.job import SegmentJob, TrainJob, create_job, load_job
from semicardiac.jobs.run import run_job

from Testing.engine.images.support import make_volume
from Testing.engine.networks import Thresholder, model_of
from Testing.engine.support import ACDC, write_study

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".seg.nrrd")

latin = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are always text here")


def latin_1(folder: Path, name: str) -> Path:
    """A path whose name is Latin-1, where the system expects UTF-8."""
    return Path(os.fsdecode(os.fsencode(folder) + b"/" + name.encode("latin-1")))


@latin
class TestLatin1:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_volumes_are_written_and_read(self, tmp_path, suffix):
        path = latin_1(tmp_path, f"M\xfcller{suffix}")
        volume = make_volume(dtype=np.uint8).with_array(make_volume().array.astype(np.uint8) % 4)
        write_labels(path, volume, ACDC)
        assert [each.name for each in tmp_path.iterdir()] == [path.name]
        np.testing.assert_array_equal(read_labels(path, ACDC).array, volume.array)
        assert count_frames(path) == 1

    @pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
    def test_folders(self, tmp_path, suffix):
        folder = latin_1(tmp_path, "Aufnahmen f\xfcr M\xfcller")
        write_volume(folder / f"a{suffix}", make_volume())
        np.testing.assert_array_equal(read_volume(folder / f"a{suffix}").array, make_volume().array)

    @pytest.mark.parametrize("header", ["M\xfcller.mhd", "M\xfcller.nhdr"])
    def test_voxels_in_a_second_file(self, tmp_path, header):
        (tmp_path / "v.raw").write_bytes(np.arange(24, dtype="<i2").tobytes())
        texts = {
            "mhd": "NDims = 3\nDimSize = 2 3 4\nElementType = MET_SHORT\nElementDataFile = v.raw\n",
            "nhdr": "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 3 4\nendian: little\nencoding: raw\n"
            "data file: v.raw\n",
        }
        path = latin_1(tmp_path, header)
        path.write_text(texts[header.rpartition(".")[2]])
        np.testing.assert_array_equal(read_volume(path).array, np.arange(24).reshape(4, 3, 2))

    def test_it_takes_part_under_a_name_that_is_text(self, tmp_path):
        study = write_study(tmp_path / "study", labeled=1, unlabeled=1)
        scan = next((study / "patient002").glob("*.nii.gz"))
        shutil.move(scan, latin_1(scan.parent, "M\xfcller_ED.nii.gz"))
        cases = discover([study])
        assert [(case.name, case.patient) for case in cases][1] == ("Müller_ED", "Müller")
        assert not [each for each in check_cases(cases, ACDC) if "read" in each.what]
        folder = create_job(tmp_path / "job", TrainJob(cases=cases, labels=ACDC))
        assert load_job(folder).cases[1].image == cases[1].image

    def test_a_folder_with_one_is_segmented(self, tmp_path, monkeypatch):
        monkeypatch.setattr(segment, "load_model", lambda _: model_of(Thresholder()))
        monkeypatch.setattr(segment, "hash_of_model", lambda _: "00")
        study = write_study(tmp_path / "study", labeled=0, unlabeled=2)
        scan = next((study / "patient002").glob("*.nii.gz"))
        shutil.move(scan, latin_1(scan.parent, "M\xfcller.nii.gz"))
        job = SegmentJob(model=tmp_path, inputs=(study,), out=tmp_path / "out", suffix=".nrrd")
        assert run_job(create_job(tmp_path / "job", job)) == 0
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert names == {"Müller.nrrd", "patient001_frame01.nrrd", "volumes.csv"}


class TestLongNames:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("letter", ["a", "é"])
    def test_as_long_as_the_disk_allows(self, tmp_path, suffix, letter):
        room = (255 - len(suffix)) // len(letter.encode())
        path = tmp_path / (letter * room + suffix)
        volume = make_volume().with_array(make_volume().array % 4)
        write_labels(path, volume, ACDC)
        assert os.listdir(tmp_path) == [path.name]
        np.testing.assert_array_equal(read_labels(path, ACDC).array, volume.array)

    def test_longer_ones_are_an_error_of_the_user(self, tmp_path):
        with pytest.raises(UserError, match="too long"):
            write_volume(tmp_path / ("a" * 250 + ".nii.gz"), make_volume())
        with pytest.raises(UserError, match="cannot be read"):
            read_volume(tmp_path / ("a" * 250 + ".nii.gz"))

    def test_a_result_is_measured_before_the_first_is_written(self, tmp_path, monkeypatch):
        monkeypatch.setattr(segment, "load_model", lambda _: model_of(Thresholder()))
        monkeypatch.setattr(segment, "hash_of_model", lambda _: "00")
        study = write_study(tmp_path / "study", labeled=0, unlabeled=1)
        shutil.copy(next(study.rglob("*.nii.gz")), tmp_path / ("z" * 248 + ".nii.gz"))
        inputs_ = (study, tmp_path / ("z" * 248 + ".nii.gz"))
        job = SegmentJob(model=tmp_path, inputs=inputs_, out=tmp_path / "out", suffix=".seg.nrrd")
        assert run_job(create_job(tmp_path / "job", job)) == 2
        assert not os.listdir(tmp_path / "out")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_where_only_ascii_can_be_opened_other_names_are_opened_under_another(tmp_path, monkeypatch, suffix):
    """As on Windows, where ITK takes no other letters, and only administrators make links."""
    monkeypatch.setattr(image_files, "is_plain", lambda path: str(path).isascii())
    monkeypatch.setattr("os.symlink", lambda *_: (_ for _ in ()).throw(OSError("privilege")))
    path = tmp_path / "für Müller" / f"scan{suffix}"
    volume = make_volume().with_array(make_volume().array % 4)
    write_labels(path, volume, ACDC)
    np.testing.assert_array_equal(read_labels(path, ACDC).array, volume.array)
    assert stem(path) == "scan"
