"""Supervised training on the labeled slices alone: what every method is compared with."""

from __future__ import annotations

from torch import Tensor

from .method import Method, Step, Taught, Term


class Supervised(Method):
    """Has nothing to say of unlabeled slices."""

    def teach(self, step: Step) -> Taught:
        return Taught({})

    def losses(self, step: Step, target: dict[str, Tensor]) -> dict[str, Term]:
        return self.warm_up(step)
