"""The mean teacher (Tarvainen & Valpola, NeurIPS 2017): agree with the average of one's own past.

The paper asks for agreement on labeled and unlabeled images; here, as in all methods, the labeled ones have their
labels. Where the student's view looks beyond the teacher's crop nothing is compared.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from . import losses
from .method import Method, MethodSettings, Step, Taught, Term


class Settings(MethodSettings):
    """Of the mean teacher."""

    lambda_u: float = Field(1.0, ge=0)
    """The weight of the agreement at the end of its ramp."""


class MeanTeacher(Method):
    """The squared difference of the two softmaxes, everywhere and whatever the confidence."""

    Settings = Settings

    def teach(self, step: Step) -> Taught:
        logits, _ = step.teacher(step.unlabeled.clean)
        probability = logits.float().softmax(1)
        inside = step.unlabeled.move(torch.ones_like(probability[:, 0]))
        weight = step.ramp * self.settings.lambda_u
        return Taught({"probability": step.unlabeled.move(probability), "inside": inside}, log={"lambda_u": weight})

    def losses(self, step: Step, target: dict[str, Tensor]) -> dict[str, Term]:
        labeled, unlabeled, _ = step.answers()
        agreement = losses.gated_consistency(unlabeled, target["probability"], target["inside"])
        return {
            "supervised": self.supervised(labeled, step),
            "unsupervised": Term(agreement, step.ramp * self.settings.lambda_u),
        }
