"""The work of a segment job: volumes and time series in, segmentations named after them out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Set
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

import torch

from ..base import files
from ..base.errors import Stopped, UserError
from ..base.events import Device, EventLog, Progress, Result, Stage, Writing, read_events
from ..base.tables import write_csv
from ..base.temporaries import remove_abandoned, temporary_beside
from ..config import TrainConfig
from ..data.checks import image_fault, spacing_fault
from ..data.intensities import contrast_fault
from ..data.label_order import mixed_up
from ..data.names import MAPS, frame_name
from ..data.slices import as_stack, stack_fault
from ..evaluation.clinical import volumes_ml
from ..evaluation.heart_function import COLUMNS, phases_of_inputs, read_frames, volumes_table
from ..images.labels import LabelSet
from ..images.volumes import Volume, is_volume_file, read_series, stem, write_labels, write_series
from ..models import predict
from ..models.compute import ComputePlan, pick_device
from ..models.model import load_model
from ..models.package import CHECKSUMS, open_package
from ..models.predict import Prediction
from .job import EVENTS, VOLUMES, SegmentJob, full_path, named_inputs, short_path


class Output(NamedTuple):
    """A file that holds a result of an input."""

    kind: str
    """`segmentation`, one of MAPS, or `volumes`: a table of all inputs."""
    frames: range
    """Which frames of the input it holds, counted from 0."""
    path: Path

    def part_of(self, prediction: Prediction) -> Volume:
        """What of a frame's prediction goes into this file."""
        return prediction.labels if self.kind == "segmentation" else prediction.maps[self.kind]


def run_segment(job: SegmentJob, folder: Path, events: EventLog, stop: Callable[[], bool]) -> dict[str, int]:
    """Segments every input; all are read once before the first result is written.

    Args:
        job: What to segment and where to.
        folder: The job folder: its events tell which results an interrupted run has written.
        events: Told of progress, results and doubts.
        stop: Whether a stop was asked for.

    Raises:
        Stopped: If a stop was asked for; the results so far are kept.
        UserError: If the model or an input cannot be used, the model is not the one that this job began with, or a
            file has the name of a result before the work begins.
    """
    plan = inference_plan(pick_device(job.device))
    model = load_model(job.model).to(plan.device)
    inputs = named_inputs(job.inputs)
    files.output_folder(job.out, empty=False)
    remove_abandoned(job.out)
    planned: dict[Path, str] = {}
    results = Results(folder, events, planned.keys(), hash_of_model(job.model))
    results.require_same_model(job.model)

    def report(stage: Stage, number: int, case: str) -> None:
        events.emit(Progress(stage=stage, step=number, total=len(inputs), case=case))
        if stop():
            raise Stopped

    outputs: dict[str, list[Output]] = {}
    for number, (name, path) in enumerate(inputs.items(), start=1):
        report("checking inputs", number, name)
        outputs[name] = outputs_of(job, name, count_sound_frames(path, model.config, events))
        for output in outputs[name]:
            require_own_file(output, name, planned)
            results.require_free(output)

    events.emit(Device(**plan.model_dump()))
    for number, (name, path) in enumerate(inputs.items(), start=1):
        unwritten: dict[Output, list[Volume]] = {
            output: [] for output in outputs[name] if not results.is_done(output, name)
        }
        if not unwritten:
            continue
        frames = read_series(path)
        for index, frame in enumerate(frames):
            case = name if len(frames) == 1 else f"{name}, frame {index + 1} of {len(frames)}"
            report("segmenting", number, case)
            maps = {output.kind for output in unwritten} - {"segmentation"}
            prediction = predict.segment(
                model, frame, plan, maps=maps, flips=job.flips, largest_component=job.largest_component, roi=job.roi
            )
            warn_of_doubts(prediction, case, model.labels, events)
            for output in list(unwritten):
                if index in output.frames:
                    unwritten[output].append(output.part_of(prediction))
                if index == output.frames[-1]:
                    results.write(output, name, partial(write_output, output.kind, unwritten.pop(output), model.labels))
    write_volumes(job, inputs, outputs, results, model.labels, events)
    return {"segmented": len(inputs)}


def require_own_file(output: Output, name: str, planned: dict[Path, str]) -> None:
    """Notes whose result a file is; raises a UserError if it is already another input's."""
    if planned.setdefault(output.path, name) != name:
        what = f"the results of {planned[output.path]} and {name} would be one file"
        raise UserError(what, where=output.path, hint="Segment these two into different folders")


