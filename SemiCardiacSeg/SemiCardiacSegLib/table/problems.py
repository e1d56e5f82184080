"""What is wrong with the cases of a data set, in the user's words, and what could be done about it at once."""

from __future__ import annotations

import os.path
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from ..i18n import tr as _
from ..scene.dicom_cine import imagesAtEachPosition
from ..scene.nodes import checkKind, checkVolume, gridOf, isTransformed
from ..scene.segmentations import isLabelMap, labelsDifference, placeDifference, readLabels, segmentNames
from ..scene.structures import missing, unmapped


@dataclass(frozen=True)
class Problem:
    """One thing that has to be fixed before a training (`error`), or that one should know (`warning`)."""

    level: str
    text: str
    """What is wrong, and what to do."""
    fix: str | None = None
    """What `DataSet.fix` can do: `harden` the transforms on copies, `resample` the labels, `map` the segments."""
    key: str = ""
    """The row concerned, if it is one."""


def problemsOfRow(row, mapping: Mapping[str, str], labelSet) -> list[Problem]:
    """What is wrong with one case.

    Args:
        row: A row of the data set.
        mapping: Its names of structures by segment ID.
        labelSet: What its labels mean.
    """
    if row.role == "ignore":
        return []
    check = {"volume": _ofVolume, "sequence": _ofSequence, "file": _ofFile, "pool": _ofPool}[row.kind]
    problems = list(check(row))
    if row.role in ("labeled", "validation") and not any(problem.level == "error" for problem in problems):
        problems += _ofLabels(row, mapping, labelSet)
    return [replace(problem, key=row.key) for problem in problems]


def problemsOfAll(rows: Iterable, patients: Iterable[tuple[str, str]]) -> list[Problem]:
    """What is wrong with the cases together.

    Args:
        rows: All rows of the data set.
        patients: Patient and role of every case.
    """
    roles = {row.role for row in rows} - {"ignore"}
    if not roles:
        return [Problem("error", noCases())]
    problems = []
    if "labeled" not in roles:
        text = _("There is no labeled case. Give at least one volume a segmentation and the role labeled.")
        problems.append(Problem("error", text))
    elif "unlabeled" not in roles:
        text = _("There is no unlabeled case, so that this will be plain supervised training. Add volumes without "
                 "segmentation to learn from them too.")  # fmt: skip
        problems.append(Problem("warning", text))
    rolesOf: dict[str, set[str]] = defaultdict(set)
    for patient, role in patients:
        rolesOf[patient].add(role)
    for patient, parts in sorted(rolesOf.items()):
        others = sorted(parts - {"validation", "ignore"})
        if "validation" in parts and others:
            text = _("The patient {patient} is {roles} and in validation, which would look better than it is. "
                     "Give all cases of a patient one role, or correct the patient.")  # fmt: skip
            level = "error" if "labeled" in parts else "warning"
            problems.append(Problem(level, text.format(patient=patient, roles=", ".join(others))))
    return problems


def noCases() -> str:
    """What to say of an empty table."""
    return _("No cases yet: add volumes of the scene, a folder, or try it with sample data.")


def contentState(*nodes) -> Iterator[int]:
    """Numbers of which one changes whenever one of the nodes, their labels or their transforms do.

    The gray values of images do not count: nothing that is measured or checked depends on them.
    """
    for node in nodes:
        if node is None:
            continue
        yield node.GetMTime()
        if node.IsA("vtkMRMLTransformableNode") and node.GetParentTransformNode() is not None:
            yield node.GetParentTransformNode().GetTransformToWorldMTime()
        if node.IsA("vtkMRMLLabelMapVolumeNode") and node.GetImageData() is not None:
            yield node.GetImageData().GetMTime()
        if node.IsA("vtkMRMLSegmentationNode"):
            yield from _stateOfSegments(node.GetSegmentation())


def _stateOfSegments(segmentation) -> Iterator[int]:
    for index in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(index)
        yield segment.GetMTime()
        if (image := segment.GetRepresentation("Binary labelmap")) is not None:
            yield image.GetMTime()


def _ofVolume(row) -> Iterator[Problem]:
    node = row.volumeNode
    if node is None:
        text = _("The volume '{name}' was deleted from the scene. Add it again, or remove this case.")
        yield Problem("error", text.format(name=row.name))
        return
    if (count := imagesAtEachPosition(node)) > 1:
        text = _("This holds {count} images at each position, as a cine does that was read as one volume. Choose it in "
                 "section 3 and click Open cine…, then add the cine instead.")  # fmt: skip
        yield Problem("error", text.format(count=count))
        return
    try:
        checkVolume(node)
    except ValueError as error:
        yield Problem("error", str(error), "harden" if isTransformed(node) else None)
        return
    if gridOf(node).shape[0] == 1:
        text = _("This is a single slice: it is used, but volumes in ml mean nothing. Take the whole stack where there "
                 "is one.")  # fmt: skip
        yield Problem("warning", text)


