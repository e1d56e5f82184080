"""Finished jobs and parsed pages, for tests of reports."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from Testing.engine.support import ACDC

pytest.importorskip("matplotlib")

from semicardiac.base.events import Device, Done, EventLog, Started
from semicardiac.base.tables import GrowingTable
from semicardiac.config import make_config
from semicardiac.data.cases import Case
from semicardiac.evaluation import evaluate
from semicardiac.evaluation.matching import Pair
from semicardiac.images.labels import LabelSet
from semicardiac.images.overlays import write_png
from semicardiac.images.volumes import Volume, stem, write_labels, write_volume
from semicardiac.jobs import job

GRID = np.diag([2.0, 2.0, 10.0, 1.0])


VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """A parsed page: fails where tags do not nest, and keeps what the tests ask for."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def attributes(self, name: str) -> list[str]:
        return [value for _, attributes in self.tags for key, value in attributes.items() if key == name and value]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)


def labels_of(rv: int, myo: int, lv: int, shift: int = 0) -> Volume:
    array = np.zeros((3, 12, 40), np.uint8)
    for label, (row, count) in enumerate(((1, rv), (5, myo), (9, lv)), start=1):
        array[1, row, shift : shift + count] = label
    return Volume(array, GRID)


def write_history(folder: Path, steps: int, labels: LabelSet = ACDC, joins_at: float = 0.5) -> None:
    names = ["background", *labels.names]
    columns = ["step", "total", "stage", "seconds", "cpu_seconds", "loss", "loss_supervised", "loss_unsupervised"]
    columns += ["loss_contrast", "lambda_u", "learning_rate", "threshold_mean", "images_per_s"]
    columns += [f"pass_rate/{name}" for name in names]
    rows = []
    for step in range(20, steps + 1, 20):
        row = {"step": step, "total": steps, "stage": "supervised", "seconds": step / 10, "cpu_seconds": step / 5}
        row |= {"loss": 1 / step, "loss_supervised": 1 / step, "learning_rate": 0.05, "images_per_s": 43.21}
        if step > steps * joins_at:
            row |= {
                "stage": "semi-supervised",
                "loss_unsupervised": 0.1,
                "loss_contrast": 1.5,
                "lambda_u": 0.8,
                "threshold_mean": 0.9,
            }
            row |= {f"pass_rate/{name}": 0.7 for name in names}
        rows.append(dict.fromkeys(columns) | row)
    GrowingTable(folder / "history.csv").add(*rows)


def make_train_job(
    folder: Path,
    *,
    preset: str = "default",
    shift: int = 0,
    steps: int = 2000,
    labels: LabelSet = ACDC,
    joins_at: float = 0.5,
    settings: dict[str, Any] | None = None,
) -> Path:
    """A finished training with two validation patients, as its files tell it.

    Args:
        folder: Of the job.
        preset: Of the configuration.
        shift: By how many voxels the segmentations lie beside the references.
        steps: How long it was.
        labels: Three structures.
        joins_at: Share of the steps after which the unlabeled cases take part.
        settings: What differs from the preset.
    """
    roles = ["labeled"] * 2 + ["unlabeled"] * 6 + ["validation"] * 4
    data = folder.parent / f"{folder.name}-data"
    images = [data / f"patient{number // 2:03d}_frame{number % 2:02d}.nii.gz" for number in range(len(roles))]
    cases = [
        Case(
            name=stem(image), patient=image.name[:10], image=image, role=role,
            phase=("ED", "ES")[number % 2],
            labels=None if role == "unlabeled" else image.with_name(f"{stem(image)}_gt.nii.gz"),
        )
        for number, (image, role) in enumerate(zip(images, roles, strict=True))
    ]  # fmt: skip
    config = make_config(preset, {"schedule": {"minutes": 10 / 3}, **(settings or {})})
    job.create_job(folder, job.TrainJob(cases=tuple(cases), labels=labels, config=config, device="cpu"))
    log = EventLog(folder / "events.jsonl")
    log.emit(Started(kind="train", version="0.1.0", pid=1))
    log.emit(Device(device="cpu", name="some cpu", dtype="bfloat16", channels_last=True, threads=2))
    write_history(folder, steps, labels, joins_at if preset == "default" else 1)
    pairs = []
    for case in cases:
        if case.role != "validation":
            continue
        size = 20 if case.phase == "ED" else 10
        write_volume(case.image, Volume(np.arange(1440, dtype=np.int16).reshape(3, 12, 40), GRID))
        write_labels(case.labels, labels_of(size, 20, size), labels)
        prediction = folder / "validation" / f"{case.name}.nii.gz"
        write_labels(prediction, labels_of(size, 20, size, shift), labels)
        pairs.append(Pair(case.name, case.patient, case.phase, prediction, case.labels, case.image))
    evaluate.evaluate_pairs(pairs, labels, folder, log)
    GrowingTable(folder / "validation.csv").add(
        *(
            {"step": step, "case": pair.case, "structure": name, "dice": step / steps * 0.8}
            for step in (steps // 2, steps)
            for pair in pairs
            for name in labels.names
        )
    )
    write_png(folder / "previews" / "step000200.png", np.zeros((8, 8, 3), np.uint8))
    write_png(folder / "previews" / "step002000.png", np.full((8, 8, 3), 200, np.uint8))
    log.warn("the heart was <not> found", where="patient004_frame00", hint="Give an ROI")
    log.emit(Done(seconds=200, cpu_seconds=390))
    return folder
