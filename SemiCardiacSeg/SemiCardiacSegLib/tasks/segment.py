"""Segmenting what is in the scene: from nodes to a job of the engine, and from its results to nodes.

The job folder holds `data/` with the exported volumes, `results/`, and `scene.json`, which tells the nodes: results can
be loaded after the scene was saved and opened again, or Slicer was started anew.
"""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import slicer

from ..engine import process
from ..engine.folders import newFolder
from ..i18n import tr as _
from ..scene import sequences
from ..scene.nodes import RESULT_ATTRIBUTE, Grid, arrayAndMatrix, checkKind, gridDifference, gridOf
from ..scene.segmentations import newSegmentation
from ..scene.transaction import nothingHalfMade
from ..table.export import SafeNames

MANIFEST = "scene.json"
"""File of the job folder that tells which node each input came from."""
_FORMAT = 1
_LABELS = ("segmentation", "pseudo_labels")
"""Kinds of results that are labels; the others are maps of numbers from 0 to 1."""
_SHOWN = {"confidence": (0.0, 0.99), "entropy": (0.02, 1.0), "threshold": (1e-6, 1.0)}
"""Between which values a map is seen over its image: where the model is sure, as in nearly all of the background, it
would hide the image and say nothing."""
_MAP_COLORS = "vtkMRMLColorTableNodeFileViridis.txt"


@dataclass(frozen=True)
class Options:
    """What is wanted besides the segmentations, and how they are made."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, ..."""
    flips: bool = True
    """Average over flipped slices: a little better, in twice the time."""
    confidence: bool = False
    entropy: bool = False
    thresholdMap: bool = False
    pseudoLabels: bool = False


def createSegmentJob(
    folder: Path | str | None, model: Path, inputs, options: Options | None = None, keys: Sequence[str] | None = None
) -> Path:
    """Writes a job that segments volumes and sequences.

    Args:
        folder: New or empty folder; a temporary one without it, see `discard`.
        model: A finished training's folder, or a model package (folder or zip).
        inputs: A volume node, a sequence node of volumes, a case of the engine (`semicardiac.data.cases.Case`): a
            file, or a list of these. Parent transforms do not count: results lie under the same.
        options: What else is wanted.
        keys: What the caller knows the inputs by; `readResults` gives it back.

    Returns:
        The job folder.

    Raises:
        ValueError: If an input or the model cannot be used, or the folder is not empty or not writable.
    """
    process.addToPath()
    from semicardiac.base.files import write_json
    from semicardiac.base.settings import parse
    from semicardiac.jobs.job import SegmentJob, write_job
    from semicardiac.models.package import open_package

    options = options or Options()
    inputs = list(inputs) if isinstance(inputs, Sequence) else [inputs]
    if not inputs:
        raise ValueError(_("There is nothing to segment. Choose a volume or a sequence."))
    for each in inputs:
        _check(each)
    package = open_package(model)
    package.verify()
    isTemporary = folder is None
    with newFolder(folder) as folder:
        safeName = SafeNames()
        names = [safeName(_titleOf(each).replace(".", "_")) for each in inputs]  # a suffix would be cut off
        files = [_export(each, name, folder / "data") for each, name in zip(inputs, names, strict=True)]
        entries = [
            {"name": name, "title": _titleOf(each), "key": key, **({} if _isCase(each) else _identityOf(each))}
            for each, name, key in zip(inputs, names, keys or [None] * len(inputs), strict=True)
        ]
        labels = package.labels.model_dump(mode="json")
        temporary = str(folder) if isTemporary else None  # its place, so that a copy elsewhere is not taken for it
        manifest = {"format": _FORMAT, "temporary": temporary, "labels": labels, "inputs": entries}
        write_json(folder / MANIFEST, manifest)
        fields = {"model": Path(model).absolute(), "inputs": files, "out": folder / "results", "suffix": ".nrrd"}
        fields |= {name: getattr(options, name) for name in ("device", "flips", "confidence", "entropy")}
        fields |= {"threshold": options.thresholdMap, "pseudo_labels": options.pseudoLabels}
        write_job(folder, parse(SegmentJob, fields, where=folder))
    return folder


def discard(folder: Path | str) -> None:
    """Deletes a job in a temporary folder, with its copies of the volumes; a folder that somebody chose stays."""
    process.addToPath()
    from semicardiac.base.files import read_json

    folder = Path(folder).absolute()
    if (folder / MANIFEST).is_file() and read_json(folder / MANIFEST).get("temporary") == str(folder):
        try:
            shutil.rmtree(folder)
        except OSError as error:  # what is in the scene is of use all the same
            logging.warning(_("These files of a segmentation could not be deleted: {error}").format(error=error))


