"""Commands that use a model or tell of a job."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from ..base.errors import UserError
from .options import Flag, job_made, optional, run_shown


@dataclass(frozen=True)
class Segment:
    """Segment volumes and time series with a trained model, and measure them (volumes.csv)."""

    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """A job folder, or a model package (folder or zip)."""
    inputs: Annotated[Positional[tuple[Path, ...]], arg(metavar="INPUT", help_behavior_hint="(required)")]
    """Volume files (3D or 4D), DICOM folders, or folders of volumes."""
    out: Annotated[Path, arg(metavar="DIR")]
    """Folder for the segmentations, each named after its input."""
    format: Literal["nii.gz", "nrrd", "seg.nrrd"] = "nii.gz"
    """seg.nrrd opens in 3D Slicer as a segmentation with names, colors and terminology."""
    confidence: Flag = False
    """Also write maps of the confidence, 0 to 1."""
    entropy: Flag = False
    """Also write maps of the entropy, 0 to 1."""
    threshold: Flag = False
    """Also write maps of the dynamic threshold of each voxel's class (DPTM)."""
    pseudo_labels: Flag = False
    """Also write what would be taught as pseudo-labels: the labels whose confidence passes that threshold."""
    flips: Flag = False
    """Average over the flips of each slice: a little better, in twice the time."""
    all_components: Flag = False
    """Keep all parts of a structure, not only its largest."""
    roi: Annotated[
        tuple[float, float, float, float, float, float] | None, optional("XMIN XMAX YMIN YMAX ZMIN ZMAX")
    ] = None
    """Where the heart is, in RAS mm, if it is not to be searched for."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:0 or mps."""
    job_only: Flag = False
    """Only make the job, in segment-job in DIR, for several processes or another machine to run."""
    jsonl: Flag = False
    """Events as lines of JSON on standard output, for programs."""

    EXAMPLES = """
  semicardiac segment runs/first scan.nii.gz --out results
  semicardiac segment model.zip cine_4d.nii.gz dicom/series12 --out results --format seg.nrrd --flips
  semicardiac segment runs/first data/unlabeled --out results --confidence --entropy"""

    def run(self) -> int:
        from ..base.settings import parse
        from ..data.names import MAPS
        from ..jobs.job import SegmentJob, create_job, subfolder

        if not self.inputs:
            raise UserError("no volume to segment was named", where="INPUT", hint="Name volume files or folders")
        for path in (self.model, *self.inputs):
            if not path.exists():
                raise UserError("there is no such file or folder", where=path)
        options = {name: getattr(self, name) for name in (*MAPS, "flips", "roi", "device")}
        places = {"model": self.model, "inputs": self.inputs, "out": self.out}
        largest = {"suffix": f".{self.format}", "largest_component": not self.all_components}
        job = parse(SegmentJob, {**places, **options, **largest}, where="segment")
        folder = create_job(subfolder(self.out, "segment-job"), job)
        if self.job_only:
            print(job_made(folder))
            return 0
        return run_shown(folder, jsonl=self.jsonl)


@dataclass(frozen=True)
class Evaluate:
    """Compare segmentations with reference segmentations: Dice, distances, volumes, ejection fraction."""

    predictions: Annotated[Positional[Path], arg(metavar="PREDICTIONS")]
    """Folder of segmentations."""
    reference: Annotated[Positional[Path], arg(metavar="REFERENCE")]
    """Folder of reference segmentations."""
    out: Annotated[Path, arg(metavar="DIR")]
    """New folder for the tables."""
    labels: Annotated[str | None, optional("SET")] = None
    """Label set: acdc, mmwhs, or a JSON file. Without it, that of the model whose results these are; else acdc."""
    jsonl: Flag = False
    """Events as lines of JSON on standard output, for programs."""

    EXAMPLES = """
  semicardiac evaluate results data/acdc --out evaluation"""

    def run(self) -> int:
        from ..images.labels import get_label_set
        from ..jobs.job import EvaluateJob, create_job
        from ..jobs.record import labels_of_segmentations

        found = None if self.labels else labels_of_segmentations(self.predictions)
        labels = found or get_label_set(self.labels or "acdc")
        job = EvaluateJob(predictions=self.predictions, reference=self.reference, labels=labels)
        return run_shown(create_job(self.out, job), jsonl=self.jsonl)


@dataclass(frozen=True)
class Report:
    """Write a page with curves, tables and pictures of a job."""

    job: Annotated[Positional[Path], arg(metavar="JOB")]
    """A job folder."""
    baseline: Annotated[Path | None, optional("JOB")] = None
    """The folder of a training on the labeled cases alone, to compare with."""

    EXAMPLES = """
  semicardiac report runs/first
  semicardiac report runs/first --baseline runs/plain"""

    def run(self) -> int:
        from ..report.write import write_report

        print(write_report(self.job, baseline=self.baseline))
        return 0


@dataclass(frozen=True)
class Run:
    """Run a job, or continue with it where it was interrupted."""

    job: Annotated[Positional[Path], arg(metavar="JOB")]
    """A job folder: one with a job.json."""
    jsonl: Flag = False
    """Events as lines of JSON on standard output; also without this where that is not a terminal."""

    EXAMPLES = """
  semicardiac run runs/first
  semicardiac run runs/first --jsonl"""

    def run(self) -> int:
        return run_shown(self.job, jsonl=self.jsonl or not sys.stdout.isatty())


@dataclass(frozen=True)
class Info:
    """Tell what a model segments and how it was trained."""

    model: Annotated[Positional[Path], arg(metavar="MODEL")]
    """A job folder, or a model package (folder or zip)."""

    zip: Annotated[Path | None, optional("FILE")] = None
    """Also write the model into this file, to send."""

    EXAMPLES = """
  semicardiac info runs/first
  semicardiac info runs/first --zip first.zip"""

    def run(self) -> int:
        from ..base.printable import on_one_line
        from ..models.package import open_package, write_zip

        package = open_package(self.model)
        package.verify()
        settings = package.settings
        rows = {
            "segments": ", ".join(settings.labels.names),
            "label set": settings.labels.name,
            "written by": f"semicardiac {settings.version}",
            "preset": settings.config.preset,
            **settings.about,
        }
        shown = {on_one_line(name.replace("_", " ")): on_one_line(value) for name, value in rows.items()}
        width = max(map(len, shown))
        for name, value in shown.items():
            print(f"{name:{width}}  {value}")
        if self.zip is not None:
            write_zip(package, self.zip)
            print(f"\nwrote {self.zip}")
        return 0
