"""The work of a segment job: volumes and time series in, segmentations named after them out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from . import files, inference
from .cases import discover
from .compute import ComputePlan, pick_device
from .errors import Stopped, UserError
from .events import Device, EventLog, Progress, Result, read_events
from .jobs import EVENTS, SegmentJob
from .model import load_model
from .volumes import Volume, read_series, stem, write_labels, write_series


class Output(NamedTuple):
    """A file that holds a result of an input."""

    kind: str
    """segmentation, confidence or entropy."""
    frame: int | None
    """Which frame it holds; None for all of them."""
    path: Path


def run_segment(job: SegmentJob, folder: Path, events: EventLog, stop: Callable[[], bool]) -> dict[str, int]:
    """Segments every input; all are read once before the first result is written.

    Args:
        job: What to segment and where to.
        folder: The job folder: its events tell which results an interrupted run has written.
        events: Told of progress, results and doubts.
        stop: Whether a stop was asked for.

    Raises:
        Stopped: If a stop was asked for; the results so far are kept.
        UserError: If the model or an input cannot be used, or a result would overwrite a file.
    """
    plan = inference_plan(pick_device(job.device))
    model = load_model(job.model).to(plan.device)
    inputs = named_inputs(job.inputs)
    files.output_folder(job.out, empty=False)
    done = {Path(event.path) for event in read_events(folder / EVENTS) if isinstance(event, Result)}

    def tell(stage: str, number: int, case: str) -> None:
        events.emit(Progress(stage=stage, step=number, total=len(inputs), case=case))
        if stop():
            raise Stopped

    outputs: dict[str, list[Output]] = {}
    for number, (name, path) in enumerate(inputs.items(), start=1):
        tell("checking inputs", number, name)
        outputs[name] = outputs_of(job, name, len(read_sound_series(path)))
        for output in outputs[name]:
            if output.path.exists() and output.path not in done:
                hint = "Name another output folder, or move this file away"
                raise UserError("there is a file of this name already", where=output.path, hint=hint)

    events.emit(Device(**plan.model_dump()))
    for number, (name, path) in enumerate(inputs.items(), start=1):
        if done.issuperset(output.path for output in outputs[name]):
            continue
        predictions = []
        frames = read_series(path)
        for index, frame in enumerate(frames, start=1):
            case = name if len(frames) == 1 else f"{name}, frame {index} of {len(frames)}"
            tell("segmenting", number, case)
            settings = {"flips": job.flips, "largest_component": job.largest_component, "roi": job.roi}
            predictions.append(inference.segment(model, frame, plan, **settings))
            if predictions[-1].doubt:
                hint = "Look at this segmentation, or say where the heart is (--roi)"
                events.warn(predictions[-1].doubt, where=case, hint=hint)
        for kind, index, path in outputs[name]:
            if kind != "segmentation":
                write_series(path, [getattr(prediction, kind) for prediction in predictions])
            elif index is not None:
                write_labels(path, predictions[index].labels, model.labels)
            else:
                labels = [prediction.labels for prediction in predictions]
                write_series(path, [each.with_array(model.labels.to_source(each.array)) for each in labels])
            events.emit(Result(kind=kind, path=path.as_posix(), case=name))
    return {"segmented": len(inputs)}


def named_inputs(paths: tuple[Path, ...]) -> dict[str, Path]:
    """The volumes to segment by the names of their results; a folder stands for the volumes in it.

    Raises:
        UserError: If there are none, or two would have the same name.
    """
    inputs: dict[str, Path] = {}
    for path in paths:
        for image in dict.fromkeys(case.image for case in discover([path])) if path.is_dir() else [path]:
            name = stem(image)
            if inputs.get(name, image) != image:
                hint = "Results are named after their inputs: segment these two into different folders"
                raise UserError(f"this and {inputs[name]} have the same name", where=image, hint=hint)
            inputs[name] = image
    return inputs


def outputs_of(job: SegmentJob, name: str, frames: int) -> list[Output]:
    """The files that hold the results of an input of so many frames; a Slicer segmentation holds one frame."""
    if frames == 1:
        outputs = [Output("segmentation", 0, job.out / f"{name}{job.suffix}")]
    elif job.suffix == ".seg.nrrd":
        names = [f"{name}_frame{number:02d}{job.suffix}" for number in range(frames)]
        outputs = [Output("segmentation", number, job.out / each) for number, each in enumerate(names)]
    else:
        outputs = [Output("segmentation", None, job.out / f"{name}{job.suffix}")]
    maps = [kind for kind in ("confidence", "entropy") if getattr(job, kind)]
    return [*outputs, *(Output(kind, None, job.out / f"{name}_{kind}.nii.gz") for kind in maps)]


def read_sound_series(path: Path) -> list[Volume]:
    """The frames of a file whose voxels can be segmented.

    Raises:
        UserError: If it cannot be read, or holds NaN, inf or one value only.
    """
    frames = read_series(path)
    for frame in frames:
        wrong = int(np.count_nonzero(~np.isfinite(frame.array)))
        if wrong:
            raise UserError(f"{wrong} voxels are NaN or infinite", where=path, hint="Mend this volume, or leave it out")
        if frame.array.min() == frame.array.max():
            raise UserError(f"all voxels are {frame.array.flat[0]}", where=path, hint="Leave this volume out")
    return frames


def inference_plan(device: str) -> ComputePlan:
    """Full precision on a CPU; half precision on a GPU, where it is faster and changes nothing that one could see."""
    if torch.device(device).type == "cuda":
        dtype = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
        name = torch.cuda.get_device_name(device)
        return ComputePlan(device=device, name=name, dtype=dtype, channels_last=True, threads=torch.get_num_threads())
    return inference.cpu_plan().model_copy(update={"device": device, "name": device})
