"""The state of an interrupted training, written atomically and read without unpickling code."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..base.errors import UserError
from ..base.explain import explain
from ..base.files import atomic_path

FORMAT = 2


@dataclass(eq=False)
class State:
    """All that the next step depends on, and what was counted since the last log entry. Its fields are the file's."""

    labels: list[str]
    job: str | None
    """The training's number; checkpoints of earlier versions hold none."""
    student: dict[str, Tensor]
    teacher: dict[str, Tensor]
    method: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    generator: Tensor
    step: int
    chunks: int
    used: float
    """Seconds of the budget."""
    cpu: float
    """Processor time in seconds."""
    began: tuple[float, float]
    """Share and seconds of the budget that were spent before the first step."""
    mixed_since: tuple[int, float] | None
    """Step and share of the training at which the unlabeled slices came into play."""
    ramped: float
    """How far λ1 has come on its ramp, 0 to 1."""
    labeled: Tensor
    """What is left of the order of the labeled slices."""
    unlabeled: Tensor
    offsets: Tensor
    """Where the crops lie, see `DeviceBank`."""
    window: dict[str, Any]
    """Sums since the last log entry, see `training.log`."""
    closed: int
    """Log entries in a row in which no foreground passed."""


def save_checkpoint(path: Path, state: State) -> None:
    """Writes a state."""
    content = io.BytesIO()  # torch's own writer hides what went wrong, such as a full disk
    torch.save({"format": FORMAT, **vars(state)}, content)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def load_checkpoint(path: Path, label_names: list[str], job: str | None = None) -> State:
    """Reads what `save_checkpoint`, of this or an earlier version, wrote, onto the CPU.

    Args:
        path: Of the checkpoint.
        label_names: The structures of the training.
        job: Its number. Checkpoints of earlier versions hold none and are believed.

    Raises:
        UserError: If it cannot be read, is damaged, from a newer version, of another training, or of one with other
            labels.
    """
    hint = "Start the training again in a new folder"
    try:
        with zipfile.ZipFile(path) as archive:  # as torch writes it, with checksums that torch itself does not look at
            if archive.testzip() is not None:
                raise zipfile.BadZipFile
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damage makes torch raise anything from RuntimeError to UnicodeDecodeError
        if (reason := explain(error, path, reading=True)) is not None:
            raise reason from error
        raise UserError("the checkpoint is damaged", where=path, hint=hint) from None
    if not isinstance(state, dict) or not isinstance(state.get("labels"), list) or "format" not in state:
        raise UserError("this is not a checkpoint of SemiCardiacSeg", where=path, hint=hint)
    if not isinstance(state["format"], int) or state["format"] > FORMAT:
        raise UserError("the checkpoint was written by a newer version", where=path, hint="Update SemiCardiacSeg")
    if state["labels"] != label_names:
        what = f"the checkpoint is of the labels {', '.join(map(str, state['labels']))}"
        hint = "Use the label set that the training began with, or a new folder"
        raise UserError(f"{what}, the job of {', '.join(label_names)}", where=path, hint=hint)
    if job is not None and state.get("job") not in (None, job):
        hint = "Put back the checkpoint that was there, or remove this one: the training then starts from the beginning"
        raise UserError("the checkpoint is of another training", where=path, hint=hint)
    try:
        if state["format"] == 1:
            state = _of_format_1(state)
        found = State(**{field.name: state[field.name] for field in fields(State)})
        if found.mixed_since is not None:  # torch gives back what was saved; earlier versions saved lists
            found.mixed_since = int(found.mixed_since[0]), float(found.mixed_since[1])
        found.began = float(found.began[0]), float(found.began[1])
        return found
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"the checkpoint is incomplete ({error})", where=path, hint=hint) from None


def _of_format_1(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of the time when there was one method: its state and its sums stood among the others."""
    method = {"threshold": state["threshold"], "ratio": state["ratio"], "_extra_state": {"alpha": state["alpha"]}}
    sums, (steps, mixed, images) = state["sums"], state["window"]
    classes = len(state["ratio"])
    kept: dict[str, tuple[Any, int]] = {"loss": (sums[0], steps), "loss_supervised": (sums[1], steps)}
    if mixed:
        kept |= {"loss_unsupervised": (sums[2], mixed), "loss_contrast": (sums[3], mixed)}
        kept |= {"passed": (sums[5 : 5 + classes], mixed), "own": (sums[5 + classes :], mixed)}
    window = {"sums": kept, "steps": steps, "mixed": mixed, "images": images, "seconds": state["window_s"]}
    return {**state, "method": method, "window": window, "closed": state["closed_looks"], "job": state.get("job")}
