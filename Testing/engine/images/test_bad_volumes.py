"""Files that are refused, and writing that fails."""

from __future__ import annotations

import gzip
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from semicardiac.base.errors import UserError
from semicardiac.images.volumes import Volume, read_labels, read_volume, write_labels, write_volume

from Testing.engine.images.support import FORMATS, make_volume
from Testing.engine.support import ACDC

NOT_DAMAGED = "^(?!.*damaged)"
"""What can be read, but is no volume, is called that: a copy of it would be no better."""


class TestBadFiles:
    @pytest.mark.parametrize("suffix", [*FORMATS, ".seg.nrrd"])
    @pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.97])
    def test_a_file_cut_short(self, tmp_path, suffix, share):
        """Also where the header and much of the voxels are there: ITK fills the rest of a NIfTI file with zeros."""
        path = tmp_path / f"a{suffix}"
        volume = Volume(np.random.default_rng(0).integers(0, 4, (6, 30, 30)).astype(np.uint8), np.eye(4))
        write_labels(path, volume, ACDC)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        for read in (lambda: read_volume(path), lambda: read_labels(path, ACDC)):
            with pytest.raises(UserError) as caught:
                read()
            assert caught.value.where == str(path)
            assert caught.value.hint

    def test_a_gzip_file_that_lacks_only_its_checksum(self, tmp_path):
        write_volume(tmp_path / "a.nii.gz", make_volume())
        whole = (tmp_path / "a.nii.gz").read_bytes()
        (tmp_path / "a.nii.gz").write_bytes(whole[:-4])
        with pytest.raises(UserError, match="cut short"):
            read_volume(tmp_path / "a.nii.gz")

    def test_a_flipped_bit(self, tmp_path):
        write_volume(tmp_path / "a.nii.gz", make_volume(shape=(5, 20, 20)))
        data = bytearray((tmp_path / "a.nii.gz").read_bytes())
        data[len(data) // 2] ^= 16
        (tmp_path / "a.nii.gz").write_bytes(data)
        with pytest.raises(UserError, match="damaged"):
            read_volume(tmp_path / "a.nii.gz")

    @pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.mha", "a.seg.nrrd"])
    @pytest.mark.parametrize(
        "content",
        [b"", b"<html>not found</html>", gzip.compress(b"no volume"), bytes(400)],
        ids=["empty", "page", "archive", "zeros"],
    )
    def test_not_a_volume(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match="damaged, cut short or not what its name says"):
            read_volume(tmp_path / name)

    @pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha", "folder"])
    def test_a_missing_file(self, tmp_path, name):
        for read in (lambda: read_volume(tmp_path / name), lambda: read_labels(tmp_path / name, ACDC)):
            with pytest.raises(UserError, match="missing"):
                read()

    def test_another_kind_of_file(self, tmp_path):
        (tmp_path / "a.png").write_bytes(b"x")
        with pytest.raises(UserError, match=r"not a volume file.*nii\.gz"):
            read_volume(tmp_path / "a.png")

    def test_rgb_nifti(self, tmp_path):
        rgb = np.zeros((4, 5, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        nib.save(nib.Nifti1Image(rgb, np.eye(4)), tmp_path / "a.nii.gz")
        with pytest.raises(UserError, match=f"{NOT_DAMAGED}.*RGB"):
            read_volume(tmp_path / "a.nii.gz")

    @pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz"])
    def test_vectors(self, tmp_path, suffix):
        sitk.WriteImage(
            sitk.GetImageFromArray(np.zeros((3, 5, 4, 2), np.float32), isVector=True), str(tmp_path / f"a{suffix}")
        )
        with pytest.raises(UserError, match=rf"{NOT_DAMAGED}.*one number in each voxel"):
            read_volume(tmp_path / f"a{suffix}")

    def test_complex(self, tmp_path):
        nib.save(nib.Nifti1Image(np.zeros((4, 5, 3), np.complex64), np.eye(4)), tmp_path / "a.nii.gz")
        with pytest.raises(UserError, match=f"{NOT_DAMAGED}.*type complex64"):
            read_volume(tmp_path / "a.nii.gz")

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_flat_images(self, tmp_path, suffix):
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros((5, 4), np.int16)), str(tmp_path / f"a{suffix}"))
        with pytest.raises(UserError, match=f"{NOT_DAMAGED}.*two-dimensional"):
            read_volume(tmp_path / f"a{suffix}")

    def test_label_values_that_are_not_in_the_set(self, tmp_path):
        write_volume(tmp_path / "a.nii.gz", Volume(np.full((1, 2, 3), 7, np.uint8), np.eye(4)))
        with pytest.raises(UserError, match=r"7 \(6 voxels\)") as caught:
            read_labels(tmp_path / "a.nii.gz", ACDC)
        assert caught.value.where == str(tmp_path / "a.nii.gz")


class TestWriting:
    @pytest.mark.parametrize("name", ["a.png", "a.dcm", "a", "a.mhd"])
    def test_names_of_other_formats(self, tmp_path, name):
        with pytest.raises(UserError, match=r"End it with .nii.gz"):
            write_volume(tmp_path / name, make_volume())
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("suffix", [*FORMATS, ".seg.nrrd"])
    def test_a_full_disk_leaves_what_was_there(self, tmp_path, monkeypatch, suffix):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(b"before")

        def half(data: object, place: object, *_: object, **__: object) -> None:
            Path(str(place)).write_bytes(b"half")
            raise RuntimeError("ITK ERROR: failed to write")

        def half_of_bytes(self: Path, data: bytes) -> None:
            with open(self, "wb") as file:
                file.write(data[:4])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("SimpleITK.WriteImage", half)
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
        monkeypatch.setattr(Path, "write_bytes", half_of_bytes if suffix.startswith(".nii") else Path.write_bytes)
        with pytest.raises(UserError, match="disk is full"):
            write_labels(path, Volume(np.zeros((1, 2, 2), np.uint8), np.eye(4)), ACDC)
        monkeypatch.undo()
        assert path.read_bytes() == b"before"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("suffix", [".nrrd", ".seg.nrrd", ".mha"])
    def test_a_writer_that_does_not_notice_the_full_disk(self, tmp_path, monkeypatch, suffix):
        """ITK loses what its buffers hold when the disk fills up with the last bytes, and reports success."""
        original = sitk.WriteImage

        def cut(image: sitk.Image, place: str, **options: object) -> None:
            original(image, place, **options)
            Path(place).write_bytes(Path(place).read_bytes()[:-200])

        monkeypatch.setattr("SimpleITK.WriteImage", cut)
        monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
        labels = Volume(np.random.default_rng(0).integers(0, 4, (3, 40, 40)).astype(np.uint8), np.eye(4))
        with pytest.raises(UserError, match="disk is full"):
            write_labels(tmp_path / f"a{suffix}", labels, ACDC)
        assert not list(tmp_path.iterdir())
