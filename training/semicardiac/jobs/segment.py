"""The work of a segment job: volumes and time series in, segmentations named after them out."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from ..base import files
from ..base.errors import Stopped, UserError
from ..base.events import Device, EventLog, Progress, Stage, each_event
from ..base.ranks import Rank
from ..base.tables import write_csv
from ..base.temporaries import remove_abandoned
from ..base.text import count, listed
from ..config import TrainConfig
from ..data.checks import image_fault, spacing_fault
from ..data.intensities import contrast_fault
from ..data.label_order import mixed_up
from ..data.names import MAPS, frame_name
from ..data.slices import as_stack, stack_fault
from ..evaluation.clinical import volumes_ml
from ..evaluation.heart_function import COLUMNS, phases_of_inputs, read_frames, volumes_table
from ..images.labels import LabelSet
from ..images.volumes import Volume, count_frames, read_series, write_labels, write_series
from ..models import predict
from ..models.compute import ComputePlan, pick_device
from ..models.forward import inference_plan
from ..models.model import Model, load_model
from ..models.networks import timed_shape
from ..models.package import CHECKSUMS, open_package
from ..models.predict import Prediction
from .job import EVENTS, STOP, VOLUMES, SegmentJob, named_inputs
from .read_ahead import read_ahead
from .results import Output, Results
from .shares import LOOK_S, Others, begin, share_of, wait_for_begin

_ALONE = Rank()


class Input(NamedTuple):
    """A volume or time series to segment."""

    number: int
    """Among all inputs, from 1."""
    name: str
    path: Path
    frames: int


class Unusable(NamedTuple):
    """An input that cannot be segmented, and why."""

    name: str
    error: UserError


class Sound(NamedTuple):
    """An input that was read and can be segmented."""

    frames: list[Volume]
    doubts: list[tuple[str, str]]
    """What and hint of what may be wrong with it all the same."""


@dataclass(frozen=True, eq=False)
class Segmenter:
    """What segments the inputs of a job, one after the other.

    While the network computes, the next input is read and the last result is written: whatever the number of inputs,
    the memory holds three of them.
    """

    job: SegmentJob
    model: Model
    plan: ComputePlan
    warns: bool
    """Whether to say at once of an input that it cannot be used: of one alone, the end tells."""
    results: Results
    events: EventLog
    report: Callable[[Stage, int, str], None]
    """Tells of progress; raises Stopped if a stop was asked for."""
    beside: Callable[[], None] = lambda: None
    """Called for each input."""

    def outputs_of(self, each: Input) -> list[Output]:
        """The files that hold the results of an input."""
        return outputs_of(self.job, each.name, each.frames)

    def segment(self, inputs: Iterable[Input]) -> list[Unusable]:
        """Segments what is left of some inputs.

        Returns:
            Those that cannot be used; the others are segmented all the same.
        """
        unusable = []
        for each, reading in read_ahead(filter(self._left_of, inputs), self._read):
            self.beside()
            try:
                sound = reading.result()
            except UserError as error:
                self.report("segmenting", each.number, each.name)
                unusable.append(Unusable(each.name, error))
                if self.warns:
                    self.events.warn(f"{error.what}; it is left out", where=error.where or each.name, hint=error.hint)
            else:
                self._segment_frames(each, sound)
                del sound
            del reading  # else this input would be held while the one after the next is read
        self.results.settle()
        return unusable

    def _left_of(self, each: Input) -> list[Output]:
        """The outputs of an input that are not there yet."""
        return [output for output in self.outputs_of(each) if not self.results.is_done(output, each.name)]

    def _read(self, each: Input) -> Sound:
        return read_sound(each, self.model.config)

    def _segment_frames(self, each: Input, sound: Sound) -> None:
        for what, hint in sound.doubts:
            self.events.warn(what, where=str(each.path), hint=hint)
        job, labels = self.job, self.model.labels
        unwritten: dict[Output, list[Volume]] = {output: [] for output in self._left_of(each)}
        maps = {output.kind for output in unwritten} - {"segmentation"}
        for index, frame in enumerate(sound.frames):
            case = each.name if each.frames == 1 else f"{each.name}, frame {index + 1} of {each.frames}"
            self.report("segmenting", each.number, case)
            prediction = predict.segment(
                self.model, frame, self.plan, maps=maps, flips=job.flips,
                largest_component=job.largest_component, roi=job.roi,
            )  # fmt: skip
            warn_of_doubts(prediction, case, labels, self.events)
            for output in list(unwritten):
                if index in output.frames:
                    unwritten[output].append(part_of(prediction, output.kind))
                if index == output.frames[-1]:
                    volumes = unwritten.pop(output)
                    self.results.write(output, each.name, partial(write_output, output.kind, volumes, labels))
                    del volumes


def run_segment(
    job: SegmentJob, folder: Path, events: EventLog, stop: Callable[[], bool], rank: Rank = _ALONE
) -> dict[str, int]:
    """Segments every input whose results are not there yet.

    The headers of all are read before the first is segmented, their voxels when their turn comes. An input that cannot
    be used keeps none of the others from being segmented; it is told at the end.

    Args:
        job: What to segment and where to.
        folder: The job folder: its events tell which results an interrupted run has written.
        events: Told of progress, results and doubts.
        stop: Whether a stop was asked for.
        rank: Of several processes, this one; all but the first segment their share alone.

    Raises:
        Stopped: If a stop was asked for; the results so far are kept.
        UserError: If the model or an input cannot be used, the model is not the one that this job began with, or a
            file has the name of a result before the work begins.
    """
    if rank.first:
        return _run(job, folder, events, stop, rank)
    wait_for_begin(folder, rank, stop)
    with share_of(folder, rank.number) as free:  # else the first process was faster
        if free:
            _run(job, folder, events, lambda: stop() or (folder / STOP).exists(), rank)
    return {}


def _run(job: SegmentJob, folder: Path, events: EventLog, stop: Callable[[], bool], rank: Rank) -> dict[str, int]:
    """The work of a process, which nobody else does."""
    device = device_of(job, rank)
    model = load_model(job.model).to(device)
    paths = named_inputs(job.inputs)
    files.output_folder(job.out, empty=False)
    remove_abandoned(job.out)
    planned: dict[Path, str] = {}

    def report(stage: Stage, number: int, case: str) -> None:
        events.emit(Progress(stage=stage, step=number, total=len(paths), case=case))
        if stop():
            raise Stopped

    with Results(folder, events, planned.keys(), hash_of_model(job.model)) as results:
        results.require_same_model(job.model)
        inputs = []
        for number, (name, path) in enumerate(paths.items(), start=1):
            report("checking inputs", number, name)
            inputs.append(Input(number, name, path, count_frames(path)))
            for output in outputs_of(job, name, inputs[-1].frames):
                require_own_file(output, name, planned)
                if rank.first:
                    results.require_free(output)
        plan = plan_of(model, device, folder)
        events.emit(Device(**plan.model_dump(), processes=rank.count))
        segmenter = Segmenter(job, model, plan, rank.first and len(inputs) > 1, results, events, report)
        unusable = segment_shares(segmenter, inputs, folder, rank, stop)
        if rank.first:
            write_volumes(segmenter, inputs)
    if rank.first:  # which has tried again what others could not use
        require_all_usable(unusable, len(inputs))
    return {"segmented": len(inputs)}


def device_of(job: SegmentJob, rank: Rank) -> str:
    """The device of a process: of several on one machine, each takes a CUDA device of its own while there are some.

    Raises:
        UserError: As `pick_device`.
    """
    device = pick_device(job.device)
    if rank.count > 1 and torch.device(device).type == "cuda":
        return f"cuda:{rank.local % torch.cuda.device_count()}"
    return device


def segment_shares(
    segmenter: Segmenter, inputs: list[Input], folder: Path, rank: Rank, stop: Callable[[], bool]
) -> list[Unusable]:
    """Segments the share of a process; the first one also what others have left, see shares.py."""
    if rank.count == 1 or not rank.first:
        return segmenter.segment(inputs[rank.number :: rank.count])
    others = Others(folder, rank, segmenter.results, segmenter.events)
    begin(folder, rank)
    unusable = replace(segmenter, beside=others.pass_on).segment(inputs[:: rank.count])
    for number in range(1, rank.count):
        while True:
            with share_of(folder, number) as free:
                others.pass_on()
                if free:
                    unusable += segmenter.segment(inputs[number :: rank.count])
                    break
            if stop():
                raise Stopped
            time.sleep(LOOK_S)
    return unusable


def plan_of(model: Model, device: str, folder: Path) -> ComputePlan:
    """How a job computes, in all of its runs alike; the model's networks are placed as that wants them."""
    known, told = None, folder / EVENTS
    for event in each_event(told) if told.exists() else ():
        if isinstance(event, Device) and event.device == device:
            known = ComputePlan(**event.model_dump(include=set(ComputePlan.model_fields)))
    config = model.config
    shape = timed_shape(model.network, config.shape, device)
    plan = known or inference_plan(model.network, shape, device, fixed=config.deterministic)
    plan.place(model.network)
    if model.locator is not None:
        plan.place(model.locator)
    return plan


