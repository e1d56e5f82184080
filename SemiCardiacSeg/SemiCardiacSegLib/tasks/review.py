"""Learning from corrections: which unlabeled cases the model is least sure of, and taking them into the labeled set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
import slicer.util

from ..engine import process
from ..i18n import tr as _
from ..scene import sequences
from ..scene.nodes import CASE_ATTRIBUTE, RESULT_ATTRIBUTE, addVolume, placeBeside, uniqueName
from ..scene.segmentations import checksum, getLabels, newSegmentation
from ..scene.structures import guessMapping
from ..scene.transaction import nothingHalfMade
from ..table.case_table import DataSet, Row
from . import segment
from .models import requireModel

MARGIN_MM = 10.0
"""How far around the predicted heart the model's doubt counts: about a slice of a cine."""
_REVIEW_ATTRIBUTE = "SemiCardiacSeg.Review"
"""Attribute of segmentations that were loaded for review: job folder and key of the case."""
_PREDICTED_ATTRIBUTE = "SemiCardiacSeg.Predicted"
"""Attribute of the same: a checksum of what the model had made, by which a correction is seen."""


@dataclass(frozen=True)
class Uncertain:
    """An unlabeled case, and how unsure the model is of it."""

    key: str
    """That of the row; of a frame or a file of several in a row, with its number from 0 behind: `case3/12`."""
    name: str
    uncertainty: float
    """0 to 1."""
    isFrame: bool = False
    """Whether it is a frame of a cine."""


def createReviewJob(
    dataSet: DataSet, model: Path, folder: Path | str | None = None, *, device: str = "auto", flips: bool = False
) -> Path:
    """Writes a job that segments the unlabeled cases, with maps of the entropy.

    Args:
        dataSet: The table of cases.
        model: A finished training's folder, or a model package.
        folder: New or empty folder for the job; a temporary one without it, see `segment.discard`.
        device: `auto`, `cpu`, `cuda`, ...
        flips: Average over flipped slices: a little better, in twice the time.

    Returns:
        The job folder.

    Raises:
        ValueError: If there is no unlabeled case, one of them has an error, or the model is for other structures; and
            as `segment.createSegmentJob`.
    """
    process.addToPath()
    from semicardiac.data.cases import Case

    inputs = {}
    for row in dataSet.rows():
        if row.role != "unlabeled":
            continue
        for problem in dataSet.problems(row):
            if problem.level == "error":
                raise ValueError(f"{row.name}: {problem.text}")
        if row.kind in ("volume", "sequence"):
            inputs[row.key] = row.volumeNode or row.sequenceNode
        else:
            files = [Case.model_validate(file) for file in dataSet.files(row.key)]
            inputs |= {_keyOf(row, index): file for index, file in enumerate(files)}
    done = dataSet.acceptedKeys()
    inputs = {key: each for key, each in inputs.items() if key not in done}
    if not inputs:
        raise ValueError(_("There are no unlabeled cases to look at. Add some to the table."))
    requireModel(model, dataSet.labelSet())
    options = segment.Options(device=device, flips=flips, entropy=True)
    return segment.createSegmentJob(folder, model, list(inputs.values()), options, keys=list(inputs))


def uncertainties(dataSet: DataSet, folder: Path | str) -> list[Uncertain]:
    """The unlabeled cases that a review job has segmented, the least sure first; those accepted since are left out.

    The uncertainty of a case is the mean entropy of the class probabilities, over its largest possible value, in the
    predicted heart and `MARGIN_MM` around it: elsewhere the model is sure that there is no heart, and how much of that
    a volume shows says nothing. Where no heart was found it is 1, since there is one in every case.

    Raises:
        ValueError: If the folder holds no such job.
    """
    process.addToPath()
    from semicardiac.images.volumes import read_series

    rows = {row.key: row for row in dataSet.rows() if row.role == "unlabeled"}
    accepted = dataSet.acceptedKeys()
    found = []
    for result in segment.readResults(folder):
        row = rows.get(_rowKey(result.key or ""))
        if row is None or "entropy" not in result.files:
            continue
        frames = list(zip(*(read_series(result.files[kind]) for kind in ("segmentation", "entropy")), strict=True))
        for index, (labels, entropy) in enumerate(frames):
            isFrame = row.kind == "sequence"
            key = _keyOf(row, index) if isFrame else result.key
            if key not in accepted:
                doubt = meanEntropy(entropy.array, labels.array > 0, entropy.spacing[::-1])
                found.append(Uncertain(key, _nameOf(result, index if isFrame else None), doubt, isFrame))
    return sorted(found, key=lambda each: -each.uncertainty)


