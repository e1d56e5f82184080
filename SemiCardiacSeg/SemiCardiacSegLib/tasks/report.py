"""The engine's page for segmentations of the scene: pictures, volumes, and the heart's function."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from pathlib import Path

from ..engine import process
from ..engine.folders import newFolder
from ..engine.installation import Polled
from ..i18n import tr as _
from ..scene import sequences
from ..scene.nodes import arrayAndMatrix
from ..scene.segmentations import getLabels
from ..scene.structures import guessMapping
from ..table.export import SafeNames
from ..table.scene_cases import sequenceOf


class ReportWork(Polled):
    """Writes the page; `text` says where it is when that is done.

    The volumes and segmentations go to the engine as they are in the scene, with all corrections, in files that are
    deleted when the page is there.

    Args:
        segmentations: Segmentation nodes, or one sequence node of segmentations.
        labelSet: The engine's LabelSet: which structures there are.
        path: The page to write, .html. An existing file is not replaced.

    Raises:
        ValueError: If there is a file of this name, or a segmentation has no volume or cannot be read.
    """

    def __init__(self, segmentations, labelSet, path: Path) -> None:
        super().__init__()
        self.path = Path(path)
        if self.path.exists():
            raise ValueError(_("There is a file {path} already. Choose another name.").format(path=self.path))
        with newFolder(None) as folder:
            self._folder = folder / self.path.stem  # the page has the name of its folder
            _writeJob(self._folder, segmentations, labelSet)

    def _work(self) -> Generator[None, None, None]:
        try:
            yield from self._run(process.command("report", self._folder))
            with open(self.path, "xb") as page:
                page.write((self._folder / "report.html").read_bytes())
            self.text = str(self.path)
        finally:
            shutil.rmtree(self._folder.parent, ignore_errors=True)


def _writeJob(folder: Path, segmentations, labelSet) -> None:
    """The folder of a segment job that is done, as the engine leaves it."""
    process.addToPath()
    from semicardiac.base.events import EventLog, Result
    from semicardiac.base.files import write_json
    from semicardiac.images.volumes import Volume, write_series
    from semicardiac.jobs.job import EVENTS, FORMAT, JOB

    safeName, inputs = SafeNames(), []
    folder.mkdir()
    log = EventLog(folder / EVENTS)
    for title, images, labels, times in _cases(segmentations, labelSet):
        name = safeName(title.replace(".", "_"))
        matrix = images[1]
        for place, arrays in (("data", images[0]), ("results", map(labelSet.to_source, labels))):
            volumes = [Volume(array, matrix, time) for array, time in zip(arrays, times, strict=True)]
            write_series(folder / place / f"{name}.nrrd", volumes)
        inputs.append(f"data/{name}.nrrd")
        log.emit(Result(kind="segmentation", path=f"results/{name}.nrrd", case=name))
    # The label set stands for the model, which a person's segmentation does not have.
    job = {"format": FORMAT, "kind": "segment", "inputs": inputs, "out": "results"}
    write_json(folder / JOB, {**job, "labels": labelSet.model_dump(mode="json")})


def _cases(segmentations, labelSet):
    """Title, images with their matrix, training labels and times of each case."""
    if not isinstance(segmentations, list):
        yield _cine(segmentations, labelSet)
        return
    for node in segmentations:
        volume = _volumeOf(node)
        labels = getLabels(node, volume, guessMapping(node, labelSet), labelSet)
        array, matrix = arrayAndMatrix(volume)
        yield volume.GetName(), ([array], matrix), [labels], [None]


def _cine(sequenceNode, labelSet):
    """The same of the segmentations of a cine."""
    shown = sequences.shownBy(sequenceNode)
    cine = sequenceOf(_volumeOf(shown)) if shown is not None else None
    if cine is None:
        message = _("The cine of '{name}' is no longer in the scene. Open the scene in which it was segmented.")
        raise ValueError(message.format(name=sequenceNode.GetName()))
    images, matrix = sequences.readFrames(cine)
    frames = [(sequenceNode.GetNthDataNode(index), cine.GetNthDataNode(index)) for index in range(len(images))]
    labels = [getLabels(node, volume, guessMapping(node, labelSet), labelSet) for node, volume in frames]
    times = sequences.timesOf(cine) or [None] * len(images)
    return cine.GetName(), (images, matrix), labels, times


def _volumeOf(segmentationNode):
    volume = segmentationNode.GetNodeReference(segmentationNode.GetReferenceImageGeometryReferenceRole())
    if volume is None:
        message = _("'{name}' belongs to no volume. Set its source volume in Segment Editor.")
        raise ValueError(message.format(name=segmentationNode.GetName()))
    return volume
