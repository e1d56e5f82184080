"""The mean teacher: Eq. 1 by hand over several steps."""

from __future__ import annotations

import pytest
import torch
from semicardiac.methods.ema import Teacher
from semicardiac.models.unet import UNet
from torch import nn


class Scalar(nn.Module):
    """One weight and one buffer."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(value))
        self.register_buffer("seen", torch.tensor(0))

    def set(self, value: float) -> Scalar:
        with torch.no_grad():
            self.weight.fill_(value)
            self.seen.fill_(int(value))
        return self


def test_by_hand_over_several_steps():
    student = Scalar(1.0)
    teacher = Teacher(student, beta=0.3)
    # β_t = min(0.3, (t + 1) / (t + 10)): 2/11, 3/12, then 0.3
    expected = 1.0
    for step, (weight, beta) in enumerate(((3.0, 2 / 11), (8.0, 3 / 12), (0.0, 0.3), (-5.0, 0.3), (2.0, 0.3)), start=1):
        expected = beta * expected + (1 - beta) * weight
        teacher.update(student.set(weight), step)
        assert teacher.network.weight.item() == pytest.approx(expected, rel=1e-6)


def test_before_beta_is_reached_what_is_long_past_is_forgotten():
    student = Scalar(1.0)
    teacher = Teacher(student, beta=0.999)
    for step in range(1, 101):
        teacher.update(student, step)
    student.set(2.0)
    for step in range(101, 201):
        teacher.update(student, step)
    assert teacher.network.weight.item() == pytest.approx(2.0, abs=0.01)  # the plain mean would be 1.5


def test_buffers_are_copied_not_averaged():
    student = Scalar(1.0)
    teacher = Teacher(student, beta=0.9)
    teacher.update(student.set(5.0), 1)
    assert teacher.network.seen.item() == 5


def test_every_parameter_of_a_network_follows():
    torch.manual_seed(0)
    student = UNet(3, (4, 8))
    teacher = Teacher(student, beta=0.9)
    before = [parameter.clone() for parameter in teacher.network.parameters()]
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter))
    teacher.update(student, 100)
    for old, new, followed in zip(before, teacher.network.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * followed)


def test_it_is_a_copy_that_is_never_trained():
    student = UNet(2, (4, 8)).train()
    teacher = Teacher(student, beta=0.9)
    assert student.training
    assert not teacher.network.training
    assert not any(parameter.requires_grad for parameter in teacher.network.parameters())
    own = {parameter.data_ptr() for parameter in teacher.network.parameters()}
    assert own.isdisjoint(parameter.data_ptr() for parameter in student.parameters())
    frozen = [parameter.clone() for parameter in student.parameters()]
    teacher.update(student, 3)
    assert all(torch.equal(a, b) for a, b in zip(frozen, student.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in student.parameters())


def test_a_teacher_of_weights_that_do_not_change_does_not_drift():
    student = Scalar(0.1)
    teacher = Teacher(student, beta=0.99)
    for step in range(1, 500):
        teacher.update(student, step)
    assert teacher.network.weight.item() == student.weight.item()
