"""Time series in the scene: cines, and what is segmented in them, side by side in one sequence browser.

Frames are counted from 0. They are read from and written into the sequence nodes, without stepping a browser through
them, so that the views do not flicker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import slicer
import slicer.util

from ..i18n import tr as _
from .nodes import (
    Grid,
    addVolume,
    arrayAndMatrix,
    checkKind,
    gridDifference,
    gridOf,
    placeBeside,
    resampledLabels,
    uniqueName,
)
from .segmentations import newSegmentation, setLabels

_PHASE_ATTRIBUTES = {"ED": "SemiCardiacSeg.ED", "ES": "SemiCardiacSeg.ES"}
"""Attributes of a sequence node. Those of the nodes that a browser shows for it would be lost with the next frame."""
Tick = Callable[[], object]
SetFrame = Callable[[object, np.ndarray], object]
"""Gives a node the voxels of a frame."""

_SECONDS = {"s": 1.0, "ms": 1e-3}


def phases(sequenceNode) -> tuple[int | None, int | None]:
    """The frames at end diastole and end systole, as far as somebody said which these are."""
    values = [sequenceNode.GetAttribute(name) for name in _PHASE_ATTRIBUTES.values()]
    return tuple(int(value) if value else None for value in values)


def setPhases(sequenceNode, ed: int | None, es: int | None) -> None:
    """Says which frames are end diastole and end systole; None leaves it to the measurement. Saved with the scene.

    Raises:
        ValueError: If there is no such frame, or both are the same.
    """
    count = sequenceNode.GetNumberOfDataNodes()
    for phase, frame in (("ED", ed), ("ES", es)):
        if frame is not None and not 0 <= frame < count:
            message = _("'{name}' has no frame {frame} for {phase}: its frames go from 1 to {count}.")
            raise ValueError(message.format(name=sequenceNode.GetName(), frame=frame + 1, phase=phase, count=count))
    if ed is not None and ed == es:
        message = _("Frame {frame} of '{name}' cannot be both ED and ES. Choose another frame for one of them.")
        raise ValueError(message.format(frame=ed + 1, name=sequenceNode.GetName()))
    for name, frame in zip(_PHASE_ATTRIBUTES.values(), (ed, es), strict=True):
        if frame is None:
            sequenceNode.RemoveAttribute(name)
        else:
            sequenceNode.SetAttribute(name, str(int(frame)))


def readFrames(sequenceNode) -> tuple[list[np.ndarray], np.ndarray]:
    """The images of a cine.

    Returns:
        An array [slice, row, col] for each frame, and the IJK-to-RAS matrix that they share.

    Raises:
        ValueError: If it holds anything but scalar volumes on one grid, or nothing.
    """
    name = sequenceNode.GetName()
    dataNodes = [sequenceNode.GetNthDataNode(index) for index in range(sequenceNode.GetNumberOfDataNodes())]
    if not dataNodes:
        raise ValueError(_("The sequence '{name}' has no frames. Choose one with volumes.").format(name=name))
    for node in dataNodes:
        checkKind(node)
    grid = gridOf(dataNodes[0])
    for index, node in enumerate(dataNodes):
        if difference := gridDifference(gridOf(node), grid):
            message = _("Frame {frame} of '{name}' lies on another grid than the first: {difference}. Resample it.")
            raise ValueError(message.format(frame=index + 1, name=name, difference=difference))
    return [onGrid(*arrayAndMatrix(node), grid) for node in dataNodes], grid.matrix


def onGrid(array: np.ndarray, matrix: np.ndarray, grid: Grid) -> np.ndarray:
    """Voxels [slice, row, column] in the order of a grid on which they lie, as they are where it is theirs."""
    toGrid = np.linalg.inv(grid.matrix) @ matrix
    isSame = array.shape == grid.shape and np.allclose(toGrid, np.eye(4), atol=1e-4)
    return array if isSame else resampledLabels(array, matrix, grid)


def timesOf(sequenceNode) -> list[float] | None:
    """The times of the frames from the first one on, in seconds; None if the sequence does not tell them."""
    scale = _SECONDS.get(sequenceNode.GetIndexUnit())
    values = indexValues(sequenceNode)
    return None if scale is None or values is None else [(value - values[0]) * scale for value in values]


def indexValues(sequenceNode) -> list[float] | None:
    """The index values of the frames; None if they are no numbers."""
    try:
        return [float(sequenceNode.GetNthIndexValue(index)) for index in range(sequenceNode.GetNumberOfDataNodes())]
    except ValueError:
        return None


def browserOf(sequenceNode):
    """The first browser that shows a sequence, or None."""
    return slicer.modules.sequences.logic().GetFirstBrowserNodeForSequenceNode(sequenceNode)


def shownBy(sequenceNode):
    """The node in the scene that shows the current frame of a sequence, or None where no browser shows it."""
    browser = browserOf(sequenceNode)
    return browser.GetProxyNode(sequenceNode) if browser is not None else None


def newCine(
    name: str, frames: Sequence[np.ndarray], matrix: np.ndarray, times: Sequence[float] | None,
    tick: Tick = lambda: None,
):  # fmt: skip
    """A sequence of volumes, with a browser.

    Args:
        name: Of the sequence and of the volume that the browser shows; numbered if there is a node of that name.
        frames: An array [slice, row, column] for each frame.
        matrix: IJK to RAS, 4x4.
        times: Of the frames, in seconds; None where they are not known, and frames are numbered from 1.
        tick: Called after each frame.

    Returns:
        The vtkMRMLSequenceNode.
    """
    volumeNode = addVolume(frames[0], matrix, uniqueName(name))
    sequence = _newSequence(volumeNode.GetName())
    sequence.SetIndexName("frame" if times is None else "time")
    sequence.SetIndexUnit("" if times is None else "s")
    values = [str(number) for number in range(1, len(frames) + 1)] if times is None else [f"{t:.4f}" for t in times]
    _fill(sequence, volumeNode, values, frames, slicer.util.updateVolumeFromArray, tick)
    _show(_newBrowser(sequence), volumeNode, sequence)
    return sequence


def newVolumeSequence(name: str, cine, frames: Sequence[np.ndarray], tick: Tick = lambda: None):
    """A sequence of volumes on the grid of a cine, which a browser shows along with it.

    Args:
        name: Of the sequence and of the volume that the browser shows; numbered if there is a node of that name.
        cine: A sequence of volumes; it gets a browser if it has none.
        frames: An array [slice, row, column] for each of its frames.
        tick: Called after each frame.

    Returns:
        The vtkMRMLSequenceNode.
    """
    shownNode = _shown(cine)
    volumeNode = newVolumeBeside(name, shownNode, frames[0])
    return _newBeside(cine, volumeNode, frames, slicer.util.updateVolumeFromArray, tick)


def newSegmentationSequence(name: str, cine, frames: Sequence[np.ndarray], labelSet, tick: Tick = lambda: None):
    """A sequence of segmentations, which a browser shows along with a cine; what is edited in a frame stays in it.

    Args:
        name: Of the sequence and of the segmentation that the browser shows; numbered if there is a node of that name.
        cine: A sequence of volumes; it gets a browser if it has none.
        frames: Training labels [slice, row, column] for each of its frames.
        labelSet: Names, colors and codes of the labels.
        tick: Called after each frame.

    Returns:
        The vtkMRMLSequenceNode.
    """
    shownNode = _shown(cine)
    segmentationNode = newSegmentation(name, shownNode, frames[0], labelSet)
    sequence = _newBeside(
        cine, segmentationNode, frames, lambda node, frame: setLabels(node, frame, shownNode, labelSet), tick
    )
    browserOf(cine).SetSaveChanges(sequence, True)
    return sequence


def newVolumeBeside(name: str, volumeNode, array: np.ndarray):
    """A volume on the grid of another, under the same transform and in the same subject-hierarchy folder.

    Args:
        name: Numbered if there is a node of that name.
        volumeNode: The other volume.
        array: Voxels [slice, row, column].
    """
    node = addVolume(array, gridOf(volumeNode).matrix, uniqueName(name))
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    placeBeside(node, volumeNode)
    return node


def _newBeside(cine, node, frames: Sequence[np.ndarray], setFrame: SetFrame, tick: Tick):
    """A sequence of what `setFrame` makes of a node, in the browser of a cine."""
    sequence = _newSequence(node.GetName())
    sequence.SetIndexName(cine.GetIndexName())
    sequence.SetIndexUnit(cine.GetIndexUnit())
    sequence.SetIndexType(cine.GetIndexType())
    sequence.SetNumericIndexValueTolerance(cine.GetNumericIndexValueTolerance())
    values = [cine.GetNthIndexValue(index) for index in range(len(frames))]
    _fill(sequence, node, values, frames, setFrame, tick)
    _show(browserOf(cine), node, sequence)
    return sequence


def _fill(sequence, node, values: Sequence[str], frames: Sequence[np.ndarray], setFrame: SetFrame, tick: Tick) -> None:
    """Adds frames to a sequence by way of a copy of `node` outside of the scene, which no view follows."""
    scratch = slicer.mrmlScene.CreateNodeByClass(node.GetClassName())
    scratch.UnRegister(None)
    scratch.Copy(node)
    for frame, value in zip(frames, values, strict=True):
        setFrame(scratch, frame)
        sequence.SetDataNodeAtValue(scratch, value)
        tick()


def _shown(cine):
    """The node that shows a cine, by a new browser if there is none."""
    if shownBy(cine) is None:
        _newBrowser(cine).AddSynchronizedSequenceNode(cine)
        slicer.modules.sequences.logic().UpdateAllProxyNodes()
    return shownBy(cine)


def _show(browser, node, sequence) -> None:
    browser.AddProxyNode(node, sequence, False)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)


def _newSequence(name: str):
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)


def _newBrowser(sequenceNode):
    name = _("{name} browser").format(name=sequenceNode.GetName())
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", name)
