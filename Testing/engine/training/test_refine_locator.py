"""The locator learns from the teacher: what it is shown lies where the hearts are, and no interruption changes it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from semicardiac.base.errors import Stopped
from semicardiac.base.events import EventLog
from semicardiac.data.batches import DeviceBank
from semicardiac.data.cases import Case
from semicardiac.data.slices import as_stack, sample_labels
from semicardiac.images.volumes import Volume
from semicardiac.training import refine_locator as refining
from semicardiac.training.context import Context
from semicardiac.training.locator import refine_share
from semicardiac.training.prepare import prepare
from semicardiac.training.recenter import recenter
from semicardiac.training.refine_locator import refine_locator
from semicardiac.training.schedule import Budget
from torch import Tensor, nn

from Testing.engine.networks import ACDC, dice, heart, same_weights, stop_after, tiny_config, weights_of, write_case

CONFIG = tiny_config(locate={"steps_max": 4}, preprocess={"crop": 48})


class ByBrightness(nn.Module):
    """Knows the structures of the drawn hearts by their gray values."""

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        structure = torch.bucketize(image[:, 0], torch.tensor([0.1, 1.1, 2.1]))  # dark, myocardium, RV, LV
        label = torch.tensor([0, 2, 1, 3])[structure]
        return nn.functional.one_hot(label, 4).movedim(-1, 1) * 20.0, image


class Blind(nn.Module):
    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tensor([9.0, 0, 0, 0]).view(1, 4, 1, 1).expand(len(image), -1, *image.shape[2:]), image


def drawn(number: int) -> tuple[Volume, Volume]:
    """A heart away from the middle of its image, which has a size of its own."""
    image, labels = heart(number, shape=(2 + number % 2, 44, 48))
    wide = ((0, 0), (3 * number, 18), (4, 5 * number))
    noise = np.random.default_rng(number).normal(30, 10, np.pad(image.array, wide).shape)
    padded = np.where(np.pad(np.ones_like(image.array), wide) > 0, np.pad(image.array, wide), noise)
    return Volume(padded.astype(np.float32), image.ijk_to_ras), Volume(np.pad(labels.array, wide), image.ijk_to_ras)


@pytest.fixture
def stage(tmp_path: Path) -> SimpleNamespace:
    """One labeled and three unlabeled patients after the first stage, crops on the hearts as the teacher sees them."""
    truth: dict[str, Volume] = {}
    cases: list[Case] = []
    for number in range(4):
        image, labels = drawn(number)
        role = "labeled" if number == 0 else "unlabeled"
        case = write_case(tmp_path / "data", f"p{number}_ed", image, labels if number == 0 else None, role)
        middle = labels.ijk_to_ras @ (*(np.argwhere(labels.array > 0).mean(0)[::-1]), 1)
        near = middle[:3] + np.array([6, -8, 0])  # the crop is first not quite where it should be
        roi = tuple(float(x) for bound in zip(near - 30, near + 30, strict=True) for x in bound)
        cases.append(case if number == 0 else case.model_copy(update={"roi": roi}))
        truth[case.name] = labels
    torch.manual_seed(0)
    budget = Budget(CONFIG.schedule, refine_share(CONFIG, 1))
    ready = prepare(Context(tmp_path / "work", cases, ACDC, CONFIG, budget, EventLog(), lambda: False), "cpu")
    bank = DeviceBank(ready.bank, "cpu")
    recenter(bank, ready.bank, ByBrightness(), ready.config, ready.plan)
    first = weights_of(ready.locator)

    def run(teacher: nn.Module | None = None, stop=lambda: False, folder: str = "work") -> dict[str, Tensor]:
        ready.locator.load_state_dict(first)
        context = Context(tmp_path / folder, cases, ACDC, CONFIG, budget, EventLog(), stop)
        refine_locator(context, ready, bank, teacher or ByBrightness())
        return weights_of(ready.locator)

    return SimpleNamespace(
        run=run, first=first, truth=truth, bank=bank, ready=ready, folder=tmp_path / "work", cases=cases
    )


def test_what_it_learns_from_lies_where_the_hearts_are(stage: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    assert stage.bank.offsets.abs().max() >= 2  # the crops were moved
    shown = []
    monkeypatch.setattr(refining, "train_locator", lambda network, bank, *rest, **more: shown.append(bank))
    stage.run()
    (bank,) = shown
    assert len(bank.images) == len(bank.labels) == 2 + 3 + 2 + 3
    slices = {2: [], 3: []}
    for labels in stage.truth.values():
        stack = as_stack(labels.with_array((labels.array > 0).astype(np.uint8)), "acquired")
        spacing, size = CONFIG.locate.spacing_mm, CONFIG.locate.size
        slices[len(stack.array)].append(sample_labels(stack, stack.middle, spacing, size, 2))
    left = [mask for masks in slices.values() for mask in masks]
    at = 2  # behind the labeled volume
    while at < len(bank.labels):  # the volumes of the pool come in an order of their own
        scores = [
            (dice(bank.labels[at : at + len(mask)] > 0, mask > 0), index)
            for index, mask in enumerate(left)
            if at + len(mask) <= len(bank.labels)
        ]
        best, index = max(scores)
        assert best > 0.85
        at += len(left.pop(index))
    assert len(left) == 1  # that of the labeled volume


def test_the_locator_changes_and_is_kept(stage: SimpleNamespace, monkeypatch: pytest.MonkeyPatch):
    learned = stage.run()
    assert not same_weights(learned, stage.first)
    assert not stage.ready.locator.training
    monkeypatch.setattr(refining, "train_locator", None)  # would fail if called
    assert same_weights(stage.run(), learned)


def test_hearts_that_are_not_plausible_teach_nothing(stage: SimpleNamespace):
    assert same_weights(stage.run(Blind()), stage.first)
    assert not (stage.folder / refining.WEIGHTS).exists()


@pytest.mark.parametrize("call", [1, 3, 5, 6])
def test_a_stop_and_a_second_run_give_what_one_run_gives(stage: SimpleNamespace, call: int):
    with pytest.raises(Stopped):
        stage.run(stop=stop_after(call))
    assert not (stage.folder / refining.WEIGHTS).exists()
    assert same_weights(stage.run(), stage.run(folder="other"))