def warn_of_doubts(prediction: Prediction, case: str, labels: LabelSet, events: EventLog) -> None:
    """Says why a segmentation may be wrong."""
    if what := mixed_up(prediction.labels, labels):
        events.warn(what, where=case, hint="Look at this segmentation, and at the labels the model learned from")
    if prediction.doubt:
        hint = "Look at this segmentation, or say where the heart is (roi)"
        events.warn(prediction.doubt, where=case, hint=hint)


def write_volumes(
    job: SegmentJob,
    inputs: dict[str, Path],
    outputs: dict[str, list[Output]],
    results: Results,
    labels: LabelSet,
    events: EventLog,
) -> None:
    """Writes volumes.csv, see heart_function.py, by the files of the segmentations: also those of an earlier run."""
    table = Output(VOLUMES, range(0), job.out / f"{VOLUMES}.csv")
    if results.is_done(table) and not any(output.kind == "segmentation" for output in results.written):
        return
    results.withdraw(table)  # of an earlier run, some of whose results were gone and are made anew
    volumes: dict[str, list[dict[str, float]]] = {}
    for name, planned in outputs.items():
        paths = [results.places[output] for output in planned if output.kind == "segmentation"]
        try:
            volumes[name] = [volumes_ml(frame, labels) for frame in read_frames(paths, labels)]
        except UserError as error:
            events.warn(f"it is not in {VOLUMES}.csv: {error.what}", where=error.where or name, hint=error.hint)
    rows = volumes_table(volumes, phases_of_inputs(inputs, job.inputs), labels)
    results.write(table, None, lambda path: write_csv(path, COLUMNS, rows))


class Results:
    """What a job has written, as its events tell, and how it writes more without replacing anything.

    Args:
        folder: The job folder.
        events: Told of each result, and before it is there of what it will be.
        planned: The names that results will have, if nothing comes between.
        model: A hash of the model, see `hash_of_model`.

    Attributes:
        begun: Whether an earlier run has written something, or was about to.
        places: Where each output is.
        written: What this run has written.
    """

    def __init__(self, folder: Path, events: EventLog, planned: Set[Path], model: str) -> None:
        self._folder, self._events, self._planned, self._model = folder, events, planned, model
        before = read_events(folder / EVENTS)
        self._told = {full_path(folder, event.path) for event in before if isinstance(event, Result)}
        self._noted = {event.planned: event for event in before if isinstance(event, Writing)}
        self.begun = bool(self._told or self._noted)
        self.places: dict[Output, Path] = {}
        self.written: list[Output] = []

    def require_free(self, output: Output) -> None:
        """Raises a UserError if a file has the name of a result before the work begins."""
        if not self.begun and files.is_taken(output.path):
            hint = "Name another output folder, or move this file away"
            raise UserError("there is a file of this name already", where=output.path, hint=hint)

    def require_same_model(self, place: Path) -> None:
        """Raises a UserError if an earlier run of the job has segmented with another model."""
        if any(noted.model not in ("", self._model) for noted in self._noted.values()):
            what = "this is not the model that the segmentation began with: its results would be of two models"
            hint = "Put that model back, or segment what is left into another folder"
            raise UserError(what, where=place, hint=hint)

    def is_done(self, output: Output, case: str | None = None) -> bool:
        """Whether an output lies where an earlier run put it; if that run was cut off before it said so, this does."""
        noted = self._noted.get(output.path.name)
        path = output.path if noted is None else full_path(self._folder, noted.path)
        if not path.exists():
            return False
        self.places[output] = path
        if path in self._told:
            return True
        if noted is not None and path.is_file():
            if files.sha256(path) == noted.sha256:
                self._tell(output, path, case)
                return True
            if path.stat().st_size == 0:  # its name was kept for it, see `files.move_new`
                path.unlink()
        return False

    def withdraw(self, output: Output) -> None:
        """Deletes what an earlier run wrote, if nobody has changed it since."""
        noted = self._noted.get(output.path.name)
        path = self.places.get(output)
        if noted is not None and path is not None and path.is_file() and files.sha256(path) == noted.sha256:
            path.unlink()

    def write(self, output: Output, case: str | None, save: Callable[[Path], None]) -> None:
        """Writes an output under its planned name, or under one beside it if that is taken.

        Args:
            output: What it is.
            case: Of which input; None for a table of all.
            save: Writes it to a path.
        """
        temporary = temporary_beside(output.path)
        try:
            save(temporary)
            digest = files.sha256(temporary)
            for path in names_for(output.path):
                if files.is_taken(path) or (path != output.path and path in self._planned):
                    continue
                place = {"planned": output.path.name, "path": self._short(path)}
                self._events.emit(Writing(**place, sha256=digest, model=self._model))
                if files.move_new(temporary, path):
                    break
        except OSError as error:
            raise files.as_user_error(error, output.path) from error
        except UserError as error:
            where = output.path if error.where == str(temporary) else error.where
            raise UserError(error.what, where=where, hint=error.hint) from error
        finally:
            temporary.unlink(missing_ok=True)
        self.places[output] = path
        self.written.append(output)
        if path != output.path and output.kind != VOLUMES:  # each segmentation into a folder leaves a table of its own
            what = f"a file of this name appeared meanwhile; it stays, and the result is called {path.name}"
            self._events.warn(what, where=output.path, hint="Look at both before you use either")
        self._tell(output, path, case)

    def _tell(self, output: Output, path: Path, case: str | None) -> None:
        self._events.emit(Result(kind=output.kind, path=self._short(path), case=case))

    def _short(self, path: Path) -> str:
        return (short_path(self._folder, path.parent) / path.name).as_posix()