def require_all_usable(unusable: list[Unusable], inputs: int) -> None:
    """Raises a UserError if some of so many inputs could not be segmented."""
    if not unusable:
        return
    first = unusable[0].error
    if inputs == 1:
        raise first
    names = listed([each.name for each in unusable], 3)
    what = f"{len(unusable)} of {count(inputs, 'volume')} could not be segmented ({names}): {first.what}"
    raise UserError(what, where=first.where, hint=first.hint)


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


def write_volumes(segmenter: Segmenter, inputs: list[Input]) -> None:
    """Writes volumes.csv, see heart_function.py, by the files of the segmentations: also those of an earlier run."""
    job, results, labels, events = segmenter.job, segmenter.results, segmenter.model.labels, segmenter.events
    table = Output(VOLUMES, range(0), job.out / f"{VOLUMES}.csv")
    if results.is_done(table) and "segmentation" not in results.written:
        return
    results.withdraw(table)  # of an earlier run, some of whose results were gone and are made anew
    volumes: dict[str, list[dict[str, float]]] = {}
    for each in inputs:
        outputs = [output for output in segmenter.outputs_of(each) if output.kind == "segmentation"]
        paths = [results.place_of(output) for output in outputs]
        if not all(path.exists() for path in paths):
            continue  # it cannot be used, or has just gone
        try:
            volumes[each.name] = [volumes_ml(frame, labels) for frame in read_frames(paths, labels)]
        except UserError as error:
            events.warn(f"it is not in {VOLUMES}.csv: {error.what}", where=error.where or each.name, hint=error.hint)
    rows = volumes_table(volumes, phases_of_inputs({each.name: each.path for each in inputs}, job.inputs), labels)
    results.write(table, None, lambda path: write_csv(path, COLUMNS, rows))


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


def part_of(prediction: Prediction, kind: str) -> Volume:
    """What of a frame's prediction goes into an output of a kind."""
    return prediction.labels if kind == "segmentation" else prediction.maps[kind]


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


def read_sound(each: Input, config: TrainConfig) -> Sound:
    """The frames of an input, whose voxels can be segmented.

    Raises:
        UserError: If it cannot be read or has changed, or as `checks.image_fault` and `slices.stack_fault` say.
    """
    frames = read_series(each.path)
    for frame in frames:
        if fault := image_fault(frame):
            what, hint = fault
            raise UserError(what, where=each.path, hint=f"{hint}, or leave this volume out")
    if fault := stack_fault(as_stack(frames[0], config.preprocess.plane), config.network.dimensions):
        raise UserError(fault[0], where=each.path, hint=fault[1])
    if len(frames) != each.frames:
        what = f"it holds {count(len(frames), 'frame')}, and {each.frames} when this run began"
        raise UserError(what, where=each.path, hint="Run the job again once nothing changes this file any more")
    faults = [spacing_fault(frames[0]), next(filter(None, map(contrast_fault, frames)), None)]
    return Sound(frames, [*filter(None, faults), *frames[0].doubts])