def _ofSequence(row) -> Iterator[Problem]:
    node = row.sequenceNode
    if node is None:
        text = _("The sequence '{name}' was deleted from the scene. Add it again, or remove this case.")
        yield Problem("error", text.format(name=row.name))
        return
    if node.GetNumberOfDataNodes() == 0:
        yield Problem("error", _("The sequence '{name}' has no frames. Remove it.").format(name=row.name))
    for index in range(node.GetNumberOfDataNodes()):
        try:
            checkKind(node.GetNthDataNode(index))
        except ValueError as error:
            yield Problem("error", _("Frame {number}: {text}").format(number=index + 1, text=error))
            return


def _ofFile(row) -> Iterator[Problem]:
    for path in (row.imagePath, row.labelsPath):
        if path is not None and not os.path.exists(path):  # also where it is locked: an error would stop all checks
            yield Problem("error", _("{path} is missing. Bring it back, or remove this case.").format(path=path))


def _ofPool(row) -> Iterator[Problem]:
    if not os.path.exists(row.imagePath):
        text = _("The folder {path} is missing. Bring it back, or remove these cases.")
        yield Problem("error", text.format(path=row.imagePath))


def _ofLabels(row, mapping: Mapping[str, str], labelSet) -> Iterator[Problem]:
    """What is wrong with the labels of a case whose image is sound."""
    node = row.segmentationNode
    if row.kind in ("sequence", "pool"):
        text = _("The role is {role}, but there are no labels. Make these cases unlabeled, and add those with labels "
                 "one by one.")  # fmt: skip
        yield Problem("error", text.format(role=row.role))
    elif row.kind == "file":
        if row.labelsPath is None:
            text = _("The role is {role}, but there is no label file. Change the role.")
            yield Problem("error", text.format(role=row.role))
    elif node is None and row.segmentationName:
        text = _("The segmentation '{name}' was deleted from the scene. Choose another one, or change the role.")
        yield Problem("error", text.format(name=row.segmentationName))
    elif node is None:
        text = _("The role is {role}, but there is no segmentation. Choose one, or change the role.")
        yield Problem("error", text.format(role=row.role))
    else:
        yield from _ofNode(node, row.volumeNode, mapping, labelSet)


def _ofNode(node, volumeNode, mapping: Mapping[str, str], labelSet) -> Iterator[Problem]:
    """What is wrong with a segmentation or label map of a volume."""
    name = node.GetName()
    if isLabelMap(node):
        if node.GetImageData() is None:
            yield Problem("error", _("The label map '{name}' has no image data. Choose another.").format(name=name))
            return
    elif segmentNames(node) and not set(mapping) & set(segmentNames(node)):
        text = _("No segment of '{name}' ({segments}) is mapped to a structure ({structures}). Say which is which.")
        segments, structures = ", ".join(segmentNames(node).values()), ", ".join(labelSet.names)
        yield Problem("error", text.format(name=name, segments=segments, structures=structures), "map")
        return
    if difference := placeDifference(node, volumeNode):
        yield Problem("error", difference, "harden")
        return
    try:
        if difference := labelsDifference(node, volumeNode):
            text = _("'{name}' lies on another grid than the volume: {difference}. Resample the labels.")
            yield Problem("error", text.format(name=name, difference=difference), "resample")
            return
        labels = readLabels(node, volumeNode, mapping, labelSet)
    except ValueError as error:
        yield Problem("error", str(error))
        return
    if not labels.array.any():
        text = _("The segmentation '{name}' is empty: no voxel of the volume is labeled. Draw it, or choose another.")
        yield Problem("error", text.format(name=name))
        return
    for (first, second), count in labels.overlaps.items():
        text = _("{first} and {second} overlap in {count:,} voxels, which count as {second}.")
        yield Problem("warning", text.format(first=first, second=second, count=count))
    if labels.outside:
        text = _("{count:,} labeled voxels lie outside the volume and are not used.")
        yield Problem("warning", text.format(count=labels.outside))
    if not isLabelMap(node):
        yield from _ofMapping(node, mapping, labelSet)


def _ofMapping(segmentationNode, mapping: Mapping[str, str], labelSet) -> Iterator[Problem]:
    if left := unmapped(segmentationNode, mapping):
        text = _("Segments that stand for no structure are not used: {segments}.")
        yield Problem("warning", text.format(segments=", ".join(left)), "map")
    if absent := missing(segmentationNode, mapping, labelSet):
        text = _("No segment stands for: {structures}. Where that is not labeled, it is taught to be background.")
        yield Problem("warning", text.format(structures=", ".join(absent)), "map")