def loadResults(
    folder: Path | str,
    names: Sequence[str] | None = None,
    kinds: Sequence[str] | None = None,
    tick: Callable[[], object] | None = None,
) -> list:
    """Puts the results of a segment job into the scene.

    Args:
        folder: The job folder.
        names: Of the inputs, see `SegmentedInput`; all that are segmented and came from the scene without it.
        kinds: Of results, besides; all that there are without it.
        tick: Called after each node and each frame; what it raises ends the work.

    Returns:
        The new nodes: the segmentations in the order of the inputs (of a sequence, a sequence), then the maps and
        pseudo-labels that were asked for.

    Raises:
        ValueError: If there is no result, or a volume was deleted or changed since; the scene stays as it was.
    """
    results = readResults(folder)
    chosen = [each for each in results if (each.nodeId is not None if names is None else each.name in names)]
    if not chosen:
        raise ValueError(_("Nothing is segmented in {folder} yet. Let the job finish first.").format(folder=folder))
    wanted = [(each, kind) for each in chosen for kind in each.files if kinds is None or kind in kinds]
    wanted = [(each, "segmentation") for each in chosen] + [pair for pair in wanted if pair[1] != "segmentation"]
    with nothingHalfMade(tick) as pause:
        for result in chosen:
            _requireUnchanged(result, pause)
        nodes = []
        for result, kind in wanted:
            nodes.append(_load(result, kind, pause))
            pause()
        return nodes


class SegmentedInput(NamedTuple):
    """An input of a segment job that is segmented."""

    name: str
    """Which its result files are named after."""
    title: str
    """What its node was called when it was segmented; the name of a case."""
    key: str | None
    """What the caller of `createSegmentJob` knows it by."""
    image: Path
    """What was segmented."""
    files: dict[str, Path]
    """By kind: segmentation, confidence, entropy, threshold, pseudo_labels."""
    labelSet: object
    """The engine's LabelSet that the model was trained on."""
    nodeId: str | None = None
    """Of the volume or sequence; None for a case."""
    matrix: Sequence[Sequence[float]] = ()
    """IJK to RAS of its voxels, 4x4, when they were segmented; empty for a case."""
    shape: Sequence[int] = ()
    """Slices, rows, columns."""
    frames: Sequence[str] = ()
    """Checksums of the voxels of each frame."""

    @property
    def node(self):
        """The volume or sequence in the scene, or None."""
        return slicer.mrmlScene.GetNodeByID(self.nodeId) if self.nodeId else None

    def read(self, kind: str, grid: Grid, pause: Callable[[], object]) -> list[np.ndarray]:
        """The training labels or numbers of a file on a grid, [slice, row, column] for each frame.

        `pause` is called when the file is read, and after each frame.
        """
        from semicardiac.images.volumes import read_series

        frames = read_series(self.files[kind])
        pause()
        arrays = []
        for frame in frames:
            array = sequences.onGrid(frame.array, frame.ijk_to_ras, grid)
            arrays.append(self.labelSet.to_training(array) if kind in _LABELS else array)
            pause()
        return arrays


def readResults(folder: Path | str) -> list[SegmentedInput]:
    """The inputs of a segment job that are segmented, in their order.

    Raises:
        ValueError: If the folder holds no job that was made from a scene.
    """
    process.addToPath()
    from semicardiac.base.events import Result, read_events
    from semicardiac.base.files import read_json
    from semicardiac.images.labels import LabelSet
    from semicardiac.jobs.job import EVENTS, full_path, load_job

    folder = Path(folder).absolute()
    if not (folder / MANIFEST).is_file():
        message = _("{folder} is not a segmentation of this module: it holds no file {name}. Choose another folder.")
        raise ValueError(message.format(folder=folder, name=MANIFEST))
    manifest = read_json(folder / MANIFEST)
    labelSet = LabelSet.model_validate(manifest["labels"])
    files: dict[str, dict[str, Path]] = {}
    for event in read_events(folder / EVENTS) if (folder / EVENTS).exists() else []:
        if isinstance(event, Result):
            files.setdefault(event.case, {})[event.kind] = full_path(folder, event.path)
    images = load_job(folder).inputs
    return [
        SegmentedInput(**entry, image=image, files=files[entry["name"]], labelSet=labelSet)
        for entry, image in zip(manifest["inputs"], images, strict=True)
        if "segmentation" in files.get(entry["name"], {})
    ]


def _check(each) -> None:
    """Raises ValueError for an input that cannot be segmented."""
    if _isCase(each):
        return
    if each is not None and each.IsA("vtkMRMLSequenceNode"):
        sequences.readFrames(each)
    else:
        checkKind(each)


def _isCase(each) -> bool:
    from semicardiac.data.cases import Case

    return isinstance(each, Case)


def _titleOf(each) -> str:
    return each.name if _isCase(each) else each.GetName()


def _export(each, name: str, folder: Path) -> Path:
    """The file to segment: that of a case, or a new one with the voxels of a node."""
    from semicardiac.data.cases import load_image
    from semicardiac.images.volumes import stem, write_series

    if _isCase(each) and each.frame is None and stem(each.image) == name:
        return each.image
    path = folder / f"{name}.nrrd"
    write_series(path, [load_image(each)] if _isCase(each) else _volumesOf(each))
    return path


