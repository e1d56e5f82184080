"""Training on volumes: from the labels to a model, through interruptions, with every method and backbone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from semicardiac.base.errors import Stopped, UserError
from semicardiac.config import TrainConfig
from semicardiac.data.batches import DeviceBank
from semicardiac.data.cases import Case
from semicardiac.data.checks import check_cases
from semicardiac.data.slice_bank import SliceBank
from semicardiac.images.volumes import Volume, read_labels
from semicardiac.methods import registry
from semicardiac.models.model import load_model
from semicardiac.models.predict import segment
from semicardiac.training import recorded
from semicardiac.training.checkpoint import load_checkpoint
from semicardiac.training.previews import BAR, TILE, preview_slices, write_preview
from semicardiac.training.recenter import recenter
from semicardiac.training.step import Moment, see, train_step
from torch import Tensor

from Testing.engine.networks import (
    ACDC,
    BACKBONES,
    CPU,
    Thresholder,
    dice,
    heart,
    merged,
    new_batch,
    new_learner,
    same_weights,
    stop_after,
    tiny_volumes,
    waits,
    write_case,
)
from Testing.engine.support import engine_environment
from Testing.engine.training.support import history, run, weights

STEPS = 12


def config_of(**changes) -> TrainConfig:
    base = {"schedule": {"steps": STEPS, "warmup": 0.4}, "preprocess": {"spacing_mm": 2.0}}
    return tiny_volumes(**merged(base, changes))


def segmented(job: Path, *inputs: str, out: Path) -> subprocess.CompletedProcess:
    """A segmentation by the command line."""
    command = [sys.executable, "-m", "semicardiac", "segment", str(job), *inputs, "--device", "cpu", "--out", str(out)]
    return subprocess.run(command, env=engine_environment(), capture_output=True, encoding="utf-8", check=False)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, cases: tuple[Case, ...]) -> Path:
    """A training on thick stacks (8 mm, pixels of 2 mm) that ran through without interruption."""
    folder = tmp_path_factory.mktemp("volumes")
    run(folder, cases, config_of())
    return folder


class TestFromLabelsToModel:
    def test_the_block_is_chosen_from_the_labels_and_kept_in_the_package(self, job: Path):
        config = load_model(job).config
        # The columns of `draw_heart` fill 3 slices; of multiples of 2, 4 is the next.
        assert (config.preprocess.depth, config.preprocess.slice_mm) == (4, 8.0)
        assert config.network.anisotropy == 4.0
        assert config.shape == (4, 32, 32)

    def test_it_segments(self, job: Path):
        image, _ = heart(7, shape=(5, 40, 44), degrees=(30.0, 10.0, -20.0))
        found = segment(load_model(job), image, flips=True, maps=["confidence", "threshold"])
        assert found.labels.array.shape == image.array.shape
        assert found.maps["confidence"].array.max() <= 1 + 1e-5
        assert found.maps["threshold"].array.max() > 0

    def test_so_does_a_job_which_refuses_a_single_slice(self, tmp_path: Path, job: Path):
        for name, slices in (("stack", 4), ("thin", 1)):
            write_case(tmp_path, name, heart(3, shape=(slices, 40, 40))[0], None, "unlabeled")
        stack, thin = (str(tmp_path / f"{name}.nii.gz") for name in ("stack", "thin"))
        assert segmented(job, stack, out=tmp_path / "good").returncode == 0
        assert read_labels(tmp_path / "good" / "stack.nii.gz", ACDC).array.shape == (4, 40, 40)
        done = segmented(job, stack, thin, out=tmp_path / "bad")
        assert done.returncode == 2
        assert "single slice" in done.stderr
        assert (tmp_path / "bad" / "stack.nii.gz").exists()  # it is not kept from the others
        assert not (tmp_path / "bad" / "thin.nii.gz").exists()

    def test_its_history_has_the_terms_of_the_method(self, job: Path):
        last = history(job)[-1]
        assert int(last["step"]) == STEPS
        for name in ("loss_supervised", "loss_unsupervised", "loss_contrast", "threshold_mean"):
            assert np.isfinite(float(last[name])), name

    def test_it_learns(self, tmp_path: Path, validated: tuple[Case, ...]):
        config = config_of(
            schedule={"steps": 200},
            method={"name": "supervised"},
            network={"widths": (8, 16)},
            locate={"method": "center"},
            augment={"scale": (0.9, 1.1)},
        )
        summary = run(tmp_path / "job", validated, config)
        assert summary["validation_mean_dice"] > 0.7
        image, labels = heart(4)
        found = segment(load_model(tmp_path / "job"), image).labels.array
        assert dice(found == 2, labels.array == 2) > 0.7

    def test_the_spacing_that_is_asked_for_is_taken(self, tmp_path: Path, cases: tuple[Case, ...]):
        sides = {"slice_mm": 4.0, "depth": 8, "crop": 48}
        run(tmp_path / "job", cases, config_of(preprocess=sides, schedule={"steps": 2}, network={"anisotropy": 1.0}))
        config = load_model(tmp_path / "job").config
        assert (config.shape, config.preprocess.slice_mm, config.network.anisotropy) == ((8, 48, 48), 4.0, 1.0)


class TestInterruptions:
    @pytest.mark.parametrize("calls", [[4], [16, 12]])
    def test_stops_and_resumes_change_nothing(
        self, tmp_path: Path, cases: tuple[Case, ...], job: Path, calls: list[int]
    ):
        for call in calls:
            with pytest.raises(Stopped):
                run(tmp_path / "job", cases, config_of(), stop=stop_after(call))
        run(tmp_path / "job", cases, config_of())
        assert same_weights(weights(tmp_path / "job"), weights(job))

    def test_nor_does_a_crash_between_two_checkpoints(
        self, tmp_path: Path, cases: tuple[Case, ...], job: Path, monkeypatch: pytest.MonkeyPatch
    ):
        real = recorded.train_step

        def crashing(learner, *rest) -> Tensor:
            if learner.step == 8:
                raise OSError("no power")
            return real(learner, *rest)

        config = config_of(schedule={"checkpoint_s": 0.0})
        with monkeypatch.context() as patched:
            patched.setattr(recorded, "train_step", crashing)
            with pytest.raises(OSError, match="no power"):
                run(tmp_path / "job", cases, config)
        assert load_checkpoint(tmp_path / "job" / "checkpoint.pt", ACDC.names).step == 8
        run(tmp_path / "job", cases, config)
        assert same_weights(weights(tmp_path / "job"), weights(job))


class TestStart:
    def test_it_goes_on_from_a_model_with_its_kernels(self, tmp_path: Path, cases: tuple[Case, ...], job: Path):
        config = config_of(schedule={"steps": 2}, preprocess={"slice_mm": 5.0})
        run(tmp_path / "next", cases, config, start_from=job)
        assert load_model(tmp_path / "next").config.network.anisotropy == 4.0  # its own would be 2.5

    def test_from_a_model_of_slices_it_does_not(self, tmp_path: Path, cases: tuple[Case, ...], job: Path):
        flat = tiny_volumes(network={"dimensions": 2}, schedule={"steps": 2})
        run(tmp_path / "slices", cases, flat)
        with pytest.raises(UserError, match=r"slices \(network.dimensions=2\), not for volumes") as caught:
            run(tmp_path / "next", cases, config_of(), start_from=tmp_path / "slices")
        assert caught.value.where == str(tmp_path / "slices")
        with pytest.raises(UserError, match=r"volumes \(network.dimensions=3\), not for slices"):
            run(tmp_path / "other", cases, flat, start_from=job)


def method_config(name: str) -> TrainConfig:
    sure = {"fixmatch": {"threshold": 0.0}, "dptm_rem_cc": {"threshold_floor": 0.0, "class_floor": 4}}
    sides = {"depth": 8, "slice_mm": 4.0, "margin": 4}
    config = tiny_volumes(method={"name": name, **sure.get(name, {})}, preprocess=sides, network={"anisotropy": 2.0})
    return registry.complete(config)


@pytest.mark.parametrize("name", registry.METHODS)
def test_every_method_takes_a_step(name: str):
    config = method_config(name)
    learner = new_learner(config)
    learner.method.begin(100)
    labeled = new_batch(config, 2, 1, labeled=True)
    unlabeled = None
    if registry.METHODS[name].unlabeled:
        unlabeled = new_batch(config, 2, 2, labeled=False, views=learner.method.views)
    step = see(learner, config, CPU, labeled, unlabeled, Moment(0.7, 0.5))
    assert step.labeled.seen.shape == (2, 1, 8, 32, 32)
    assert step.labeled.label.shape == (2, 8, 32, 32)
    with waits() as found:
        log = train_step(learner, config, CPU, labeled, unlabeled, Moment(0.7, 0.5))
    assert found == []
    assert all(torch.isfinite(torch.as_tensor(value)).all() for value in log.values())
    assert all(parameter.grad.isfinite().all() for parameter in learner.student.parameters())
    assert any(parameter.grad.abs().sum() > 0 for parameter in learner.student.parameters())
    if unlabeled is not None:
        assert float(log["loss_unsupervised"]) > 0
    if (limits := learner.method.limits()) is not None:
        assert limits.shape == (4, 8, 32, 32)


def test_a_preview_shows_the_middle_slices(tmp_path: Path):
    config = method_config("dptm_rem_cc")
    learner = new_learner(config)
    clean = torch.zeros(2, 1, 8, 32, 32)
    write_preview(tmp_path / "preview.png", learner, config, CPU, clean, ACDC)
    picture = Image.open(tmp_path / "preview.png")
    assert picture.size == (4 * TILE, 2 * TILE + BAR)


def test_a_preview_shows_no_volume_twice():
    assert preview_slices(2, 6).tolist() == [2, 3, 4]
    assert preview_slices(0, 1).tolist() == [0]


@pytest.mark.parametrize("name", [backbone for backbone in BACKBONES if backbone != "unet"])
def test_backbones_of_monai(tmp_path: Path, cases: tuple[Case, ...], name: str):
    network = {"name": name, "widths": (8, 8, 8)}
    run(tmp_path / "job", cases, config_of(network=network, schedule={"steps": 2}, preprocess={"crop": None}))
    assert load_model(tmp_path / "job").config.preprocess.crop == (64 if name == "swinunetr" else 32)
    image = heart(0)[0]
    assert segment(load_model(tmp_path / "job"), image, flips=False).labels.array.shape == image.array.shape


class TestErrorsBeforeLongWork:
    @pytest.mark.parametrize(
        ("changes", "where", "what"),
        [
            ({"preprocess": {"crop": 48}, "network": {"widths": (4,) * 5}}, "preprocess.crop", "no multiple of the 32"),
            ({"preprocess": {"crop": 32, "depth": 5}}, "preprocess.depth", "no multiple of the 2"),
            ({"preprocess": {"spacing_mm": 0.25, "slice_mm": 0.25, "crop": None}}, "preprocess.spacing_mm", "voxels"),
        ],
    )  # fmt: skip
    def test_blocks_that_cannot_be(
        self,
        tmp_path: Path,
        cases: tuple[Case, ...],
        monkeypatch: pytest.MonkeyPatch,
        changes: dict,
        where: str,
        what: str,
    ):
        monkeypatch.setattr("semicardiac.training.choose_block.MOST_VOXELS", 10**6)
        monkeypatch.setattr("semicardiac.training.prepare.train_locator", None)
        with pytest.raises(UserError, match=what) as caught:
            run(tmp_path / "job", cases, config_of(**changes))
        assert caught.value.where == where
        assert caught.value.hint

    def test_a_single_slice(self, tmp_path: Path, cases: tuple[Case, ...]):
        image, labels = heart(9, shape=(1, 36, 40))
        thin = write_case(tmp_path, "thin_ed", image, labels, "labeled")
        (error,) = [each for each in check_cases([*cases, thin], ACDC, config_of()) if each.level == "error"]
        assert "single slice" in error.what
        assert error.case == "thin_ed"

    def test_one_labeled_volume_is_enough_and_unlabeled_ones_are_counted(self, tmp_path: Path, cases: tuple[Case, ...]):
        labeled, unlabeled = cases[0], cases[2]
        assert [each for each in check_cases([labeled, *cases[2:]], ACDC, config_of()) if each.level == "error"] == []
        (error,) = [each for each in check_cases([labeled, unlabeled], ACDC, config_of()) if each.level == "error"]
        assert "the unlabeled cases have 1 volume, fewer than the 2 in a batch" in error.what


def test_near_isotropic_volumes_are_learned_from_alike_in_all_directions(tmp_path: Path):
    cases = []
    for number, role in enumerate(("labeled", "unlabeled", "unlabeled")):
        image, labels = heart(number, shape=(18, 36, 40), spacing=(2.0, 2.0, 2.5))
        faded = np.array(labels.array)
        faded[:4] = faded[-4:] = 0
        seen = np.where(faded == labels.array, image.array, 30).astype(np.float32)
        kept = Volume(faded, labels.ijk_to_ras) if role == "labeled" else None
        cases.append(write_case(tmp_path / "data", f"p{number}_ed", Volume(seen, image.ijk_to_ras), kept, role))
    run(tmp_path / "job", tuple(cases), config_of(schedule={"steps": 3}, locate={"method": "center"}))
    config = load_model(tmp_path / "job").config
    assert (config.preprocess.slice_mm, config.network.anisotropy) == (2.0, 1.0)


class TestRecenter:
    """Blocks of the pool move onto what the teacher sees: here a bright box, away from the middle of its block."""

    def moved(self, away: tuple[int, int, int], before: tuple[int, int, int] = (0, 0, 0)) -> list[float]:
        config = tiny_volumes(preprocess={"depth": 8, "slice_mm": 4.0, "spacing_mm": 2.0, "margin": 8})
        images = np.zeros((2, 16, 48, 48), np.float16)  # a block of 8 x 32 x 32 and 4 x 8 x 8 around it
        place = tuple(
            slice(side // 2 - 2 + at, side // 2 + 2 + at) for side, at in zip((16, 48, 48), away, strict=True)
        )
        images[(1, *place)] = 2
        ranges = {"labeled": (0, 1), "pool": (1, 2)}
        slices = SliceBank(images, np.zeros((1, 16, 48, 48), np.uint8), ranges, {}, 48)
        bank = DeviceBank(slices, "cpu")
        bank.offsets[1] = torch.tensor(before, dtype=torch.float32)
        recenter(bank, slices, Thresholder(above=1.0), config, CPU)
        assert bank.offsets[0].tolist() == [0, 0, 0]  # labels say where that heart is
        return bank.offsets[1].tolist()

    @pytest.mark.parametrize("away", [(0, 0, 0), (2, -4, 5), (-1, 3, 0)])
    def test_onto_the_heart(self, away: tuple[int, int, int]):
        assert self.moved(away) == list(away)

    def test_by_no_more_than_the_margin(self):
        assert self.moved((5, 0, 9), before=(3, 0, 7)) == [4, 0, 8]
