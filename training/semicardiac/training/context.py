"""What every stage of a training works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..base.errors import Stopped
from ..base.events import EventLog, Progress, Stage
from ..config import TrainConfig
from ..data.case_reader import CaseReader
from ..data.cases import Case
from ..images.labels import LabelSet
from .ranks import ALONE, Ranks
from .schedule import Budget


@dataclass(frozen=True, eq=False)
class Context:
    """The training that a stage is a part of.

    Attributes:
        folder: For working files of the job.
        cases: Labeled and unlabeled ones.
        labels: Their label set.
        config: The training's.
        budget: Of the whole training.
        events: Told of progress and doubts.
        stop: Whether a stop was asked for.
        validation: Cases that only measure it.
        reader: Reads the cases until the banks are built.
        ranks: The processes that train together.
    """

    folder: Path
    cases: list[Case]
    labels: LabelSet
    config: TrainConfig
    budget: Budget
    events: EventLog
    stop: Callable[[], bool]
    validation: list[Case] = field(default_factory=list)
    reader: CaseReader = field(default_factory=CaseReader)
    ranks: Ranks = ALONE

    @property
    def noted(self) -> list[Case]:
        """All cases whose files must stay as they are, from the beginning of the training to its end."""
        return [*self.cases, *self.validation]

    @property
    def labeled(self) -> list[Case]:
        return [case for case in self.cases if case.role == "labeled"]

    @property
    def unlabeled(self) -> list[Case]:
        return [case for case in self.cases if case.role == "unlabeled"]

    @property
    def patients(self) -> int:
        """How many patients are labeled."""
        return len({case.patient for case in self.labeled})

    def raise_if_stopped(self) -> None:
        """Raises Stopped if a stop was asked for."""
        if self.stop():
            raise Stopped

    def report_cases(self, stage: Stage) -> Callable[[int, int, str], None]:
        """What a stage calls after each case with the number done, the number of all, and the case's name."""

        def report(done: int, total: int, name: str) -> None:
            self.events.emit(Progress(stage=stage, step=done, total=total, case=name))
            self.raise_if_stopped()

        return report
