"""Which segment is which structure: told by terminology and by the names that people use, never by order or ID."""

from __future__ import annotations

import re
from collections.abc import Mapping

import vtk

from .segmentations import segmentNames


def _plain(name: str) -> str:
    """A name without what people write differently: `LV-Cavity`, `lv cavity` and `LV_cavity` are one."""
    return "".join(character for character in name.casefold() if character.isalnum())


_ALIASES = {
    "87878005": """lv, lv cavity, lvc, lv endo, endo, endocardium, lv endocardium, lv blood pool, lvbp, lv lumen,
        left ventricle, left ventricle cavity, left ventricular cavity, left ventricle blood pool,
        left ventricular blood pool, left ventricle blood cavity, left ventricle endocardium, left heart ventricle,
        heart ventricle left""",
    "74281007": """myo, myocardium, myocard, lv myo, lvm, lv myocardium, lv wall, lv muscle, left ventricle myocardium,
        left ventricular myocardium, left ventricle wall, myocardium of the left ventricle, heart myocardium""",
    "53085002": """rv, rv cavity, rvc, rv endo, rv blood pool, rvbp, right ventricle, right ventricle cavity,
        right ventricular cavity, right ventricle blood pool, right ventricular blood pool,
        right ventricle blood cavity, right heart ventricle, heart ventricle right""",
    "82471001": """la, la cavity, left atrium, left atrium cavity, left atrial cavity, left atrium blood cavity,
        left heart atrium, heart atrium left""",
    "73829009": """ra, ra cavity, right atrium, right atrium cavity, right atrial cavity, right atrium blood cavity,
        right heart atrium, heart atrium right""",
    "54247002": "ao, aa, aorta, ascending aorta, aorta ascending",
    "81040000": "pa, pulmonary artery, pulmonary trunk, pulmonary artery trunk, main pulmonary artery",
}
_GROUPS = {code: frozenset(map(_plain, aliases.split(","))) for code, aliases in _ALIASES.items()}
"""Names in use for what these SNOMED CT codes mean."""

_NO_NAME = re.compile(r"((segment|label)[ _-]?)?\d+", re.IGNORECASE)
"""What Slicer calls segments to which nobody gave a name."""

_CODE_OF_ROLE = {"lv": "87878005", "myo": "74281007", "rv": "53085002"}
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
    claims: dict[str, dict[str, int]] = {}
    for segmentId, name in segmentNames(segmentationNode).items():
        byCode = _byCode(segmentationNode.GetSegmentation().GetSegment(segmentId), labelSet)
        byName = _byName(name, labelSet)
        structure = byCode or byName
        if structure is None or byName not in (None, structure):
            continue
        isItsName = _plain(name) == _plain(structure)
        claims.setdefault(structure, {})[segmentId] = bool(byCode) + bool(byName) + isItsName
    mapping = {}
    for structure, evidence in claims.items():
        best = [segmentId for segmentId, amount in evidence.items() if amount == max(evidence.values())]
        if len(best) == 1:
            mapping[best[0]] = structure
    return mapping


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
    """The one structure that people call so, or None."""
    called = [structure.name for structure in labelSet.structures if _plain(name) in _namesOf(structure)]
    return called[0] if len(called) == 1 else None


def _namesOf(structure) -> set[str]:
    own = _plain(structure.name)
    names = {own}
    for code, group in _GROUPS.items():
        if code in (structure.type.value, _CODE_OF_ROLE.get(structure.role)) or own in group:
            names |= group
    return names