def names_for(path: Path) -> Iterator[Path]:
    """scan.nii.gz, scan-2.nii.gz, scan-3.nii.gz and so on."""
    yield path
    name = stem(path) if is_volume_file(path) else path.stem
    for number in count(2):
        yield path.with_name(f"{name}-{number}{path.name.removeprefix(name)}")


def outputs_of(job: SegmentJob, name: str, frames: int) -> list[Output]:
    """The files that hold the results of an input of so many frames.

    A Slicer segmentation holds one frame; those of a time series are numbered from 1, as the files of ACDC are.
    """
    whole = range(frames)
    if job.suffix == ".seg.nrrd" and frames > 1:
        names = [f"{frame_name(name, frame)}{job.suffix}" for frame in whole]
        outputs = [Output("segmentation", whole[at : at + 1], job.out / each) for at, each in enumerate(names)]
    else:
        outputs = [Output("segmentation", whole, job.out / f"{name}{job.suffix}")]
    maps = [kind for kind in MAPS if getattr(job, kind)]
    return [*outputs, *(Output(kind, whole, job.out / f"{name}_{kind}.nii.gz") for kind in maps)]


def write_output(kind: str, volumes: list[Volume], labels: LabelSet, path: Path) -> None:
    """Writes what an output of a kind holds of its frames."""
    if kind not in ("segmentation", "pseudo_labels"):
        write_series(path, volumes)
    elif len(volumes) == 1:
        write_labels(path, volumes[0], labels)
    else:
        write_series(path, [each.with_array(labels.to_source(each.array)) for each in volumes])


def hash_of_model(path: Path) -> str:
    """A hash of the model at a path, by the checksums in its package."""
    return hashlib.sha256(open_package(path).read(CHECKSUMS)).hexdigest()


def count_sound_frames(path: Path, config: TrainConfig, events: EventLog) -> int:
    """How many frames an input has; what is doubtful about it becomes a warning.

    Raises:
        UserError: As `read_sound_series`, and as `slices.stack_fault` says.
    """
    series = read_sound_series(path)
    if fault := stack_fault(as_stack(series[0], config.preprocess.plane), config.network.dimensions):
        raise UserError(fault[0], where=path, hint=fault[1])
    faults = [spacing_fault(series[0]), next(filter(None, map(contrast_fault, series)), None)]
    for what, hint in (*filter(None, faults), *series[0].doubts):
        events.warn(what, where=str(path), hint=hint)
    return len(series)


def read_sound_series(path: Path) -> list[Volume]:
    """The frames of a file whose voxels can be segmented.

    Raises:
        UserError: If it cannot be read, or as `checks.image_fault` says.
    """
    frames = read_series(path)
    for frame in frames:
        if fault := image_fault(frame):
            what, hint = fault
            raise UserError(what, where=path, hint=f"{hint}, or leave this volume out")
    return frames


def inference_plan(device: str) -> ComputePlan:
    """Full precision on a CPU; half precision on a GPU, where it is faster and changes nothing that one could see."""
    if torch.device(device).type == "cuda":
        dtype = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
        name = torch.cuda.get_device_name(device)
        return ComputePlan(device=device, name=name, dtype=dtype, channels_last=True, threads=torch.get_num_threads())
    return predict.cpu_plan().model_copy(update={"device": device, "name": device})
