"""Ours: dynamic threshold map, robust entropy minimization, contrastive consistency.

Mi et al., PLOS ONE 2026, 10.1371/journal.pone.0342567; the numbers of the equations are the paper's. Each of the three
can be switched off.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from . import losses, threshold_map
from .method import Facts, Method, MethodSettings, Step, Taught, Term


class Settings(MethodSettings):
    """The method's three modules and their weights."""

    dptm: bool = True
    """Dynamic threshold map (Eqs. 5-10). Off: `fixed_threshold`."""
    rem: bool = True
    """Robust entropy minimization (Eqs. 11, 12). Off: squared difference of the two softmaxes where the gate opens."""
    contrast: bool = True
    """Contrastive consistency (Eqs. 13, 14)."""
    lambda_u: float = Field(1.0, ge=0)
    """λ1, the weight of the unlabeled loss at the end of its ramp."""
    lambda_c: float = Field(0.1, ge=0)
    """λ2, the weight of the contrastive loss."""
    alpha: float | None = Field(None, ge=0, lt=1)
    """α of the threshold map; without it, chosen so that the map settles within a tenth of the steps."""
    threshold_floor: float = Field(0.95, ge=0, le=1)
    """The least that M_c (Eq. 9) can be; 0 is the published rule."""
    gamma: Literal["confidence", "binary"] = "confidence"
    """γ where the gate is open."""
    fixed_threshold: float = Field(0.95, ge=0, le=1)
    """What the confidence has to exceed without DPTM."""
    tau: float = Field(1.0, gt=0)
    """τ of Eq. 12, the student's softmax temperature."""
    class_floor: int = Field(32, ge=1, le=10**9)
    """Fewer pixels of a class than this in a batch leave its k_c as it was."""
    contrast_temperature: float = Field(0.2, gt=0)
    """τ of Eqs. 13 and 14."""
    contrast_grid: int = Field(3, ge=1, le=16)
    """The bottleneck is pooled to this many cells a side; 1 would be blind behind an instance norm."""
    contrast_key: Literal["teacher", "student"] = "teacher"
    """Features of the original image: the teacher's pass that runs anyway, or a second student pass."""

    @property
    def least_threshold(self) -> float:
        """What the confidence of a pseudo-label has to exceed everywhere; without DPTM nothing else is asked."""
        return self.threshold_floor if self.dptm else self.fixed_threshold


class DptmRemCc(Method):
    """L = L_s + λ1 L_u + λ2 L_c (Eq. 4), with the threshold map M and the class ratios k as its state."""

    Settings = Settings
    threshold: Tensor
    ratio: Tensor

    def __init__(self, settings: MethodSettings, facts: Facts) -> None:
        super().__init__(settings, facts)
        self.alpha = 0.0
        for name, value in threshold_map.initial_state(facts.classes, facts.shape)._asdict().items():
            self.register_buffer(name, value)

    @property
    def state(self) -> threshold_map.MapState:
        """M and k."""
        return threshold_map.MapState(self.threshold, self.ratio)

    def begin(self, steps: int) -> None:
        self.alpha = threshold_map.settle_alpha(steps) if self.settings.alpha is None else self.settings.alpha

    def teach(self, step: Step) -> Taught:
        s, unlabeled, state = self.settings, step.unlabeled, self.state
        logits, features = step.teacher(unlabeled.clean)
        probability = logits.float().softmax(1)
        if s.dptm:
            state = threshold_map.update(state, probability, self.alpha, s.class_floor, unlabeled.total)  # Eqs. 5-8
        gated = threshold_map.gate(state, probability, s.least_threshold, s.gamma)  # Eqs. 9, 10
        target = {"pseudo": unlabeled.move(gated.label), "gamma": unlabeled.move(gated.gamma)}
        if not s.rem:
            target["probability"] = unlabeled.move(probability)
        if s.contrast and s.contrast_key == "teacher":
            target["key"] = unlabeled.mirror(features)
        log = {"threshold_mean": state.threshold.mean(), "lambda_u": step.ramp * s.lambda_u}
        return Taught(target, state._asdict(), log, threshold_map.counts(gated, self.facts.classes))

    def losses(self, step: Step, target: dict[str, Tensor]) -> dict[str, Term]:
        s = self.settings
        labeled, unlabeled, features = step.answers()
        if s.rem:
            unsupervised = losses.robust_entropy(unlabeled, target["pseudo"], target["gamma"], s.tau)  # Eqs. 3, 11, 12
        else:
            unsupervised = losses.gated_consistency(unlabeled, target["probability"], target["gamma"])
        terms = {
            "supervised": self.supervised(labeled, step),  # Eq. 2
            "unsupervised": Term(unsupervised, step.ramp * s.lambda_u),
        }
        if s.contrast:
            key = target["key"] if "key" in target else step.unlabeled.mirror(step.student(step.unlabeled.clean)[1])
            query, key = (losses.pool_features(each, s.contrast_grid) for each in (features, key))
            query, key = step.unlabeled.gather(torch.stack((query, key), 1)).unbind(1)  # negatives of the whole batch
            terms["contrast"] = Term(losses.nt_xent(query, key, s.contrast_temperature), s.lambda_c)  # Eqs. 13, 14
        return terms

    def limits(self) -> Tensor:
        classes = torch.arange(self.facts.classes, device=self.ratio.device).view(-1, *[1] * self.threshold.dim())
        return threshold_map.limits(self.state, classes, self.settings.least_threshold)

    def start_from(self, other: Method) -> None:
        if self.settings.dptm:  # without it the map stays at its beginning, which lets everything pass
            super().start_from(other)

    def get_extra_state(self) -> dict[str, Any]:
        return {"alpha": self.alpha}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.alpha = state["alpha"]
