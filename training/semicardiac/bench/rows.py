"""The rows of the bench, with their bars, and what measures them. Only standard library and errors: a list at once.

The reference that ours is compared with is no part of the package: it stands in Testing/bench of a checkout.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from ..base.errors import UserError, nearest


class Row(NamedTuple):
    """A figure of the bench."""

    id: str
    about: str
    bar: float | None = None
    """What it should reach; None where there is no such number."""
    better: Literal["lower", "higher"] = "lower"
    unit: str = ""
    """Empty for a ratio."""

    def meets(self, value: float) -> bool | None:
        """Whether a value reaches the bar; None without one."""
        if self.bar is None:
            return None
        return value <= self.bar if self.better == "lower" else value >= self.bar


class Measurement(NamedTuple):
    """A function that measures some rows, of one Setting, and gives a Measured for each by its id."""

    place: str
    """Module and function: of this package, or with the whole path of the module those of a checkout."""
    rows: tuple[Row, ...]
    gpu: bool = False
    """Whether it can only be measured on a CUDA device."""

    @property
    def of_checkout(self) -> bool:
        return self.place.startswith("Testing.")


MEASUREMENTS = (
    Measurement(
        "modules:measure",
        (
            Row("modules_over_mean_teacher", "a step with all modules over one of our plain mean teacher", 1.03),
            Row("modules_parts_share", "what the modules compute by themselves, as a share of the step", 0.03),
        ),
    ),
    Measurement(
        "Testing.bench.training:over_reference",
        (
            Row("train_over_reference", "images a second over the reference's, same widths and pixels", 1.3, "higher"),
            Row("own_unet_over_reference", "the same with our U-Net, whose first level is at half resolution", None,
                "higher"),
        ),
    ),
    Measurement(
        "Testing.bench.training:default_over_reference",
        (Row("default_over_reference", "images a second of our default over the reference's", 5.0, "higher"),),
    ),
    Measurement(
        "Testing.bench.training:augment_over_reference",
        (Row("augment_over_reference", "fetching and augmenting a slice of 256 x 256 over the reference's", 0.5),),
    ),
    Measurement(
        "Testing.bench.inference:over_slicewise",
        (Row("inference_over_slicewise", "volumes a second over slice by slice, same widths and pixels", 1.4,
             "higher"),),
    ),
    Measurement(
        "Testing.bench.inference:default_over_reference",
        (
            Row("inference_default_over_reference", "volumes a second of our default over the reference's", 8.0,
                "higher"),
            Row("inference_flips_over_reference", "the same with the four flips of each slice", 2.5, "higher"),
        ),
    ),
    Measurement(
        "Testing.bench.metrics:measure",
        (Row("metrics_over_brute_force", "Dice, Jaccard, HD95 and ASD of a volume over those on the whole grid", 0.2),),
    ),
    Measurement(
        "memory:activations",
        (Row("activation_mb_per_slice", "kept for the gradients of a slice of 256 x 256, widths 16 to 256", 90,
             unit="MB"),),
    ),
    Measurement(
        "Testing.bench.training:activations",
        (Row("activation_mb_full_resolution", "the same with our blocks from full resolution down", 90, unit="MB"),),
    ),
    Measurement(
        "memory:pools",
        (
            Row("pool_memory_ratio", "memory to draw batches from 130,000 slices over that from 1,300", 1.1),
            Row("pool_time_ratio", "processor time of such a batch, likewise", 1.1),
        ),
    ),
    Measurement(
        "starting:measure",
        (
            Row("import_s", "import semicardiac", 0.15, unit="s"),
            Row("help_s", "semicardiac --help", 0.4, unit="s"),
        ),
    ),
    Measurement(
        "volumes:segment_volume",
        (Row("segment_volume_cpu_s", "a volume of ten slices from file to file by our default", unit="s"),),
    ),
    Measurement(
        "processes:measure",
        (Row("two_processes_speedup", "images a second of a training in two processes over one", 1.5, "higher"),),
    ),
    Measurement(
        "device:training_speed",
        (Row("train_images_s_256", "training images a second at 256 x 256, widths 16 to 256", 4000, "higher", "1/s"),),
        gpu=True,
    ),
    Measurement(
        "device:inference_speed",
        (Row("infer_slices_s_256", "predicted slices a second, likewise", 15000, "higher", "1/s"),),
        gpu=True,
    ),
    Measurement(
        "device:waits_and_memory",
        (
            Row("host_waits_per_step", "how often a step of our default waits for the device", 0),
            Row("peak_gpu_mb", "device memory that a training by our default takes", unit="MB"),
        ),
        gpu=True,
    ),
)  # fmt: skip


def select(ids: Iterable[str]) -> list[Measurement]:
    """The measurements of some rows, each with these rows alone; of all rows if none is named.

    Raises:
        UserError: If there is no such row.
    """
    wanted = set(ids)
    known = [row.id for measurement in MEASUREMENTS for row in measurement.rows]
    if unknown := sorted(wanted - set(known)):
        raise UserError(f"there is no row '{unknown[0]}'", where="--only", hint=nearest(unknown[0], known))
    if not wanted:
        return list(MEASUREMENTS)
    chosen = [each._replace(rows=tuple(row for row in each.rows if row.id in wanted)) for each in MEASUREMENTS]
    return [each for each in chosen if each.rows]
