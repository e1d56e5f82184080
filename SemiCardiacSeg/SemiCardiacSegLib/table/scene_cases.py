"""What in the scene is a case: volumes, whose they are, and which segmentation belongs to which."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import slicer
import slicer.util

from ..engine import process
from ..scene.nodes import RESULT_ATTRIBUTE, checkKind
from ..scene.segmentations import labelsDifference, placeDifference
from ..scene.sequences import shownBy
from ..scene.structures import guessMapping

_FILE_ENDING = re.compile(r"\.(seg\.nrrd|nii\.gz|nii|nrrd|nhdr|mha|mhd)$", re.IGNORECASE)
_LABEL_ENDING = re.compile(r"[_-](gt|labels?|seg|segmentation|mask)([_-]?\d+)?$", re.IGNORECASE)
"""What the name of a segmentation has more than that of its volume; Slicer adds a number where a name is taken."""
_PATIENT_FOLDER = re.compile(r"(patient|subject|subj|sub|case|pat)[\s_-]*\d+", re.IGNORECASE)


def patientAndPhase(node) -> tuple[str, str]:
    """Whose volume this is, and "ED", "ES" or "", as its name and place in the subject hierarchy tell.

    `patient002_frame01` and `patient002 ED` are patient002's; so is `ED` in a folder patient002, and anything below a
    patient of that name, as DICOM data are.
    """
    process.addToPath()
    from semicardiac.data.names import name_of, parse_name

    name = _underscored(node.GetName())
    folder = folderOf(node)
    parts = parse_name(name_of(Path(_underscored(folder), name)) if folder else name)
    if patient := _dicomPatient(node):
        return patient, parts.phase or ""
    if parts.frame is None and parts.phase is None and _PATIENT_FOLDER.fullmatch(folder):
        return folder, ""
    return parts.patient, parts.phase or ""


def findVolumes() -> tuple[list, list[str]]:
    """The scalar volumes of the scene, without results of ours and without those that show a frame of a sequence.

    Returns:
        The volumes, and for each that cannot be used the reason.
    """
    volumes, refused = [], []
    for node in _interesting("vtkMRMLScalarVolumeNode"):
        if not node.IsA("vtkMRMLLabelMapVolumeNode"):
            try:
                checkKind(node)
            except ValueError as error:
                refused.append(str(error))
            else:
                volumes.append(node)
    return volumes, refused


def findSequences() -> list:
    """The sequences of volumes in the scene."""
    return [node for node in _interesting("vtkMRMLSequenceNode") if isCine(node)]


def isCine(sequenceNode) -> bool:
    """Whether a sequence holds volumes that could be images."""
    first = sequenceNode.GetNthDataNode(0) if sequenceNode.GetNumberOfDataNodes() else None
    return first is not None and first.IsA("vtkMRMLScalarVolumeNode") and not first.IsA("vtkMRMLLabelMapVolumeNode")


def sequenceOf(node):
    """The sequence of which a node shows a frame, or None."""
    for browser in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode"):
        if (sequence := browser.GetSequenceNode(node)) is not None:
            return sequence
    return None


def matchSegmentations(volumes: Iterable, labelSet, taken: Iterable = ()) -> dict:
    """Which segmentation or label map of the scene belongs to which volume; each to one.

    First come those that were drawn on a volume; then the only segmentation below a volume in the subject hierarchy,
    or in a folder with a single volume; then equal names, but for endings such as _gt, _seg or .nii.gz; at last the
    only segmentation on the grid of a single volume.

    Args:
        volumes: Volume nodes.
        labelSet: What the segmentations should show: of several that were drawn on a volume, the one with most
            structures of it is taken.
        taken: Segmentations that belong to others already.

    Returns:
        Segmentation or label map nodes by volume node.
    """
    segmentations = [node for node in _findSegmentations() if node not in set(taken)]
    volumes = list(volumes)
    matches: dict = {}
    for volume in volumes:
        drawnOn = [node for node in segmentations if _reference(node) is volume]
        if drawnOn:
            matches[volume] = max(drawnOn, key=lambda node: len(guessMapping(node, labelSet)))
    loose = [node for node in segmentations if _reference(node) is None]
    for keyOf in (_volumeItem, _folderItem, _nameWithoutEnding):
        free = [node for node in loose if node not in set(matches.values())]
        matches = _pairs(volumes, free, keyOf) | matches
    free = [node for node in loose if node not in set(matches.values())]
    return _onSameGrid([volume for volume in volumes if volume not in matches], free) | matches


def unmatchedSegmentations(taken: Iterable) -> list:
    """The segmentations and label maps of the scene, without results of ours, that belong to no case.

    Args:
        taken: Those that belong to one.
    """
    taken = set(taken)
    return [node for node in _findSegmentations() if node not in taken]


def folderOf(node) -> str:
    """The name of the subject-hierarchy folder that a node lies in; nothing at the top of the scene."""
    folder = _folderItem(node)
    return slicer.mrmlScene.GetSubjectHierarchyNode().GetItemName(folder) if folder else ""


def _findSegmentations() -> list:
    return [*_interesting("vtkMRMLSegmentationNode"), *_interesting("vtkMRMLLabelMapVolumeNode")]


def _interesting(className: str) -> list:
    """The nodes of a class, but for hidden ones, results of ours, and those that show a frame of a sequence."""
    nodes = slicer.util.getNodesByClass(className)
    browsers = slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode")
    return [
        node
        for node in nodes
        if not (node.GetHideFromEditors() or node.GetAttribute(RESULT_ATTRIBUTE))
        and not any(browser.GetSequenceNode(node) for browser in browsers)
    ]


def _reference(node):
    """The volume that a segmentation was drawn on, if it is still there."""
    if not node.IsA("vtkMRMLSegmentationNode"):
        return None
    return node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole())


def _pairs(volumes: list, segmentations: list, keyOf: Callable) -> dict:
    """Volumes and segmentations that are the only ones with their key."""
    matches = {}
    for volume in volumes:
        key = keyOf(volume)
        same = [[node for node in nodes if keyOf(node) == key] for nodes in (volumes, segmentations)]
        if key and list(map(len, same)) == [1, 1]:
            matches[volume] = same[1][0]
    return matches


def _onSameGrid(volumes: list, segmentations: list) -> dict:
    """Volumes and segmentations of which each lies on the grid of no other."""
    fitting = {node: [volume for volume in volumes if _fits(node, volume)] for node in segmentations}
    single = {node: found[0] for node, found in fitting.items() if len(found) == 1}
    claimed = list(single.values())
    return {volume: node for node, volume in single.items() if claimed.count(volume) == 1}


def _fits(node, volume) -> bool:
    return placeDifference(node, volume) is None and labelsDifference(node, volume) is None


def _volumeItem(node) -> int:
    """The item of a volume; of a segmentation the item above its own, if that is a volume's."""
    item = _item(node)
    if not item or not (node.IsA("vtkMRMLSegmentationNode") or node.IsA("vtkMRMLLabelMapVolumeNode")):
        return item
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    above = hierarchy.GetItemParent(item)
    node = hierarchy.GetItemDataNode(above)
    return above if node is not None and node.IsA("vtkMRMLScalarVolumeNode") else 0


