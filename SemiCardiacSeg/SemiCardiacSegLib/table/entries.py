"""The case table as JSON: what a scene keeps of it besides its nodes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..i18n import tr as _
from ..scene.nodes import timesText

_FORMAT = 1


def emptyTable() -> dict:
    """A table without cases."""
    return {"format": _FORMAT, "labels": "acdc", "next": 1, "rows": []}


def parseTable(text: str) -> dict:
    """The table that a scene holds, or an empty one.

    Raises:
        ValueError: If a newer version has written it.
    """
    state = json.loads(text) if text else emptyTable()
    if state["format"] > _FORMAT:
        raise ValueError(_("This scene was saved by a newer version of SemiCardiacSeg. Update the extension."))
    return state


def entryOf(state: dict, key: str) -> dict:
    """The entry of a row.

    Raises:
        ValueError: If there is none.
    """
    for entry in state["rows"]:
        if entry["key"] == key:
            return entry
    raise ValueError(_("There is no case '{key}' in the table.").format(key=key))


def addEntry(state: dict, **fields) -> str:
    """Adds an entry with these fields, and defaults for others; returns its key."""
    key = f"case{state['next']}"
    state["next"] += 1
    defaults = {"role": "unlabeled", "phase": "", "segmentation": "", "mapping": None}
    state["rows"].append({"key": key, **defaults, **fields})
    return key


def addFile(state: dict, case) -> str:
    """Adds the entry of a `semicardiac.data.cases.Case`; returns its key."""
    size, spacing = _headerTexts(case.image)
    return addEntry(
        state,
        kind="file",
        name=case.name,
        patient=case.patient,
        role=case.role,
        phase=case.phase or "",
        image=str(case.image),
        labels=str(case.labels) if case.labels else None,
        frame=case.frame,
        roi=case.roi,
        size=size,
        spacing=spacing,
    )


def addPool(state: dict, folder: Path, cases: Sequence) -> str:
    """Adds one entry for many cases, their paths relative to the folder to keep it small; returns its key."""
    name = _("{folder} ({count:,} files)").format(folder=folder.name, count=len(cases))
    listed = [
        {
            **case.model_dump(mode="json", include={"name", "patient", "frame", "phase", "roi"}, exclude_defaults=True),
            "image": (case.image.relative_to(folder) if case.image.is_relative_to(folder) else case.image).as_posix(),
        }
        for case in cases
    ]
    return addEntry(state, kind="pool", name=name, patient="", folder=str(folder), cases=listed)


def _headerTexts(path: Path) -> tuple[str, str]:
    """Size and spacing as a file's header tells; nothing where it does not."""
    from semicardiac.base.errors import UserError
    from semicardiac.images.volumes import size_and_spacing

    try:
        size, spacing = size_and_spacing(path)
    except UserError:  # a DICOM folder, or a damaged file: what is wrong with it, the engine says before a training
        return "", ""
    return timesText(size), timesText(spacing)


def filesOf(entry: dict) -> list[dict]:
    """The fields of the cases in an entry that are files; those of a single file tell its labels, too."""
    if entry["kind"] == "file":
        return [{field: entry[field] for field in ("name", "patient", "image", "labels", "frame", "roi")}]
    return [{**case, "image": str(Path(entry["folder"], case["image"]))} for case in entry.get("cases", ())]
