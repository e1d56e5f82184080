"""FixMatch (Sohn et al., NeurIPS 2020) for segmentation: pseudo-labels of the sure pixels, whatever their place.

The weak view is the canonical crop. Its pseudo-labels come from the student itself, as in the paper, and the average
of the student's weights is what predicts in the end.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from . import losses, threshold_map
from .method import Method, MethodSettings, Step, Taught, Term


class Settings(MethodSettings):
    """As published, but for the ramp of the weight."""

    lambda_u: float = Field(1.0, ge=0)
    """The weight of the unlabeled loss at the end of its ramp."""
    threshold: float = Field(0.95, ge=0, le=1)
    """The confidence that a pseudo-label has to exceed."""


class FixMatch(Method):
    """Cross entropy with the argmax where the confidence exceeds the threshold, averaged over all pixels."""

    Settings = Settings

    def teach(self, step: Step) -> Taught:
        logits, _ = step.student(step.unlabeled.clean)
        confidence, label = logits.float().softmax(1).max(dim=1)
        gated = threshold_map.Gated(label, (confidence > self.settings.threshold).float())
        target = {"pseudo": step.unlabeled.move(gated.label), "sure": step.unlabeled.move(gated.gamma)}
        weight = step.ramp * self.settings.lambda_u
        return Taught(target, log={"lambda_u": weight}, counts=threshold_map.counts(gated, self.facts.classes))

    def losses(self, step: Step, target: dict[str, Tensor]) -> dict[str, Term]:
        labeled, unlabeled, _ = step.answers()
        entropy = losses.robust_entropy(unlabeled, target["pseudo"], target["sure"])
        return {
            "supervised": self.supervised(labeled, step),
            "unsupervised": Term(entropy, step.ramp * self.settings.lambda_u),
        }

    def limits(self) -> Tensor:
        return torch.full((self.facts.classes, *self.facts.shape), self.settings.threshold)
