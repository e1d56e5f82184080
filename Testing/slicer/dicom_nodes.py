"""Nodes as Slicer's DICOM module makes them of a cine, and a stand-in for its database."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer

from Testing.engine.images.dicom_files import CINE, MATRIX, write_cine
from Testing.slicer.scenes import makeVolume

FRAMES, SLICES = CINE.shape[:2]


class DatabaseStandIn:
    """Answers as `slicer.dicomDatabase` for the files of one folder: the two questions that our code asks."""

    isOpen = True

    def __init__(self, files: list[Path]) -> None:
        import pydicom

        self._headers = {}
        for path in files:
            header = pydicom.dcmread(path, stop_before_pixels=True)
            self._headers[str(header.SOPInstanceUID)] = path, header

    def fileForInstance(self, uid: str) -> str:
        return str(self._headers[uid][0]) if uid in self._headers else ""

    def instanceValue(self, uid: str, tag: str) -> str:
        assert tag == "0020,0032"
        return "\\".join(map(str, self._headers[uid][1].ImagePositionPatient)) if uid in self._headers else ""

    def byPosition(self) -> list[str]:
        """The identities of all images, those of one position beside one another, as the reader of volumes sorts."""
        return sorted(self._headers, key=lambda uid: self._headers[uid][1].ImagePositionPatient[2])


def writeCine(folder: Path) -> DatabaseStandIn:
    """The files of a cine, and a database that knows them."""
    return DatabaseStandIn(write_cine(folder, lambda _slice, time: {"TriggerTime": 40.0 * time}))


def stackedVolume(database: DatabaseStandIn):
    """All images of a cine in one volume, as the reader of scalar volumes makes it."""
    node = makeVolume("7: cine sax", np.zeros((FRAMES * SLICES, 6, 7), np.int16), MATRIX)
    node.SetAttribute("DICOM.instanceUIDs", " ".join(database.byPosition()))
    return node


def sequenceOfImages(database: DatabaseStandIn, slices: int = SLICES):
    """A frame for each image of the first slices, in a browser, as the reader of image sequences makes it."""
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "7: MR cine sax")
    sequence.SetIndexName("instance number")
    for number, uid in enumerate(database.byPosition()[: slices * FRAMES]):
        matrix = MATRIX.copy()
        matrix[2, 3] += 8.0 * (number // FRAMES)
        frame = makeVolume("frame", np.full((1, 6, 7), number, np.int16), matrix)
        frame.SetAttribute("DICOM.instanceUIDs", uid)
        sequence.SetDataNodeAtValue(frame, str(number))
        slicer.mrmlScene.RemoveNode(frame)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "7: MR cine sax browser")
    browser.AddSynchronizedSequenceNode(sequence)
    slicer.modules.sequences.logic().UpdateAllProxyNodes()
    return sequence, browser.GetProxyNode(sequence)