def meanEntropy(entropy: np.ndarray, heart: np.ndarray, spacing) -> float:
    """The mean entropy in the heart and around it; 1 where there is no heart.

    Args:
        entropy: 0 to 1, [slice, row, column].
        heart: Where the heart is, bool, the same shape.
        spacing: In mm: slice, row, column.
    """
    from scipy.ndimage import distance_transform_edt

    if not heart.any():
        return 1.0
    reach = [int(MARGIN_MM // step) for step in spacing]
    box = tuple(
        slice(max(int(places.min()) - more, 0), int(places.max()) + more + 1)
        for places, more in zip(np.nonzero(heart), reach, strict=True)
    )
    near = distance_transform_edt(~heart[box], sampling=spacing) <= MARGIN_MM
    return float(entropy[box][near].mean())


def reviewSegmentation(dataSet: DataSet, folder: Path | str, key: str):
    """The segmentation node of a case of a review job: the one that is in the scene already, else a new one.

    One that was corrected in an earlier review, and not accepted yet, stays the segmentation of its case. For a frame
    of a sequence and for a file, the volume comes into the scene too: the reference of the segmentation.

    Raises:
        ValueError: If the case is not in the table or not segmented, or its volume has changed since.
    """
    mark = f"{Path(folder).absolute()}|{key}"
    row = dataSet.row(_rowKey(key))
    known = [node for node in _reviewNodes(dataSet) if _keyOfReview(node) == key]
    corrected = [node for node in known if _isCorrected(node)]
    for node in [*reversed(corrected), *known]:
        if node in corrected or node.GetAttribute(_REVIEW_ATTRIBUTE) == mark:
            return node
    inputKey = row.key if row.kind == "sequence" else key
    result = next((each for each in segment.readResults(folder) if each.key == inputKey), None)
    if result is None:
        raise ValueError(_("'{name}' is not segmented yet. Let the job finish first.").format(name=row.name))
    with nothingHalfMade():
        if row.kind == "volume":
            node = segment.loadResults(folder, [result.name], ["segmentation"])[0]
        else:
            node = _loadCase(row, result, key)
    node.SetAttribute(_REVIEW_ATTRIBUTE, mark)
    node.SetAttribute(_PREDICTED_ATTRIBUTE, checksum(node))
    return node


def correctedKeys(dataSet: DataSet) -> set[str]:
    """The keys of the cases that were corrected in a review, and are not accepted yet."""
    return {_keyOfReview(node) for node in _reviewNodes(dataSet) if _isCorrected(node)}


def carryOver(dataSet: DataSet, folder: Path | str, key: str) -> list[str]:
    """Gives what was corrected in a frame of a cine to the frames before and after it.

    Voxels that are no longer as the model segmented them become in the neighbors what they are in this frame; the
    rest of the neighbors stays.

    Returns:
        The keys of the frames that were changed, whose segmentations are in the scene then.

    Raises:
        ValueError: If the case is no frame of a sequence, or nothing was corrected in it.
    """
    row = dataSet.row(_rowKey(key))
    if row.kind != "sequence":
        raise ValueError(_("'{name}' is no frame of a cine, so that it has no neighbors.").format(name=row.name))
    result = next(each for each in segment.readResults(folder) if each.key == row.key)
    labelSet, index = result.labelSet, _indexOf(key)
    corrected, predicted = _labelsOf(reviewSegmentation(dataSet, folder, key), labelSet), _predicted(result, index)
    changed = corrected != predicted
    if not changed.any():
        raise ValueError(_("Nothing was corrected in this frame yet. Correct it first."))
    accepted, done = dataSet.acceptedKeys(), []
    for neighbor in (index - 1, index + 1):
        neighborKey = f"{row.key}/{neighbor}"
        if 0 <= neighbor < row.sequenceNode.GetNumberOfDataNodes() and neighborKey not in accepted:
            node = reviewSegmentation(dataSet, folder, neighborKey)
            labels = _labelsOf(node, labelSet)
            labels[changed] = corrected[changed]
            _replaceLabels(node, labels, labelSet)
            done.append(neighborKey)
    return done


def accept(dataSet: DataSet, key: str, segmentationNode) -> Row:
    """Makes an unlabeled case a labeled one.

    The frame of a sequence and the file of a pool become a row of their own, with the volume that the segmentation
    belongs to; so does a file, in place of its row. As long as that row is there, the sequence or the pool goes
    without the case.

    Args:
        dataSet: The table of cases.
        key: Of a row, or of a case in it, see `Uncertain`.
        segmentationNode: Its segmentation, drawn or corrected.

    Returns:
        The row of the labeled case.

    Raises:
        ValueError: If there is no such case, it is not unlabeled, the segmentation is empty, has no structure of the
            table, or lies on another grid than the volume.
    """
    process.addToPath()
    row = dataSet.row(_rowKey(key))
    if row.role != "unlabeled":
        message = _("The role of '{name}' is {role}, and only an unlabeled case is made a labeled one. "
                    "Change its role in the table first.")  # fmt: skip
        raise ValueError(message.format(name=row.name, role=row.role))
    if segmentationNode is None:
        raise ValueError(_("There is no segmentation to accept. Choose one."))
    volumeNode = row.volumeNode if row.kind == "volume" else _volumeOf(segmentationNode)
    if volumeNode is None:
        message = _("The volume of '{name}' is no longer in the scene. Load it again.")
        raise ValueError(message.format(name=segmentationNode.GetName()))
    mapping = guessMapping(segmentationNode, dataSet.labelSet())
    if not getLabels(segmentationNode, volumeNode, mapping, dataSet.labelSet()).any():
        message = _("The segmentation '{name}' is empty. Draw the structures before you accept it.")
        raise ValueError(message.format(name=segmentationNode.GetName()))
    if row.kind == "volume":
        dataSet.setSegmentation(key, segmentationNode)
        dataSet.setRole([key], "labeled")
        accepted = dataSet.row(key)
    else:
        about = dataSet.files(row.key)[_indexOf(key)] if row.kind == "pool" else {}
        patient, phase = about.get("patient", row.patient), about.get("phase") or row.phase
        accepted = dataSet.addVolume(volumeNode, segmentationNode, role="labeled", patient=patient, phase=phase)
        volumeNode.SetAttribute(CASE_ATTRIBUTE, key)
        if row.kind == "file":
            dataSet.remove([row.key])
    segmentationNode.RemoveAttribute(RESULT_ATTRIBUTE)  # it is a person's work now
    return accepted


def _loadCase(row: Row, result: segment.SegmentedInput, key: str):
    """The segmentation of a frame or a file, with its volume."""
    from semicardiac.images.volumes import read_series

    isFrame = row.kind == "sequence"
    index = _indexOf(key) if isFrame else 0
    image, labels = (read_series(path)[index] for path in (result.image, result.files["segmentation"]))
    name = _nameOf(result, index if isFrame else None)
    volumeNode = addVolume(image.array, image.ijk_to_ras, uniqueName(name))
    if isFrame and (shown := sequences.shownBy(row.sequenceNode)) is not None:
        placeBeside(volumeNode, shown)
    title = segment.titleOf("segmentation", volumeNode.GetName())
    node = newSegmentation(title, volumeNode, result.labelSet.to_training(labels.array), result.labelSet)
    node.SetAttribute(RESULT_ATTRIBUTE, "segmentation")
    return node


def _predicted(result: segment.SegmentedInput, frame: int) -> np.ndarray:
    """The training labels that the model has given to a frame, in the order of the volume that review shows."""
    from semicardiac.images.volumes import read_series

    return result.labelSet.to_training(read_series(result.files["segmentation"])[frame].array)


def _labelsOf(segmentationNode, labelSet) -> np.ndarray:
    return getLabels(segmentationNode, _volumeOf(segmentationNode), guessMapping(segmentationNode, labelSet), labelSet)


def _replaceLabels(segmentationNode, labels: np.ndarray, labelSet) -> None:
    """Gives the segments of the structures new voxels; other segments, which a person may have added, stay."""
    volume = _volumeOf(segmentationNode)
    for segmentId, structure in guessMapping(segmentationNode, labelSet).items():
        mask = (labels == labelSet.names.index(structure) + 1).astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentationNode, segmentId, volume)


def _nameOf(result: segment.SegmentedInput, frame: int | None) -> str:
    return result.title if frame is None else _("{name} frame {number}").format(name=result.title, number=frame + 1)


def _keyOf(row: Row, index: int) -> str:
    return row.key if row.kind == "file" else f"{row.key}/{index}"


def _rowKey(key: str) -> str:
    return key.partition("/")[0]


def _indexOf(key: str) -> int:
    return int(key.partition("/")[2] or 0)


def _reviewNodes(dataSet: DataSet) -> list:
    """The segmentations that were loaded for review, whose volume is there, and which are not accepted."""
    taken = {row.segmentationNode for row in dataSet.rows()}
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [node for node in nodes if node.GetAttribute(_REVIEW_ATTRIBUTE) and _volumeOf(node) and node not in taken]


def _keyOfReview(segmentationNode) -> str:
    return segmentationNode.GetAttribute(_REVIEW_ATTRIBUTE).rpartition("|")[2]


def _isCorrected(segmentationNode) -> bool:
    """Whether a segmentation of a review is no longer as the model made it."""
    return checksum(segmentationNode) != segmentationNode.GetAttribute(_PREDICTED_ATTRIBUTE)


def _volumeOf(segmentationNode):
    return segmentationNode.GetNodeReference(segmentationNode.GetReferenceImageGeometryReferenceRole())
