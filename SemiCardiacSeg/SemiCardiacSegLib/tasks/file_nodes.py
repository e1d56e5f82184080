"""Files of the case table as nodes of the scene, to be looked at; each is loaded once."""

from __future__ import annotations

import slicer

from ..engine import process
from ..i18n import tr as _
from ..scene.nodes import addVolume, uniqueName
from ..scene.segmentations import newSegmentation
from ..scene.transaction import nothingHalfMade


class FileNodes:
    """What was loaded of the rows that are files.

    Args:
        dataSet: The table of cases.
    """

    def __init__(self, dataSet) -> None:
        self._dataSet = dataSet
        self._loaded: dict[str, tuple] = {}

    def of(self, row) -> tuple:
        """The volume node of a row and the segmentation node with its labels, None without labels.

        Raises:
            ValueError: If a file cannot be read; the scene stays as it was.
        """
        volumeNode, segmentationNode = (
            node if node is not None and slicer.mrmlScene.IsNodePresent(node) else None
            for node in self._loaded.get(row.key, (None, None))
        )
        process.addToPath()
        from semicardiac.data.cases import Case, load_image, load_labels

        # As the labels are only looked at, whatever role the case has.
        case = Case.model_validate({**self._dataSet.files(row.key)[0], "role": "labeled"})
        with nothingHalfMade():
            if volumeNode is None:
                image = load_image(case)
                volumeNode = addVolume(image.array, image.ijk_to_ras, uniqueName(row.name))
                segmentationNode = None  # that of a volume that was deleted
            if segmentationNode is None and case.labels is not None:
                labelSet = self._dataSet.labelSet()
                title = _("{name} segmentation").format(name=volumeNode.GetName())
                segmentationNode = newSegmentation(title, volumeNode, load_labels(case, labelSet).array, labelSet)
        self._loaded[row.key] = volumeNode, segmentationNode
        return self._loaded[row.key]
