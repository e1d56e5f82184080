"""Data to try the module with: hearts that the engine draws, with exact labels. Nothing is downloaded."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import slicer
import slicer.util

from ..engine import installation
from ..engine import process as engine
from ..i18n import tr as _
from ..scene import sequences
from ..scene.nodes import addVolume, shItem, uniqueName
from ..scene.segmentations import newSegmentation
from ..scene.transaction import nothingHalfMade
from ..table.case_table import DataSet, Row

CATEGORY = "SemiCardiacSeg"
"""Of the module Sample Data."""
LABELED, UNLABELED, VALIDATION, TEST = 2, 12, 1, 1
"""Patients of the study, each at end diastole and end systole."""
CINE_FRAMES = 20

_CASES, _POOL, _CINE = "cases.csv", "unlabeled.csv", "cine.nii.gz"
"""Files of the study; the first and the last as the engine names them."""
_drawing = False


class Sample(NamedTuple):
    """A volume of the study in the scene."""

    volumeNode: object
    segmentationNode: object
    """Its exact labels; None for a patient of the test."""
    patient: str
    role: str
    """labeled, validation, or ignore for the test."""
    phase: str


def drawStudy(folder: Path | str | None = None, tick: Callable[[], object] | None = None) -> Path:
    """Lets the engine draw the study and the cine in a process of its own, unless that was done before.

    Args:
        folder: Where to; one among Slicer's temporary files without it.
        tick: Called every 20 ms meanwhile.

    Returns:
        The folder: in the layout of ACDC, with a case list of the unlabeled cases besides.

    Raises:
        ValueError: If it is being drawn already, or the folder holds anything else.
        RuntimeError: If the module is not set up, or the engine fails, with what it says.
    """
    installation.require()
    global _drawing  # `tick` may let the user press a button again
    default = Path(slicer.app.temporaryPath, f"SemiCardiacSeg phantom {engine.version()}")
    folder = Path(folder or default).absolute()
    if (folder / _POOL).exists():
        return folder
    if _drawing:
        raise ValueError(_("The sample data are being drawn. Wait some seconds."))
    from semicardiac.base.files import output_folder

    output_folder(folder, empty=True)
    _drawing = True
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent) as unfinished:
            study = Path(unfinished, "study")
            _draw(study, tick)
            _writePool(study)
            folder.rmdir()
            study.rename(folder)
    finally:
        _drawing = False
    return folder


def addStudyToScene(folder: Path | str | None = None, tick: Callable[[], object] | None = None) -> list[Sample]:
    """Adds the volumes of the study to the scene, but for the unlabeled ones.

    These are those with labels and their segmentations, and those of the test patient; each patient has a folder in the
    subject hierarchy.

    Args:
        folder: As for `drawStudy`, and so is `tick`, which is also called after each node.

    Raises:
        ValueError, RuntimeError: As `drawStudy`; the scene stays as it was.
    """
    folder = drawStudy(folder, tick)
    with nothingHalfMade(tick) as pause:
        return _studyToScene(folder, pause)


def addCineToScene(folder: Path | str | None = None, tick: Callable[[], object] | None = None):
    """Adds one heart cycle to the scene, as a sequence in a browser; returns the vtkMRMLSequenceNode.

    Args:
        folder: As for `drawStudy`, and so is `tick`, which is also called after each frame.

    Raises:
        ValueError, RuntimeError: As `drawStudy`; the scene stays as it was.
    """
    folder = drawStudy(folder, tick)
    with nothingHalfMade(tick) as pause:
        return _cineToScene(folder, pause)


def fillDataSet(dataSet: DataSet, folder: Path | str | None = None) -> list[Row]:
    """Adds the study and the cine to the scene, and the cases of the study to the table.

    The labeled and validation cases are nodes; the unlabeled ones stay files and take one row. The test patient and the
    cine are not in the table: they are there to be segmented.

    Args:
        dataSet: The table; its structures become those of ACDC.
        folder: As for `drawStudy`.

    Returns:
        The new rows.

    Raises:
        ValueError, RuntimeError: As `drawStudy`; scene and table stay as they were.
    """
    tick = slicer.app.processEvents
    folder = drawStudy(folder, tick)
    with nothingHalfMade(tick) as pause:
        samples = _studyToScene(folder, pause)
        _cineToScene(folder, pause)
        with dataSet.atOnce():
            dataSet.setLabelSet("acdc")
            rows = [
                dataSet.addVolume(each.volumeNode, each.segmentationNode, each.role, each.patient, each.phase)
                for each in samples
                if each.segmentationNode is not None
            ]
            return rows + dataSet.addPaths([folder / _POOL])


def registerSampleData(thumbnails: Path | None = None) -> None:
    """Offers the study and the cine in the module Sample Data. Called when Slicer has started.

    Args:
        thumbnails: Folder with pictures, each named after its sample.
    """
    try:
        import SampleData
    except ImportError:  # slicer-core, or a Slicer without that module
        return
    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):  # since 5.12
        logic.registerCustomSampleDataCategory(CATEGORY, title=CATEGORY)
    for name, download in (("SemiCardiacSegStudy", downloadStudy), ("SemiCardiacSegCine", downloadCine)):
        picture = Path(thumbnails or "", f"{name}.png")
        logic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=name,
            uris="",  # must be there, and is not used with a downloader of one's own
            fileNames=name,
            nodeNames=name,
            thumbnailFileName=str(picture) if thumbnails and picture.exists() else None,
            customDownloader=download,
        )


def downloadStudy(source=None) -> None:
    """What the button of the study in the module Sample Data does."""
    with slicer.util.tryWithErrorDisplay(_("The sample data could not be made."), waitCursor=True):
        addStudyToScene(tick=slicer.app.processEvents)


def downloadCine(source=None) -> None:
    """What the button of the cine in the module Sample Data does."""
    with slicer.util.tryWithErrorDisplay(_("The sample data could not be made."), waitCursor=True):
        addCineToScene(tick=slicer.app.processEvents)


def _studyToScene(folder: Path, pause: Callable[[], object]) -> list[Sample]:
    """Adds the volumes and segmentations of a study that is drawn; `pause` is called between the steps."""
    from semicardiac.data.cases import load_image, load_labels
    from semicardiac.data.discover import read_case_list
    from semicardiac.images.labels import get_label_set

    labelSet = get_label_set("acdc")
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    samples: list[Sample] = []
    folders: dict[str, int] = {}
    pause()
    for case in read_case_list(folder / _CASES):
        if case.role == "unlabeled":
            continue
        image = load_image(case)
        pause()
        name = f"{case.patient} {case.phase}"
        volumeNode = addVolume(image.array, image.ijk_to_ras, uniqueName(name))
        if case.patient not in folders:
            folders[case.patient] = hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), case.patient)
        hierarchy.SetItemParent(shItem(volumeNode), folders[case.patient])
        segmentationNode = None
        pause()
        if case.labels is not None:
            title = _("{name} segmentation").format(name=name)
            segmentationNode = newSegmentation(title, volumeNode, load_labels(case, labelSet).array, labelSet)
            pause()
        samples.append(Sample(volumeNode, segmentationNode, case.patient, case.role, case.phase))
    return samples


def _cineToScene(folder: Path, pause: Callable[[], object]):
    """Adds the cine of a study that is drawn; returns its vtkMRMLSequenceNode. `pause` is called between the steps."""
    from semicardiac.images.volumes import read_series

    pause()
    frames = read_series(folder / _CINE)
    pause()
    arrays, times = [frame.array for frame in frames], [frame.time_s for frame in frames]
    return sequences.newCine(_("phantom cine"), arrays, frames[0].ijk_to_ras, times, pause)


def _draw(folder: Path, tick: Callable[[], object] | None) -> None:
    counts = {"labeled": LABELED, "unlabeled": UNLABELED, "validation": VALIDATION, "test": TEST, "cine": CINE_FRAMES}
    options = [text for name, count in counts.items() for text in (f"--{name}", count)]
    with tempfile.TemporaryFile() as output:
        process = engine.startProcess(engine.command("phantom", "--out", folder, *options), output)
        try:
            while process.poll() is None:
                if tick is not None:
                    tick()
                time.sleep(0.02)
        finally:
            engine.killTree(process)
        if process.returncode:
            output.seek(0)
            lines = output.read().decode("utf-8", "replace").strip().splitlines() or [""]
            raise RuntimeError(_("The sample data could not be drawn: {reason}").format(reason=lines[-1]))


def _writePool(folder: Path) -> None:
    """Writes the case list of the unlabeled cases."""
    from semicardiac.base.tables import read_table, write_csv

    columns, rows = read_table(folder / _CASES)
    write_csv(folder / _POOL, columns, (row.cells for row in rows if row.cells["role"] == "unlabeled"))
