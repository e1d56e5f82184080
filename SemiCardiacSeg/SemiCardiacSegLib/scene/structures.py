"""Which segment is which structure: told by terminology and by the names that people use, never by order or ID."""

from __future__ import annotations

import re
from collections.abc import Mapping

import vtk

from ..engine import process
from .segmentations import isLabelMap, segmentNames

_NO_NAME = re.compile(r"((segment|label)[ _-]?)?\d+", re.IGNORECASE)
"""What Slicer calls segments to which nobody gave a name."""

_ANY_TISSUE = "SCT^85756007"
"""The code of segments and structures to which nobody gave one."""


def guessMapping(segmentationNode, labelSet) -> dict[str, str]:
    """Which segments are structures of a label set, as far as that is clear.

    A segment is a structure if its terminology has the structure's code, or its name is the structure's or another one
    that people use for it; upper case, spaces and punctuation do not count. It is left out where code and name say
    different things, and where another segment is that structure just as well.

    Returns:
        Names of structures by segment ID.
    """
    process.addToPath()
    from semicardiac.images.structure_names import plain

    claims: dict[str, dict[str, int]] = {}
    for segmentId, name in segmentNames(segmentationNode).items():
        byCode = _byCode(segmentationNode.GetSegmentation().GetSegment(segmentId), labelSet)
        byName = _byName(name, labelSet)
        structure = byCode or byName
        if structure is None or byName not in (None, structure):
            continue
        isItsName = plain(name) == plain(structure)
        claims.setdefault(structure, {})[segmentId] = bool(byCode) + bool(byName) + isItsName
    mapping = {}
    for structure, evidence in claims.items():
        best = [segmentId for segmentId, amount in evidence.items() if amount == max(evidence.values())]
        if len(best) == 1:
            mapping[best[0]] = structure
    return mapping


def mappingOf(node, said: Mapping[str, str] | None, labelSet) -> dict[str, str]:
    """Which segments of a node are structures: as the user said, else as far as it is clear.

    Args:
        node: A segmentation; None and label maps have no segments.
        said: Names of structures by segment ID; those that the label set lacks do not count.
        labelSet: What the labels mean.
    """
    if node is None or isLabelMap(node):
        return {}
    if said is None:
        return guessMapping(node, labelSet)
    return {segmentId: name for segmentId, name in said.items() if name in labelSet.names}


def proposedMapping(segmentationNode, labelSet) -> dict[str, str]:
    """What to propose to the user: `guessMapping`, and for segments without a real name what their label value says.

    Slicer names the segments of a label map `1`, `2`, ... or `Segment_1`, ...; their values are those of the file.

    Returns:
        Names of structures by segment ID.
    """
    mapping = guessMapping(segmentationNode, labelSet)
    byValue = {value: structure.name for structure in labelSet.structures for value in structure.source_values}
    for segmentId, name in segmentNames(segmentationNode).items():
        structure = byValue.get(segmentationNode.GetSegmentation().GetSegment(segmentId).GetLabelValue())
        if _NO_NAME.fullmatch(name.strip()) and structure is not None and structure not in mapping.values():
            mapping[segmentId] = structure
    return mapping


def unmapped(segmentationNode, mapping: Mapping[str, str]) -> list[str]:
    """The names of the segments that stand for no structure."""
    return [name for segmentId, name in segmentNames(segmentationNode).items() if segmentId not in mapping]


def missing(segmentationNode, mapping: Mapping[str, str], labelSet) -> list[str]:
    """The names of the structures that no segment stands for."""
    found = {mapping.get(segmentId) for segmentId in segmentNames(segmentationNode)}
    return [structure for structure in labelSet.names if structure not in found]


def _byCode(segment, labelSet) -> str | None:
    """The one structure that has the code of a segment's terminology, or None."""
    found = vtk.reference("")
    segment.GetTag(segment.GetTerminologyEntryTagName(), found)
    entry = str(found).split("~")
    if len(entry) < 4:
        return None
    kind, modifier = ("^".join(code.split("^")[:2]) for code in entry[2:4])  # scheme and value, without the meaning
    sameKind = [structure for structure in labelSet.structures if _codeText(structure.type) == kind != _ANY_TISSUE]
    same = [structure for structure in sameKind if _codeText(structure.modifier) == modifier] or sameKind
    return same[0].name if len(same) == 1 else None


def _codeText(code) -> str:
    return f"{code.scheme}^{code.value}" if code else "^"


def _byName(name: str, labelSet) -> str | None:
    """The one structure that has this name, or that people call so, or None."""
    process.addToPath()
    from semicardiac.images.structure_names import meaning_of, plain

    meaning = meaning_of(name)
    named = [structure.name for structure in labelSet.structures if plain(structure.name) == plain(name)]
    called = [structure.name for structure in labelSet.structures if meaning and structure.meaning == meaning]
    found = named or called
    return found[0] if len(found) == 1 else None
