"""JSON files that notice when they are no longer what was written: a checksum of the content stands in them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from .errors import UserError
from .files import read_json, without_nan, write_json

_SEAL = "sha256_of_content"


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Writes an object with its checksum, atomically; NaN is written as null."""
    content = json.loads(json.dumps(without_nan(content)))  # as it will be read
    write_json(path, {**content, _SEAL: _checksum(content)})


def read_sealed(path: Path) -> dict[str, Any]:
    """The object in a file of `write_sealed`; one without a checksum, as earlier versions wrote it, is believed.

    Raises:
        UserError: If it is missing, or not what was written.
    """
    hint = "Put it back from a copy of the folder, or start again in a new folder"
    try:
        content = read_json(path)
    except UserError as error:
        raise UserError(error.what, where=error.where, hint=error.hint or hint) from None
    if not isinstance(content, dict) or content.pop(_SEAL, None) not in (None, _checksum(content)):
        raise UserError("this file is not what was written", where=path, hint=hint)
    return content


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
