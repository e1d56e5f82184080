"""Hearts, a model and a stand-in for Segment Editor, for tests of the panel from section 3 on."""

from __future__ import annotations

import numpy as np
import pytest

from Testing.engine.support import draw_heart
from Testing.slicer.panel.support import settle

pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")

from Testing.slicer.scenes import makeSegmentation, makeVolume, obliqueMatrix

MATRIX = obliqueMatrix(1, (2.0, 2.0, 8.0))


ABOUT = {
    "labeled_volumes": 14, "labeled_patients": 7, "unlabeled_volumes": 1264, "training_steps": 9074,
    "training_seconds": 605.0, "validation_mean_dice": 0.86,
}  # fmt: skip


def heart(name: str, seed: int = 1):
    """A volume with a heart, and its exact segmentation."""
    image, labels = draw_heart(seed)
    volume = makeVolume(name, image, MATRIX)
    masks = {"RV cavity": labels == 1, "LV myocardium": labels == 2, "LV cavity": labels == 3}
    return volume, makeSegmentation(volume, masks, f"{name} by hand")


def draw(segmentation, volume) -> None:
    """What a person does in Segment Editor."""
    import slicer

    array = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    array[1:4, 15:25, 15:25] = 1
    segment = segmentation.GetSegmentation().GetNthSegmentID(2)
    slicer.util.updateSegmentBinaryLabelmapFromArray(array, segmentation, segment, volume)


def select(table, row: int) -> None:
    table.selectRow(row)
    settle()


class Editor:
    """Segment Editor's widget, as far as the panel uses it."""

    def setSegmentationNode(self, node):
        self.segmentation = node

    def setSourceVolumeNode(self, node):
        self.volume = node

    def setActiveEffectByName(self, name):
        self.effect = name


class EditorModule:
    def __init__(self, editor):
        self.editor = editor

    def widgetRepresentation(self):
        return self

    def self(self):
        return self