def _volumesOf(node) -> list:
    """The volumes of a volume or sequence node, as the engine's."""
    from semicardiac.images.volumes import Volume

    if not node.IsA("vtkMRMLSequenceNode"):
        return [Volume(*arrayAndMatrix(node))]
    frames, matrix = sequences.readFrames(node)
    times = sequences.timesOf(node) or [None] * len(frames)
    return [Volume(frame, matrix, time) for frame, time in zip(frames, times, strict=True)]


def _identityOf(node) -> dict:
    """By which a volume or sequence is known again: its ID, and the place and the checksums of its voxels.

    Fields of `SegmentedInput`. Checksums take a fraction of the time in which the exported file would be read again.
    """
    frames = _framesOf(node)
    grid = gridOf(frames[0])
    checksums = [_checksum(frame, grid) for frame in frames]
    return {"nodeId": node.GetID(), "matrix": grid.matrix.tolist(), "shape": list(grid.shape), "frames": checksums}


def _requireUnchanged(result: SegmentedInput, pause: Callable[[], object]) -> None:
    """Raises ValueError unless the node of an input is there, with the voxels that were segmented in their place.

    `pause` is called after each frame.
    """
    if result.node is None:
        message = _("'{title}' is no longer in the scene, so its segmentation has no place. "
                    "Open the scene in which it was segmented, or segment it again.")  # fmt: skip
        raise ValueError(message.format(title=result.title))
    _check(result.node)
    pause()
    frames = _framesOf(result.node)
    grid = Grid(tuple(result.shape), np.array(result.matrix))
    same = len(frames) == len(result.frames) and not gridDifference(gridOf(frames[0]), grid)
    for frame, checksum in zip(frames, result.frames, strict=False):
        if not same or _checksum(frame, grid) != checksum:
            message = _("'{name}' is not what it was when it was segmented. Segment it again.")
            raise ValueError(message.format(name=result.node.GetName()))
        pause()


def _framesOf(node) -> list:
    """The volume nodes of a sequence, or a volume alone."""
    if not node.IsA("vtkMRMLSequenceNode"):
        return [node]
    return [node.GetNthDataNode(index) for index in range(node.GetNumberOfDataNodes())]


def _checksum(volumeNode, grid: Grid) -> str:
    """Of the voxels of a volume in the order of a grid: Slicer may turn the slices around when it opens a scene."""
    array = sequences.onGrid(*arrayAndMatrix(volumeNode), grid)
    return hashlib.blake2b(np.ascontiguousarray(array), digest_size=16).hexdigest()


def _load(result: SegmentedInput, kind: str, pause: Callable[[], None]):
    """The new node with the labels or the map of an input; `pause` is called after each frame."""
    node = result.node
    isSequence = node.IsA("vtkMRMLSequenceNode")
    arrays = result.read(kind, gridOf(_framesOf(node)[0]), pause)
    name = titleOf(kind, node.GetName())
    darkest = _leastThreshold(arrays) if kind == "threshold" else 0.0
    if kind in _LABELS:
        if isSequence:
            made = sequences.newSegmentationSequence(name, node, arrays, result.labelSet, pause)
        else:
            made = newSegmentation(name, node, arrays[0], result.labelSet)
    elif isSequence:
        made = sequences.newVolumeSequence(name, node, arrays, pause)
        _showAsMap(sequences.shownBy(made), kind, darkest)
    else:
        made = sequences.newVolumeBeside(name, node, arrays[0])
        _showAsMap(made, kind, darkest)
    made.SetAttribute(RESULT_ATTRIBUTE, kind)
    return made


def titleOf(kind: str, name: str) -> str:
    """What a result of a volume of that name is called."""
    titles = {
        "segmentation": _("{name} SemiCardiacSeg"),
        "confidence": _("{name} SemiCardiacSeg confidence"),
        "entropy": _("{name} SemiCardiacSeg entropy"),
        "threshold": _("{name} SemiCardiacSeg threshold map"),
        "pseudo_labels": _("{name} SemiCardiacSeg pseudo-labels"),
    }
    return titles[kind].format(name=name)


def _leastThreshold(arrays: Iterable[np.ndarray]) -> float:
    """The tenth below all thresholds: most lie so near to 1 that on a scale from 0 they would all look the same."""
    least = min((float(array[array > 0].min()) for array in arrays if array.any()), default=0.0)
    return min(math.floor(10 * least) / 10, 0.9)


def _showAsMap(volumeNode, kind: str, darkest: float) -> None:
    """Shows numbers from `darkest` to 1 with a legend, and those that say nothing as transparent."""
    display = volumeNode.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(darkest, 1.0)
    if slicer.mrmlScene.GetNodeByID(_MAP_COLORS) is not None:
        display.SetAndObserveColorNodeID(_MAP_COLORS)
    display.AutoThresholdOff()
    display.SetThreshold(*_SHOWN[kind])
    display.ApplyThresholdOn()
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(volumeNode)
    if legend is not None:
        legend.SetTitleText(kind)
