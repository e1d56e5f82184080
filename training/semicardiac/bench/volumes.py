"""What a user waits for a volume, by a model of the default that has learned enough to find its way."""

from __future__ import annotations

from pathlib import Path

from ..config import make_config
from ..data.cases import Case
from ..data.discover import read_case_list
from ..data.layouts import CASE_LIST
from ..images.labels import get_label_set
from ..images.volumes import read_volume, write_labels
from ..jobs.job import TrainJob, create_job
from ..jobs.run import run_job
from ..models.compute import ComputePlan
from ..models.forward import inference_plan
from ..models.model import Model, load_model
from ..models.predict import segment
from ..phantom.study import MILD, write_study
from .timing import Measured, Setting, take_turns

STUDY = "study"
STEPS, LOCATOR_STEPS = 150, 60
"""After so many, the hearts of a mild phantom study are found and mostly filled."""


def segment_volume(setting: Setting) -> dict[str, Measured]:
    """A phantom patient at end diastole: read, segmented without flips, and written."""
    model, plan = ready_model(setting)
    path, out = unseen(setting).image, setting.folder / "segmented.nii.gz"

    def work() -> None:
        write_labels(out, segment(model, read_volume(path), plan, flips=False).labels, model.labels)

    times = take_turns(setting, {"volume": work})["volume"]
    shape = read_volume(path).array.shape
    return {"segment_volume_cpu_s": Measured(times, " x ".join(map(str, shape)) + " voxels, without flips")}


def ready_model(setting: Setting) -> tuple[Model, ComputePlan]:
    """A model of the default, and how it computes: as in a job, where its networks are placed accordingly."""
    model = load_model(_trained(setting))
    plan = inference_plan(model.network, model.config.preprocess.side, setting.device)
    for network in (model.network, model.locator):
        if network is not None:
            plan.place(network)
    return model.to(plan.device), plan


def unseen(setting: Setting) -> Case:
    """A phantom patient that the model has not seen, at end diastole."""
    _trained(setting)
    return read_case_list(setting.folder / STUDY / CASE_LIST)[-2]


def _trained(setting: Setting) -> Path:
    """The job of a short training of the default on a phantom study; done once in a bench."""
    job = setting.folder / "model"
    if not job.exists():
        cases = write_study(setting.folder / STUDY, labeled=2, unlabeled=0, test=1, difficulty=MILD)
        config = make_config(
            "supervised", {"schedule": {"steps": STEPS, "preview_every": 1.0}, "locate": {"steps_max": LOCATOR_STEPS}}
        )
        labeled = tuple(case for case in cases if case.role == "labeled")
        train = TrainJob(cases=labeled, labels=get_label_set("acdc"), config=config, device=setting.device)
        if run_job(create_job(job, train)):
            raise RuntimeError("the training of the model that is to be measured did not come to its end")
    return job
