"""Data sets for the tests, in a parameter node like that of the module."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
import slicer
from SemiCardiacSegLib.table.case_table import DataSet

from Testing.slicer.scenes import SHAPE, makeSequence


def makeDataSet() -> DataSet:
    """The table of a scene."""
    node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
    node.UnRegister(None)
    node.SetSingletonTag("SemiCardiacSeg")
    node.SetModuleName("SemiCardiacSeg")
    return DataSet(slicer.mrmlScene.AddNode(node))


def addCine(name: str, frames: int = 3):
    """A sequence with a browser; gives it and the volume that shows its frames."""
    sequence = makeSequence([np.full(SHAPE, index, np.int16) for index in range(frames)], name=name)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", name)
    browser.AddSynchronizedSequenceNode(sequence)
    slicer.modules.sequences.logic().UpdateAllProxyNodes()
    return sequence, browser.GetProxyNode(sequence)


def writeImage(path: Path, array: np.ndarray | None = None) -> None:
    """An image or label file, 1.5 × 1.5 × 8 mm."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE) if array is None else array)
    image.SetSpacing((1.5, 1.5, 8.0))
    sitk.WriteImage(image, str(path))
