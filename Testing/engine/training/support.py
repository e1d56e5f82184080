"""What the tests of trainer share."""

from __future__ import annotations

import csv
from pathlib import Path

from safetensors.torch import load_file
from semicardiac.base.events import EventLog, read_events
from semicardiac.config import TrainConfig
from semicardiac.data.cases import Case
from semicardiac.training.train import train
from torch import Tensor

from Testing.engine.networks import Spec, tiny_config

STEPS = 40  # two looks at the device


def config_of(preset: str = "default", **changes) -> TrainConfig:
    return tiny_config(preset, **{"schedule": {"steps": STEPS}, **changes})


def run(folder: Path, cases: tuple[Case, ...], config: TrainConfig | None = None, stop=lambda: False, **spec) -> dict:
    folder.mkdir(exist_ok=True)
    return train(folder, Spec(cases, config or config_of(), **spec), EventLog(folder / "events.jsonl"), stop)


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model" / "model.safetensors")


def history(folder: Path) -> list[dict[str, str]]:
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def events(folder: Path, kind: type) -> list:
    return [event for event in read_events(folder / "events.jsonl") if isinstance(event, kind)]
