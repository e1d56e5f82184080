"""What is read off segmentations: volumes, ejection fraction, mass, and how well they agree with a reference.

Results are table nodes, whose column names tell the units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import slicer
import vtk

from ..engine import process
from ..i18n import tr as _
from ..scene import sequences
from ..scene.nodes import gridOf, uniqueName
from ..scene.segmentations import getLabels, isLabelMap, labelSetOf, readLayers
from ..scene.structures import guessMapping

ML_SUFFIX = " (ml)"
"""Ends the names of columns with volumes."""


def fittingLabelSet(segmentations, preferred):
    """The label set to measure by: the preferred one, unless that would lose structures which the segmentations have.

    Args:
        segmentations: As for `volumesTable`.
        preferred: A label set of the engine.

    Returns:
        `preferred`, or the one that the segmentations were made with, where it is the same for all and knows segments
        that `preferred` does not.
    """
    if _isSequence(segmentations):
        segmentations = segmentations.GetNthDataNode(0)
    nodes = [node for node in _nodeList(segmentations) if node is not None and node.IsA("vtkMRMLSegmentationNode")]
    made = [labelSetOf(node) for node in nodes]
    if not made or made[0] is None or any(each != made[0] for each in made):
        return preferred
    known = all(guessMapping(node, made[0]).keys() <= guessMapping(node, preferred).keys() for node in nodes)
    return preferred if known else made[0]


def volumesTable(segmentations, labelSet):
    """The volume of each structure, one row a segmentation or frame.

    Args:
        segmentations: A segmentation node, a list of them, or a sequence node of segmentations.
        labelSet: The engine's LabelSet: which structures there are.

    Returns:
        A new vtkMRMLTableNode. Its columns: `frame`, counted from 1, and the time of a sequence, or `segmentation`, the
        name; `remark`, if there are volumes that no heart has; then `<structure> (ml)` for each structure, NaN where
        there is no segment for it.

    Raises:
        ValueError: If there is no segmentation, one of them has no segment of the label set, or lies under a transform
            that is not linear.
    """
    volumes = _volumes(segmentations, labelSet)
    columns: dict[str, list] = {}
    if _isSequence(segmentations):
        columns[_("frame")] = list(range(1, len(volumes) + 1))
        times = sequences.indexValues(segmentations)
        if times is not None:
            columns[f"{segmentations.GetIndexName()} ({segmentations.GetIndexUnit()})"] = times
        name = segmentations.GetName()
    else:
        nodes = _nodeList(segmentations)
        columns[_("segmentation")] = [node.GetName() for node in nodes]
        name = nodes[0].GetName()
    from semicardiac.evaluation.clinical import implausible_volumes

    remarks = ["; ".join(implausible_volumes(each, labelSet).values()) for each in volumes]
    if any(remarks):
        columns[_("remark")] = remarks
    for structure in labelSet.names:
        columns[structure + ML_SUFFIX] = [each[structure] for each in volumes]
    return _newTable(_("{name} volumes").format(name=name), columns)


def clinicalNumbers(segmentations, labelSet, edFrame: int | None = None, esFrame: int | None = None) -> dict:
    """Ventricular volumes, stroke volume and ejection fraction, and LV mass at end diastole.

    End diastole is where the LV cavity is largest, end systole where it is smallest, among the frames that have one;
    unless the arguments or the attributes of a sequence (`sequences.setPhases`) say otherwise.

    Args:
        segmentations: As for `volumesTable`.
        labelSet: The engine's LabelSet; its roles say which structures are the cavities and the myocardium.
        edFrame: Which frame is end diastole, counted from 0.
        esFrame: Which one is end systole.

    Returns:
        `edFrame` and `esFrame`; those of `semicardiac.evaluation.clinical.MEASURES` that the label set allows, such as
        `lv_edv_ml` and `lv_ef_percent`; and `implausible`, what is wrong with those that cannot be of a heart, by
        measure.

    Raises:
        ValueError: As `volumesTable`; if the label set has no LV cavity, fewer than two frames have one, or there is no
            such frame.
    """
    volumes = _volumes(segmentations, labelSet)
    cavity = next((structure.name for structure in labelSet.structures if structure.role == "lv"), None)
    if cavity is None:
        message = _("The structures '{name}' have no LV cavity, from which ED and ES are found. Choose others.")
        raise ValueError(message.format(name=labelSet.name))
    if _isSequence(segmentations):
        ed, es = sequences.phases(segmentations)
        edFrame = ed if edFrame is None else edFrame
        esFrame = es if esFrame is None else esFrame
    for frame in (edFrame, esFrame):
        if frame is not None and not 0 <= frame < len(volumes):
            message = _("There is no frame {frame}: they go from 1 to {count}.")
            raise ValueError(message.format(frame=frame + 1, count=len(volumes)))
    from semicardiac.evaluation.clinical import cycle_phases, implausible, patient_measures

    sizes = [each[cavity] for each in volumes]
    filled = sum(size > 0 for size in sizes)
    edFrame, esFrame = cycle_phases(sizes, edFrame, esFrame)
    if filled < 2 or edFrame is None or esFrame is None:
        message = _("{cavity} is segmented in {count} of {all} frames; ED and ES need two. Segment more of them.")
        raise ValueError(message.format(cavity=cavity, count=filled, all=len(volumes)))
    phases = volumes[edFrame], volumes[esFrame]
    measures, doubts = patient_measures(*phases, labelSet), implausible(*phases, labelSet)
    return {"edFrame": edFrame, "esFrame": esFrame, **measures, "implausible": doubts}


def clinicalTable(segmentations, labelSet):
    """What `clinicalNumbers` finds, as a table to save.

    Args:
        segmentations: As for `volumesTable`.
        labelSet: The engine's LabelSet.

    Returns:
        A new vtkMRMLTableNode with the columns `measure`, `value`, `unit` and `remark`, which says what is wrong with a
        value that cannot be of a heart; frames are counted from 1.

    Raises:
        ValueError: As `clinicalNumbers`.
    """
    found = clinicalNumbers(segmentations, labelSet)
    from semicardiac.evaluation.clinical import MEASURES

    doubts = found.pop("implausible")
    rows = [
        (_("end-diastolic frame"), found.pop("edFrame") + 1.0, "", ""),
        (_("end-systolic frame"), found.pop("esFrame") + 1.0, "", ""),
    ]
    rows += [(MEASURES[key][0], value, MEASURES[key][1], doubts.get(key, "")) for key, value in found.items()]
    node = segmentations if _isSequence(segmentations) else _nodeList(segmentations)[0]
    titles = (_("measure"), _("value"), _("unit"), _("remark"))
    columns = dict(zip(titles, map(list, zip(*rows, strict=True)), strict=True))
    return _newTable(_("{name} clinical numbers").format(name=node.GetName()), columns)


def compare(segmentation, reference, volume, labelSet):
    """How well a segmentation agrees with a reference segmentation of the same volume.

    Args:
        segmentation: A segmentation node.
        reference: A segmentation node or label map node.
        volume: The volume that both segment; both must lie on its grid.
        labelSet: The engine's LabelSet.

    Returns:
        A new vtkMRMLTableNode, a row for each structure that both have: Dice, HD95 and ASD in mm, and volumes in ml;
        NaN where a value is undefined (see `semicardiac.evaluation.metrics`).

    Raises:
        ValueError: If one of them is missing, lies on another grid, or they share no structure.
    """
    process.addToPath()
    from semicardiac.evaluation.metrics import evaluate_pair
    from semicardiac.images.volumes import Volume

    for node, what in ((segmentation, _("segmentation")), (reference, _("reference")), (volume, _("volume"))):
        if node is None:
            raise ValueError(_("There is no {what} to compare. Choose one.").format(what=what))
    matrix = gridOf(volume).matrix
    pair, shared = [], set(labelSet.names)
    for node in (segmentation, reference):
        mapping = {} if isLabelMap(node) else guessMapping(node, labelSet)
        pair.append(Volume(getLabels(node, volume, mapping, labelSet), matrix))
        shared &= set(labelSet.names) if isLabelMap(node) else set(mapping.values())
    rows = [row for row in evaluate_pair(*pair, labelSet) if row["structure"] in shared]
    if not rows:
        message = _("'{a}' and '{b}' share no structure of '{labels}'. Rename their segments to {names}.")
        names = ", ".join(labelSet.names)
        a, b = segmentation.GetName(), reference.GetName()
        raise ValueError(message.format(a=a, b=b, labels=labelSet.name, names=names))
    columns = {
        _("structure"): "structure",
        "Dice": "dice",
        "HD95 (mm)": "hd95_mm",
        "ASD (mm)": "asd_mm",
        _("volume") + ML_SUFFIX: "prediction_ml",
        _("reference volume") + ML_SUFFIX: "reference_ml",
    }
    name = _("{name} against {reference}").format(name=segmentation.GetName(), reference=reference.GetName())
    return _newTable(name, {title: [row[key] for row in rows] for title, key in columns.items()})


def saveTable(tableNode, path: Path) -> Path:
    """Writes a table as CSV: whole or not at all, and never over a file that is there.

    Numbers have six digits; an undefined one is left empty, and no text is a formula (see `semicardiac.base.tables`).

    Raises:
        ValueError: If there is a file of this name, or the place is not writable.
    """
    process.addToPath()
    from semicardiac.base.files import write_text
    from semicardiac.base.tables import format_csv

    path = Path(path)
    if path.exists():
        raise ValueError(_("{path} is there already. Choose another name.").format(path=path))
    table = tableNode.GetTable()
    columns = [table.GetColumn(index) for index in range(table.GetNumberOfColumns())]
    rows = ([column.GetValue(row) for column in columns] for row in range(table.GetNumberOfRows()))
    write_text(path, format_csv([column.GetName() for column in columns], rows, digits=6))
    return path


def structureVolumes(segmentationNode, labelSet, placedBy=None) -> dict[str, float]:
    """The volume of each structure in ml, as the segmentation lies in the scene; NaN where no segment stands for it.

    Args:
        segmentationNode: The segmentation, which may be one of a sequence.
        labelSet: The engine's LabelSet.
        placedBy: The node whose parent transform counts; that of a sequence's frames is the one that shows them.

    Raises:
        ValueError: If it lies under a transform that is not linear, or has surfaces without voxels.
    """
    name = segmentationNode.GetName()
    segmentation = segmentationNode.GetSegmentation()
    if segmentation.GetNumberOfSegments() and not segmentation.ContainsRepresentation("Binary labelmap"):
        message = _("'{name}' has surfaces and no voxels. Convert it to a binary labelmap in the module Segmentations.")
        raise ValueError(message.format(name=name))
    volumes = dict.fromkeys(labelSet.names, math.nan)
    mapping = guessMapping(segmentationNode, labelSet)
    for structure in mapping.values():
        volumes[structure] = 0.0  # a segment without voxels has no layer
    scale = _transformScale(placedBy or segmentationNode)
    for layer in readLayers(segmentationNode, None):
        voxelMl = abs(np.linalg.det(layer.matrix[:3, :3])) / 1000 * scale
        for segmentId, value in layer.values.items():
            if segmentId in mapping:
                volumes[mapping[segmentId]] += float(np.count_nonzero(layer.array == value) * voxelMl)
    return volumes


def _volumes(segmentations, labelSet) -> list[dict[str, float]]:
    """The volumes of each segmentation or frame."""
    process.addToPath()
    if _isSequence(segmentations):
        count = segmentations.GetNumberOfDataNodes()
        nodes = [segmentations.GetNthDataNode(index) for index in range(count)]
        placedBy = sequences.shownBy(segmentations)
    else:
        nodes, placedBy = _nodeList(segmentations), None
    for node in nodes:
        if node is None or not node.IsA("vtkMRMLSegmentationNode"):
            name = _("nothing") if node is None else f"'{node.GetName()}'"
            message = _("Volumes are measured in segmentations, and {name} is none. Segment it first.")
            raise ValueError(message.format(name=name))
    volumes = [structureVolumes(node, labelSet, placedBy) for node in nodes]
    if not volumes or all(math.isnan(value) for each in volumes for value in each.values()):
        message = _("No segment of '{name}' is one of {structures}. Rename the segments.")
        name = segmentations.GetName() if _isSequence(segmentations) else nodes[0].GetName()
        raise ValueError(message.format(name=name, structures=", ".join(labelSet.names)))
    return volumes


def _isSequence(segmentations) -> bool:
    return hasattr(segmentations, "IsA") and segmentations.IsA("vtkMRMLSequenceNode")


def _nodeList(segmentations) -> list:
    nodes = list(segmentations) if isinstance(segmentations, Sequence) else [segmentations]
    if not nodes:
        raise ValueError(_("There is no segmentation to measure. Choose one."))
    return nodes


def _transformScale(segmentationNode) -> float:
    """By how much the parent transform changes volumes."""
    transform = segmentationNode.GetParentTransformNode()
    if transform is None:
        return 1.0
    matrix = vtk.vtkMatrix4x4()
    if not transform.GetMatrixTransformToWorld(matrix):
        message = _("'{name}' lies under the transform '{transform}', which bends it. Harden the transform first.")
        raise ValueError(message.format(name=segmentationNode.GetName(), transform=transform.GetName()))
    return abs(matrix.Determinant())


def _newTable(name: str, columns: Mapping[str, list]):
    """A table node; texts, whole numbers and numbers become columns of their kind."""
    kinds = {str: vtk.vtkStringArray, int: vtk.vtkIntArray, float: vtk.vtkDoubleArray}
    arrays = []
    for title, values in columns.items():
        array = next(made for kind, made in kinds.items() if isinstance(values[0], kind))()
        array.SetName(title)
        for value in values:
            array.InsertNextValue(value)
        arrays.append(array)
    tableNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", uniqueName(name))
    for array in arrays:
        tableNode.AddColumn(array)
    return tableNode
