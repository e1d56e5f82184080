"""All that the module can do, without a GUI: what its panel calls, and what the Python console offers.

Long work is a job: a folder in which the engine runs as a process of its own. The methods `start...` return at once
with the job, which `poll()` follows; `train` and `segment` wait for it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import slicer

from .engine import installation, process
from .engine.folders import newFolder
from .engine.job import Job
from .i18n import tr as _
from .scene import sequences
from .scene.terminology import loadTerminology
from .table.case_table import DataSet
from .table.export import writeCases
from .table.rows import Row
from .tasks import measure, models, report, review, sample_data, segment

MODULE = "SemiCardiacSeg"


class SemiCardiacSegLogic:
    """Data set, training, segmentation, measurement, review and models.

    Wrong input raises ValueError, with what was wrong, where, and how to fix it. What fails later in the engine raises
    RuntimeError with the engine's words; the job folder keeps the details. Until the module is set up, that is raised
    too, and says so.
    """

    # ----- data

    def getParameterNode(self):
        """The vtkMRMLScriptedModuleNode of this module in the scene, which holds the data set."""
        node = slicer.mrmlScene.GetSingletonNode(MODULE, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)  # the scene keeps it
            node.SetSingletonTag(MODULE)
            node = slicer.mrmlScene.AddNode(node)
        if node.GetModuleName() != MODULE:  # a scene that closes leaves a singleton without it
            node.SetModuleName(MODULE)
        return node

    def dataSet(self) -> DataSet:
        """The case table of the scene."""
        installation.require()
        return DataSet(self.getParameterNode())

    def addSampleData(self) -> list:
        """Adds the phantom study to the scene and its cases to the table; returns the rows. Takes half a minute."""
        return sample_data.fillDataSet(self.dataSet())

    # ----- training

    def startTraining(  # what the panel and the console can set, each by its name
        self,
        folder: Path | str,
        *,
        minutes: float | None = None,
        steps: int | None = None,
        preset: str = "default",
        method: str = "",
        device: str = "auto",
        seed: int = 0,
        startFrom: Path | str | None = None,
        settings: Sequence[str] = (),
    ) -> Job:
        """Starts a training on the cases of the table.

        Args:
            folder: New or empty folder for the training; the model is in it when it has ended.
            minutes: Time to train; the engine's usual time if neither minutes nor steps are given.
            steps: Steps to train, instead of minutes.
            preset: `default`, `supervised` (the labeled cases alone) or `paper`.
            method: One of `semicardiac.methods.registry.METHODS`; that of the preset without it.
            device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
            seed: Of everything random.
            startFrom: A model to start from (job folder or package).
            settings: Any other setting, such as `method.lambda_u=0.5`; `schedule.validate_every` is 0.2 without it.

        Raises:
            ValueError: If the table has an error, a setting is wrong, there is no such model to start from or it is for
                other structures, or the folder cannot be used; nothing is written then.
        """
        if minutes is not None and steps is not None:
            raise ValueError(_("A training takes either minutes or steps. Leave one of them out."))
        dataSet = self.dataSet()
        dataSet.requireSound()
        process.addToPath()
        from semicardiac.base.settings import parse, parse_assignments
        from semicardiac.config import make_config
        from semicardiac.jobs.job import TrainJob, write_job
        from semicardiac.methods.registry import require_method

        given = {"seed": seed, "preprocess.plane": dataSet.labelSet().plane}
        given |= {"schedule.minutes": minutes, "schedule.steps": steps, "method.name": method or None}
        chosen = [f"{key}={value}" for key, value in given.items() if value is not None]
        config = make_config(preset, parse_assignments([*chosen, "schedule.validate_every=0.2", *settings]))
        require_method(config.method.name)
        if startFrom is not None:
            startFrom = Path(startFrom).absolute()
            models.requireModel(startFrom, dataSet.labelSet())
        with newFolder(folder) as folder:
            fields = {"cases": writeCases(dataSet, folder), "labels": dataSet.labelSet(), "config": config}
            fields |= {"device": device, "start_from": startFrom}
            write_job(folder, parse(TrainJob, fields, where=folder))
        return Job.start(folder)

    def resumeTraining(self, folder: Path | str, minutes: float | None = None) -> Job:
        """Continues a training that was stopped or interrupted; with `minutes`, for that much longer.

        Raises:
            ValueError: If the folder holds no training, or another process runs it.
        """
        folder = _trainingFolder(folder)
        from semicardiac.jobs.job import prolong

        if minutes is not None:
            prolong(folder, minutes=minutes)
        return Job.start(folder)

    def discardTraining(self, folder: Path | str) -> None:
        """Deletes a training with its checkpoints and its model from the disk, for good.

        Raises:
            ValueError: If the folder holds no training, or it is at work.
        """
        job = Job(_trainingFolder(folder))
        _requireEnded(job)
        shutil.rmtree(job.folder)

    def train(self, folder: Path | str, *, onEvent: Callable[[dict], None] | None = None, **options) -> Path:
        """Trains on the cases of the table and waits for it; returns the folder, which can be used as the model.

        Args:
            folder: As `startTraining`, and so are the `options`.
            onEvent: Called with each event of the engine, a dictionary (see `semicardiac.base.events`).
        """
        return _finished(self.startTraining(folder, **options), onEvent).folder

    # ----- segmentation

    def startSegmentation(  # what the panel and the console can set, each by its name
        self,
        model: Path | str,
        inputs,
        *,
        folder: Path | str | None = None,
        device: str = "auto",
        flips: bool = True,
        confidence: bool = False,
        entropy: bool = False,
        thresholdMap: bool = False,
        pseudoLabels: bool = False,
    ) -> Job:
        """Starts to segment volumes, or all frames of a sequence; `loadResults` puts what it finds into the scene.

        Args:
            model: A finished training's folder, or a model package (folder or zip).
            inputs: A volume node, a list of them, or a vtkMRMLSequenceNode of volumes.
            folder: For the files in between; a temporary one without it, which stays until `discardResults`.
            device: `auto`, `cpu`, `cuda`, ...
            flips: Average over flipped slices: a little better, in twice the time.
            confidence: Also a volume with the probability of each voxel's class.
            entropy: Also a volume with the entropy of the class probabilities, 0 to 1.
            thresholdMap: Also a volume with the dynamic threshold of each voxel's class.
            pseudoLabels: Also a segmentation of what would be taught as pseudo-labels.

        Raises:
            ValueError: For an input without image data, a model that cannot be read, and the like.
        """
        installation.require()
        options = segment.Options(device, flips, confidence, entropy, thresholdMap, pseudoLabels)
        return Job.start(segment.createSegmentJob(folder, Path(model), inputs, options))

    def loadResults(self, job: Job, tick: Callable[[], object] | None = None) -> list:
        """The nodes made of a finished segmentation, segmentations first, in the order of the inputs.

        Args:
            job: The job.
            tick: Called after each node and each frame, such as `slicer.app.processEvents`.
        """
        loadTerminology()
        return segment.loadResults(job.folder, tick=tick)

    def discardResults(self, job: Job) -> None:
        """Deletes the files of a segmentation or review in a temporary folder, copies of the volumes among them.

        To be called when all that is wanted of them is in the scene. A folder that somebody chose stays as it is.

        Raises:
            ValueError: If the job is at work.
        """
        _requireEnded(job)
        segment.discard(job.folder)

    def segment(self, model: Path | str, inputs, *, onEvent: Callable[[dict], None] | None = None, **options):
        """Segments and waits for it; files in a temporary folder are deleted when the results are in the scene.

        Args:
            model: As `startSegmentation`, and so are `inputs` and the `options`.
            onEvent: Called with each event of the engine.

        Returns:
            The vtkMRMLSegmentationNode of a single volume; the list of all new nodes of several or of a sequence.
        """
        job = _finished(self.startSegmentation(model, inputs, **options), onEvent)
        nodes = self.loadResults(job, slicer.app.processEvents)
        self.discardResults(job)
        single = not isinstance(inputs, list | tuple) and not inputs.IsA("vtkMRMLSequenceNode")
        return nodes[0] if single else nodes

    # ----- measurement

    def labelSetOf(self, segmentations):
        """What segmentations are measured by: the structures of the table, or where these are not all that the model
        has found, those of the model."""
        return measure.fittingLabelSet(segmentations, self.dataSet().labelSet())

    def volumesTable(self, segmentations, labelSet=None):
        """A vtkMRMLTableNode with the volume of each structure in ml, one row a segmentation or frame."""
        return measure.volumesTable(segmentations, labelSet or self.labelSetOf(segmentations))

    def clinicalNumbers(self, segmentations, labelSet=None, **phases) -> dict:
        """ED and ES, ventricular volumes (ml), stroke volume (ml), ejection fraction (%), and LV mass (g).

        ED and ES are found, unless `setPhases` or the arguments `edFrame` and `esFrame` (from 0) say which they are.
        """
        return measure.clinicalNumbers(segmentations, labelSet or self.labelSetOf(segmentations), **phases)

    def setPhases(self, sequence, ed: int | None, es: int | None) -> None:
        """Corrects which frames of a sequence of segmentations are ED and ES; saved with the scene.

        Args:
            sequence: The vtkMRMLSequenceNode that `clinicalNumbers` measures.
            ed: The frame at end diastole, counted from 0; None lets it be found.
            es: The one at end systole.

        Raises:
            ValueError: If there is no such frame, or both are the same.
        """
        sequences.setPhases(sequence, ed, es)

    def clinicalTable(self, segmentations, labelSet=None):
        """A vtkMRMLTableNode of the clinical numbers: `measure`, `value` and `unit`."""
        return measure.clinicalTable(segmentations, labelSet or self.labelSetOf(segmentations))

    def compare(self, segmentation, reference, volume, labelSet=None):
        """A vtkMRMLTableNode with Dice, HD95 (mm) and ASD (mm) of each structure against a reference segmentation."""
        return measure.compare(segmentation, reference, volume, labelSet or self.labelSetOf(segmentation))

    def saveTable(self, table, path: Path | str) -> Path:
        """Writes a table node as CSV; an existing file is never overwritten."""
        return measure.saveTable(table, Path(path))

    # ----- improvement

    def startUncertainty(self, model: Path | str, **options) -> Job:
        """Starts to segment the unlabeled cases of the table, to see which of them the model is least sure of."""
        return Job.start(review.createReviewJob(self.dataSet(), Path(model), **options))

    def uncertainties(self, job: Job) -> list:
        """The cases of a finished review, the least sure first."""
        return review.uncertainties(self.dataSet(), job.folder)

    def reviewSegmentation(self, job: Job, key: str):
        """The segmentation node of a case of a review, to look at and correct; loaded where it was not yet."""
        loadTerminology()
        return review.reviewSegmentation(self.dataSet(), job.folder, key)

    def correctedKeys(self) -> set[str]:
        """The keys of the cases that were corrected in a review, and are not accepted yet."""
        return review.correctedKeys(self.dataSet())

    def carryOver(self, job: Job, key: str) -> list[str]:
        """Gives what was corrected in a frame of a cine to its neighbors; returns their keys."""
        loadTerminology()
        return review.carryOver(self.dataSet(), job.folder, key)

    def writeReport(self, segmentations, path: Path | str, labelSet=None) -> report.ReportWork:
        """Starts to write the engine's page for segmentations: poll or wait for what is returned.

        Args:
            segmentations: A list of segmentation nodes, or a sequence node of segmentations.
            path: The page, .html; an existing file is not replaced.
            labelSet: Which structures there are; those of the table or of the model without it.

        Raises:
            ValueError: If there is a file of this name, or a segmentation has no volume.
        """
        installation.require()
        return report.ReportWork(segmentations, labelSet or self.labelSetOf(segmentations), Path(path))

    def accept(self, key: str, segmentation) -> Row:
        """Makes a case of the table a labeled one, with this segmentation; returns its row."""
        return review.accept(self.dataSet(), key, segmentation)

    # ----- models

    def models(self, folder: Path | str) -> list[models.Model]:
        """Finished trainings and model packages in a folder, the newest first."""
        installation.require()
        return models.findModels(Path(folder))

    def checkModel(self, model: Path | str) -> None:
        """Makes sure that there is a whole model at a path: a finished training, a package or a zip of one.

        Raises:
            ValueError: If not, with the reason.
        """
        installation.require()
        models.checkModel(Path(model))

    def isTraining(self, folder: Path | str) -> bool:
        """Whether a folder is that of a training, whose curves and previews can be shown."""
        return (Path(folder) / "job.json").is_file() and (Path(folder) / "events.jsonl").is_file()

    def exportModel(self, model: Path | str, path: Path | str) -> Path:
        """Packs a model into one zip file to share."""
        installation.require()
        return models.exportModel(Path(model), Path(path))

    def importModel(self, path: Path | str, folder: Path | str) -> models.Model:
        """Unpacks a model package into a new folder there, after a check of its checksums."""
        installation.require()
        return models.importModel(Path(path), Path(folder))

    def deleteModel(self, model: Path | str) -> None:
        """Deletes a model from the disk, for good."""
        models.deleteModel(Path(model))


def _trainingFolder(folder: Path | str) -> Path:
    """The folder, if it holds a training. Raises ValueError if not."""
    installation.require()
    process.addToPath()
    from semicardiac.jobs.job import TrainJob, load_job

    if not isinstance(load_job(Path(folder)), TrainJob):
        raise ValueError(_("{folder} holds no training. Choose the folder of one.").format(folder=folder))
    return Path(folder)


def _requireEnded(job: Job) -> None:
    if job.isAlive():
        raise ValueError(_("The job in {folder} is at work. Stop it first.").format(folder=job.folder))


def _finished(job: Job, onEvent: Callable[[dict], None] | None) -> Job:
    """Waits for a job; the application goes on meanwhile. Raises RuntimeError if it does not end well."""
    job.wait(onEvent=onEvent, tick=slicer.app.processEvents)
    if job.state == "failed":
        failure = job.failure
        raise RuntimeError(". ".join(text.rstrip(".") for text in failure.values() if text) + ".")
    if job.state != "done":
        raise RuntimeError(_("The work in {folder} was stopped; it can be resumed.").format(folder=job.folder))
    return job
