"""One row of the case table, as whoever shows or uses the table sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..i18n import tr as _
from ..scene.nodes import timesText

ROLES = ("labeled", "unlabeled", "validation", "ignore")
PHASES = ("ED", "ES", "")
PARTS = ("volume", "segmentation", "sequence")
"""What of a row can be a node."""
PARTS_OF = {"volume": ("volume", "segmentation"), "sequence": ("sequence",), "file": (), "pool": ()}
"""Which of them a row has, by its kind."""


@dataclass(frozen=True)
class Row:
    """One case as the table shows it, or the cases of a sequence or of a pool of files."""

    key: str
    """Does not change as long as the row is there."""
    name: str
    patient: str
    role: str
    """One of `ROLES`."""
    phase: str
    """One of `PHASES`."""
    kind: str
    """volume, sequence, file or pool."""
    volumeNode: object = None
    segmentationNode: object = None
    """A segmentation or a label map volume."""
    segmentationName: str = ""
    """What it was called, also when it was deleted; nothing if there never was one."""
    sequenceNode: object = None
    imagePath: Path | None = None
    """A file, or the folder of a pool."""
    labelsPath: Path | None = None
    count: int = 1
    """How many cases these are, without those that became rows of their own."""
    sizeText: str = ""
    """Columns × rows × slices."""
    spacingText: str = ""
    """In mm, in the same order."""


def rowOf(entry: dict, volumeNode, segmentationNode, sequenceNode) -> Row:
    """The row of an entry of the table and of the nodes that belong to it, as far as they are there."""
    count, first = len(entry.get("cases", (None,))), volumeNode
    if sequenceNode is not None:
        count = sequenceNode.GetNumberOfDataNodes()
        first = sequenceNode.GetNthDataNode(0) if count else None
    size, spacing = entry.get("size", ""), entry.get("spacing", "")
    image = first.GetImageData() if first is not None else None  # once: it takes half of the time of a row
    if image is not None:
        size, spacing = timesText(image.GetDimensions()), timesText(first.GetSpacing())
    shown = volumeNode or sequenceNode
    place, labels = entry.get("image") or entry.get("folder"), entry.get("labels")
    return Row(
        key=entry["key"],
        name=shown.GetName() if shown is not None else entry["name"],
        patient=entry["patient"],
        role=entry["role"],
        phase=entry["phase"],
        kind=entry["kind"],
        volumeNode=volumeNode,
        segmentationNode=segmentationNode,
        segmentationName=segmentationNode.GetName() if segmentationNode is not None else entry["segmentation"],
        sequenceNode=sequenceNode,
        imagePath=Path(place) if place else None,
        labelsPath=Path(labels) if labels else None,
        count=count,
        sizeText=size,
        spacingText=spacing,
    )


def summaryOf(rows: Sequence[Row]) -> str:
    """How many cases rows hold: `7 labeled (4 patients), 1,264 unlabeled, 2 validation`."""
    counts = Counter()
    gone = [row for row in rows if row.kind in ("volume", "sequence") and not (row.volumeNode or row.sequenceNode)]
    rows = [row for row in rows if row not in gone]
    for row in rows:
        counts[row.role] += row.count
    patients = len({row.patient for row in rows if row.role == "labeled"})
    texts = [_("{count:,} labeled").format(count=counts["labeled"])]
    if patients:
        texts[0] += " " + (_("(1 patient)") if patients == 1 else _("({count:,} patients)").format(count=patients))
    texts.append(_("{count:,} unlabeled").format(count=counts["unlabeled"]))
    if counts["validation"]:
        texts.append(_("{count:,} validation").format(count=counts["validation"]))
    if counts["ignore"]:
        texts.append(_("{count:,} ignored").format(count=counts["ignore"]))
    if gone:
        texts.append(_("{count:,} deleted from the scene").format(count=len(gone)))
    return ", ".join(texts)
