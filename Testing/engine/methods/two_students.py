"""A method of the tests, with all that one can have: a second network, a buffer, two views (Chen 2021; CPS)."""

from __future__ import annotations

import sys

import torch
from semicardiac.methods import registry
from semicardiac.methods.method import Facts, Method, MethodSettings, Step, Taught, Term
from torch import Tensor, nn

NAME = "two_students"
MODULES = {f"{registry.__package__}.{NAME}": sys.modules[__name__]}
"""To be put into `sys.modules`: where the registry looks for it."""
METHODS = {NAME: registry.Entry(f"{NAME}:TwoStudents", "Two students", "of the tests")}
"""To be put into the registry."""


class TwoStudents(Method):
    """Each network learns the other's labels."""

    class Settings(MethodSettings):
        """One of its own."""

        lambda_u: float = 1.0

    views = 2

    def __init__(self, settings: Settings, facts: Facts) -> None:
        super().__init__(settings, facts)
        self.second = facts.build()
        self.register_buffer("seen", torch.zeros(()))

    def teach(self, step: Step) -> Taught:
        answers = [step.student(step.unlabeled.clean)[0], step.run(self.second, step.unlabeled.clean)[0]]
        labels = [step.unlabeled.move(logits.argmax(1), view) for view, logits in enumerate(answers)]
        return Taught({"first": labels[0], "second": labels[1]}, {"seen": self.seen + step.unlabeled.whole})

    def losses(self, step: Step, target: dict[str, Tensor]) -> dict[str, Term]:
        labeled, unlabeled, _ = step.answers()
        count, seen = len(step.labeled), torch.cat((step.labeled.seen, step.unlabeled.seen[1]))
        other, _ = step.run(self.second, seen)
        crossed = nn.functional.cross_entropy(unlabeled, target["second"])
        crossed = crossed + nn.functional.cross_entropy(other[count:], target["first"])
        terms = {"supervised": self.supervised(labeled, step), "crossed": Term(crossed, step.ramp)}
        return terms | {"second": self.supervised(other[:count], step)}