def _folderItem(node) -> int:
    """The folder of a node; 0 at the top of the scene, which is nobody's."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = _item(node)
    parent = hierarchy.GetItemParent(item) if item else hierarchy.GetSceneItemID()
    return 0 if parent == hierarchy.GetSceneItemID() else parent


def _item(node) -> int:
    """The item of a node in the subject hierarchy, 0 without one; a sequence lies where the node that shows it does."""
    shown = shownBy(node) if node.IsA("vtkMRMLSequenceNode") else node
    return slicer.mrmlScene.GetSubjectHierarchyNode().GetItemByDataNode(shown) if shown is not None else 0


def _nameWithoutEnding(node) -> str:
    """What is left of a name without the endings of files and of labels, of which it may have several."""
    process.addToPath()
    from semicardiac.data.names import IMAGE_ENDING

    name, before = _underscored(node.GetName()), ""
    while name != before:
        before = name
        name = _LABEL_ENDING.sub("", _FILE_ENDING.sub("", name))
    return IMAGE_ENDING.sub("", name).casefold()


def _dicomPatient(node) -> str:
    """The name of the patient above a node in the subject hierarchy, or nothing."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = _item(node)
    patient = hierarchy.GetItemAncestorAtLevel(item, "Patient") if item else 0
    return hierarchy.GetItemName(patient) if patient else ""


def _underscored(name: str) -> str:
    return re.sub(r"\s+", "_", name.strip())
