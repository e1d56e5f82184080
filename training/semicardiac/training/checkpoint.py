"""The state of an interrupted training, written atomically and read without unpickling code."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import torch

from ..base.errors import UserError
from ..base.explain import explain
from ..base.files import atomic_path

FORMAT = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Writes tensors, numbers, texts and containers of them."""
    content = io.BytesIO()  # torch's own writer hides what went wrong, such as a full disk
    torch.save({"format": FORMAT, **state}, content)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def load_checkpoint(path: Path, label_names: list[str], job: str | None = None) -> dict[str, Any]:
    """Reads what `save_checkpoint` wrote, onto the CPU.

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
    return state
