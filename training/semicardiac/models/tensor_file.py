"""What a file of tensors (safetensors) tells of itself at its begin, read without PyTorch and within bounds."""

from __future__ import annotations

import json
from typing import Annotated, NamedTuple

from pydantic import BaseModel, Field, TypeAdapter

_Count = Annotated[int, Field(ge=0, lt=2**63)]


class Entry(BaseModel):
    """A tensor: its type, such as `F32`, its shape, and where its bytes begin and end behind the header."""

    dtype: str
    shape: tuple[_Count, ...]
    data_offsets: tuple[_Count, _Count]


class Header(NamedTuple):
    """All tensors by name, how many bytes that takes, and the bytes of the whole file."""

    entries: dict[str, Entry]
    own: int
    size: int


_ENTRIES = TypeAdapter(dict[str, Entry])


def read_header(first: bytes) -> Header | None:
    """The header of a file.

    Args:
        first: The first bytes of the file; a header that does not end in them is none.

    Returns:
        None if this is no such file.
    """
    end = 8 + int.from_bytes(first[:8], "little")
    try:
        told = json.loads(first[8:end]) if end <= len(first) else None
        if not isinstance(told, dict):
            return None
        told.pop("__metadata__", None)
        entries = _ENTRIES.validate_python(told)
    except (ValueError, RecursionError):
        return None
    return Header(entries, end, end + max((entry.data_offsets[1] for entry in entries.values()), default=0))
