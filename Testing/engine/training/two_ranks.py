"""What two processes check of each other: `python -m Testing.engine.training.two_ranks` in each, as torchrun starts it.

Prints what failed, by the name of the check, as JSON.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from semicardiac.base.errors import Stopped, UserError
from semicardiac.base.events import EventLog, Warned, read_events
from semicardiac.base.ranks import current_rank
from semicardiac.config import TrainConfig
from semicardiac.data.batches import Batch
from semicardiac.methods import registry
from semicardiac.training import loop, recorded
from semicardiac.training.ranks import Ranks, joined
from semicardiac.training.step import Learner, Moment, train_step
from semicardiac.training.train import train
from torch import nn
from torch.testing import assert_close

from Testing.engine.methods import two_students
from Testing.engine.networks import CPU, Spec, new_batch, new_learner, tiny_config, write_cases

LABELED, UNLABELED = 5, 7
"""Slices in a batch: the second process has fewer than the first."""


def shared(batch: Batch, ranks: Ranks) -> Batch:
    """What a process has of a batch."""
    share = ranks.share(len(batch.image))
    image, label, offset = (None if each is None else each[share.cut] for each in batch[:3])
    return Batch(image, label, offset, tuple(view.part(share.cut) for view in batch.views), share)


def config_of(name: str, **changes) -> TrainConfig:
    sure = {"fixmatch": {"threshold": 0.0}, "dptm_rem_cc": {"threshold_floor": 0.0, "class_floor": 4}}
    return registry.complete(tiny_config(method={"name": name, **sure.get(name, {}), **changes}))


def weights_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return dict([*module.named_parameters(), *module.named_buffers()])


def steps_equal_those_of_one_process(name: str, ranks: Ranks, chunks: int = 1, **settings) -> None:
    """A step on labeled slices alone and two with unlabeled ones; each process also does them on its own, in full."""
    config = config_of(name, **settings)
    alone, ours = new_learner(config), new_learner(config)
    ours.ranks, ours.chunks = ranks, chunks
    for number, moment in enumerate([Moment(), Moment(0.7, 0.5), Moment(1.0, 0.6)]):
        labeled, unlabeled = new_batch(config, LABELED, number, labeled=True), None
        if number and registry.METHODS[config.method.name].unlabeled:
            unlabeled = new_batch(config, UNLABELED, 10 + number, labeled=False, views=ours.method.views)
        if number == 1:
            alone.method.begin(100)
            ours.method.begin(100)
        expected = train_step(alone, config, CPU, labeled, unlabeled, moment)
        log = train_step(ours, config, CPU, shared(labeled, ranks), unlabeled and shared(unlabeled, ranks), moment)
        assert_close(log, expected, rtol=1e-4, atol=1e-5)
    pairs = [(each.student, each.teacher.network, each.method) for each in (ours, alone)]
    for one, other in zip(*pairs, strict=True):
        assert_close(weights_of(one), weights_of(other), rtol=1e-3, atol=5e-5)
    mine = torch.cat([each.detach().flatten() for each in ours.student.parameters()])
    firsts = mine.clone()
    ranks.copy_first([firsts])
    assert torch.equal(mine, firsts), "the processes have drifted apart"


def gathered_slices_are_in_the_order_of_the_batch(ranks: Ranks) -> None:
    batch = torch.arange(10.0).view(5, 2)
    share = ranks.share(5)
    assert torch.equal(share.gather(batch[share.cut]), batch)
    assert torch.equal(share.total(batch[share.cut].sum(0)), batch.sum(0))


def a_part_has_the_slices_of_all(ranks: Ranks) -> None:
    share = ranks.share(7)
    parts = [share.part(slice(number, None, 3)) for number in range(3)]
    assert [part.slices for part in parts] == [3, 2, 2]  # 0 1 6, 2 3, 4 5
    own = torch.arange(7.0)[share.cut]
    found = [part.gather(own[number::3]).tolist() for number, part in enumerate(parts)]
    assert found == [[0, 1, 6], [2, 3], [4, 5]]


def gradients_of_parameters_that_took_no_part_stay_none(ranks: Ranks) -> None:
    used, unused = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(3))
    used.grad = torch.full((2, 2), float(ranks.rank.number + 1))
    numbers = ranks.add_up_step([used, unused], {"loss": torch.tensor(0.5), "own": torch.tensor([1.0, 2.0])})
    assert torch.equal(used.grad, torch.full((2, 2), 3.0))
    assert unused.grad is None
    assert_close(numbers, {"loss": torch.tensor(1.0), "own": torch.tensor([2.0, 4.0])})


def the_first_decides_and_any_may_ask(ranks: Ranks) -> None:
    share = 1 / 3 if ranks.rank.first else 0.9  # by another clock
    assert ranks.agree(share, True, asked=False) == ([1 / 3, 1.0], False)
    for asking in range(2):
        assert ranks.agree(asked=ranks.rank.number == asking) == ([], True)


def all_get_what_the_first_makes(ranks: Ranks) -> None:
    made = ranks.by_first(lambda: {"rank": ranks.rank.number, "weights": torch.ones(3)})
    assert made["rank"] == 0
    assert torch.equal(made["weights"], torch.ones(3))
    assert ranks.by_first(lambda: None) is None


def in_turn_the_others_come_after_the_first(ranks: Ranks) -> None:
    assert ranks.in_turn(lambda: ranks.rank.number) == ranks.rank.number


def what_the_first_cannot_do_ends_the_others_as_a_stop(ranks: Ranks) -> None:
    def fail() -> None:
        raise UserError("the disk is full")

    with pytest.raises(UserError if ranks.rank.first else Stopped):
        ranks.by_first(fail)


def memory_that_one_lacks_halves_the_batches_of_all(ranks: Ranks) -> None:
    folder = ranks.by_first(lambda: Path(tempfile.mkdtemp()))
    cases = ranks.by_first(lambda: write_cases(folder / "study"))
    real, shared_steps = loop.train_step, []

    def scarce(learner: Learner, *rest) -> dict:
        if ranks.rank.number == 1 and learner.chunks == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if learner.ranks is ranks:
            shared_steps.append(learner.chunks)
        return real(learner, *rest)

    events = EventLog(folder / "events.jsonl") if ranks.rank.first else EventLog()
    spec = Spec(cases, tiny_config(schedule={"steps": 10, "warmup": 0.5}))
    with patch.object(loop, "train_step", scarce), patch.object(recorded, "train_step", scarce):
        summary = train(folder, spec, events, lambda: False, ranks=ranks)
    assert summary["steps"] == 10
    assert shared_steps == [2] * 10
    told = [event.warning for event in read_events(folder / "events.jsonl") if isinstance(event, Warned)]
    assert [text.partition(":")[0] for text in told] == ["out of memory"]
    ranks.by_first(lambda: shutil.rmtree(folder))


CHECKS: dict[str, Callable[[Ranks], None]] = {
    check.__name__: check
    for check in (
        gathered_slices_are_in_the_order_of_the_batch,
        a_part_has_the_slices_of_all,
        gradients_of_parameters_that_took_no_part_stay_none,
        the_first_decides_and_any_may_ask,
        all_get_what_the_first_makes,
        in_turn_the_others_come_after_the_first,
        what_the_first_cannot_do_ends_the_others_as_a_stop,
        memory_that_one_lacks_halves_the_batches_of_all,
    )
}


def of_methods() -> Iterator[tuple[str, Callable[[Ranks], None]]]:
    """A check for each method, and one with the batch in parts: there Dice and negatives would be those of a part."""
    for name in (*registry.METHODS, two_students.NAME):
        plain = {"supervised": "ce", **({"contrast": False} if name == registry.DEFAULT else {})}
        yield name, partial(steps_equal_those_of_one_process, name)
        yield f"{name} in parts", partial(steps_equal_those_of_one_process, name, chunks=2, **plain)
    yield "student as key", partial(steps_equal_those_of_one_process, registry.DEFAULT, contrast_key="student")


CHECKS |= of_methods()


def main() -> None:
    sys.modules.update(two_students.MODULES)
    registry.METHODS.update(two_students.METHODS)
    failed = {}
    with joined(current_rank()) as ranks:
        for name, check in CHECKS.items():
            try:
                check(ranks)
            except Exception:
                failed[name] = traceback.format_exc()
    print(json.dumps(failed))


if __name__ == "__main__":
    main()
