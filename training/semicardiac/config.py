"""Every setting of a training, with its default, its bounds and its reason, as models that check themselves.

Unknown keys and values out of range are errors that name the nearest key or the bounds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from .base.defaults import MINUTES
from .base.errors import UserError, nearest
from .base.settings import Bounds, Factor, Section, Widths, merged, parse

Preset = Literal["default", "paper", "supervised"]
Shape = tuple[int, ...]
"""(rows, cols), or (slices, rows, cols)."""

MOST_VOXELS = 2**23
"""Of a block: with more a training would not fit into memory."""

#: Slices in a batch; in three dimensions, blocks.
Batch = Annotated[int, Field(gt=0, le=4096)]
#: Steps of a training: a year of them, a hundred a second, is still within.
STEPS_MAX = 10**10


class PreprocessConfig(Section):
    """From a volume to square slices with the heart in the middle, or to blocks of them (`network.dimensions` 3)."""

    plane: Literal["acquired", "axial", "coronal", "sagittal"] = "acquired"
    """Which slices the network sees: as acquired (across the coarsest axis), or an anatomical plane."""
    spacing_mm: float = Field(1.5, gt=0.2, le=10)
    """In-plane spacing that every slice is resampled to."""
    crop: int | None = Field(None, ge=32, le=512, multiple_of=16)
    """Side of the square around the heart, in pixels of that spacing: what the network sees. None: 112, or more where
    the labeled hearts are larger."""
    margin: int = Field(40, ge=0, le=256)
    """Pixels kept around the crop, so that rotated, shrunken and shifted views show anatomy, not padding."""
    clip: Bounds = (-3.0, 4.0)
    """Bounds of the intensities after the z-score over the volume."""
    depth: int | None = Field(None, ge=2, le=512)
    """Slices of a block around the heart. None: about as many as the labeled hearts take."""
    slice_mm: float | None = Field(None, gt=0.2, le=20)
    """Distance of the slices of a block. None: that of the labeled volumes, or `spacing_mm` where theirs is not much
    larger."""

    @model_validator(mode="after")
    def _fits_memory(self) -> PreprocessConfig:
        if self.crop and self.depth and self.depth * self.crop**2 > MOST_VOXELS:
            raise ValueError(
                f"a block of {self.depth} x {self.crop} x {self.crop} voxels has more than {MOST_VOXELS:,}"
            )
        return self

    @property
    def side(self) -> int:
        """`crop`, once it is chosen: a training does so before its first step, and a model has it."""
        assert self.crop is not None
        return self.crop


class LocateConfig(Section):
    """Finding the heart: the first stage."""

    method: Literal["network", "center"] = "network"
    """A small trained network, or the middle of the image."""
    spacing_mm: float = Field(3.0, gt=0.2, le=20)
    size: int = Field(96, ge=32, le=256, multiple_of=16)
    widths: Widths = (16, 32, 64, 128)
    batch: Batch = 16
    share: float = Field(0.1, gt=0, lt=0.9)
    """Share of the training budget with 7 labeled patients or more; it doubles as they get fewer."""
    refine: float = Field(0.06, ge=0, lt=0.5)
    """Share of the training budget for training it again on the teacher's predictions, with 1 labeled patient; none
    with 7 or more."""
    steps_max: int = Field(1500, ge=1, le=STEPS_MAX)
    learning_rate: float = Field(0.05, gt=0)
    recenter: bool = True
    """Move the crops of the unlabeled pool onto the teacher's own predictions when these come into play."""

    @field_validator("widths")
    @classmethod
    def _size_fits(cls, widths: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        size = info.data.get("size", 0)
        if size % 2 ** len(widths):
            raise ValueError(
                f"locate.size {size} is no multiple of {2 ** len(widths)}, as {len(widths)} levels need it"
            )
        return widths


class AugmentConfig(Section):
    """Random views of a slice. Lengths are shares of the crop's side, angles in degrees."""

    rotation: float = Field(30.0, ge=0, le=180)
    scale: Factor = (0.7, 1.3)
    shift: float = Field(0.12, ge=0, le=0.5)
    elastic: float = Field(0.03, ge=0, le=0.2)
    """Standard deviation of the displacement of the control points."""
    elastic_points: int = Field(6, ge=2, le=32)
    flip: float = Field(0.5, ge=0, le=1)
    """Probability of each of the two flips."""
    brightness: Factor = (0.7, 1.3)
    gain: Factor = (0.7, 1.4)
    """Contrast around the slice's mean."""
    gamma: Factor = (0.6, 1.6)
    noise: float = Field(0.15, ge=0)
    """Largest standard deviation of the added noise, in standard deviations of the volume."""
    blur: float = Field(0.3, ge=0, le=1)
    """Probability of a light blur."""
    cutout: float = Field(0.0, ge=0, le=1)
    """Probability that a rectangle is blanked in the view (preset `paper`)."""
    crop: float = Field(0.0, ge=0, le=1)
    """Probability that a random part of the view fills it (preset `paper`)."""


class NetworkConfig(Section):
    """The backbone."""

    name: str = "unet"
    """`unet`, our own; or a network of MONAI: dynunet, segresnet, swinunetr."""
    widths: Widths = (16, 32, 64, 128)
    """Channels of each level. Our own U-Net begins at half resolution, MONAI's networks at full."""
    dimensions: Literal[2, 3] = 2
    """2: slices one by one. 3: blocks of slices, for whole hearts and thick stacks."""
    anisotropy: float | None = Field(None, gt=0, le=100)
    """In three dimensions, the distance of slices over that of pixels: where it is large, kernels and strides are flat.
    None: that of the blocks."""


class MethodConfig(Section):
    """What is learned from unlabeled slices, and how: a method by its name, and beside it the settings that it has.

    Which there are says the method's own class, see `methods.registry`; without PyTorch they are not looked at.
    """

    model_config = ConfigDict(extra="allow")

    name: str = "dptm_rem_cc"

    @property
    def given(self) -> dict[str, Any]:
        """The method's settings, as far as they were given."""
        return dict(self.model_extra or {})


class OptimConfig(Section):
    """Stochastic gradient descent and the teacher."""

    learning_rate: float = Field(0.05, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(1e-4, ge=0)
    clip_norm: float | None = Field(5.0, gt=0)
    ema: float = Field(0.998, ge=0, lt=1)
    """β of the teacher."""
    hold: float = Field(0.35, ge=0, le=1)
    """Share of the training with the full learning rate; a cosine takes it to zero in the rest."""
    batch_labeled: Batch = 6
    """Labeled slices in a batch while there are no unlabeled ones in it."""
    batch_mixed: tuple[Batch, Batch] = (2, 4)
    """Labeled and unlabeled slices in a batch once the unlabeled ones take part."""
    batch_times: int | None = Field(None, ge=1, le=1024)
    """How many times larger the batches are. None: 1 on a CPU; on a GPU, which so few slices would leave idle, as many
    as give it most of its speed, by measurement, and for each GPU where several train."""

    def enlarged(self, times: int) -> OptimConfig:
        """The same with the batches as they are computed, so many times larger unless it says itself."""
        times = self.batch_times or times
        labeled, unlabeled = self.batch_mixed
        sizes = {"batch_labeled": times * self.batch_labeled, "batch_mixed": (times * labeled, times * unlabeled)}
        return self.model_copy(update={**sizes, "batch_times": 1})


class ScheduleConfig(Section):
    """How long to train, in time or in steps, and what happens when."""

    minutes: float | None = Field(None, gt=0, le=525_600)
    """At most a year; `MINUTES` if neither minutes nor steps are given."""
    steps: int | None = Field(None, ge=1, le=STEPS_MAX)
    clock: Literal["wall", "cpu"] = "wall"
    """What `minutes` counts: time on the wall, or processor time of this process, to compare on a shared machine."""
    warmup: float = Field(0.35, ge=0, le=1)
    """Share of the training on labeled slices alone."""
    warmup_steps: int = Field(400, ge=0, le=STEPS_MAX)
    """Steps on labeled slices alone at the least: a teacher that has learned nothing yet teaches noise, and in a short
    training the share above is soon over."""
    ramp: float = Field(0.1, ge=0, le=1)
    """Share of the training over which λ1 rises (sigmoid)."""
    validate_every: float | None = Field(None, gt=0, le=1)
    """Validate each time this share of the training is done. None: only at the end."""
    preview_every: float = Field(0.1, gt=0, le=1)
    checkpoint_s: float = Field(30.0, ge=0)
    """Seconds between checkpoints."""

    @model_validator(mode="before")
    @classmethod
    def _one_measure(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        given = [name for name in ("minutes", "steps") if data.get(name) is not None]
        if len(given) > 1:
            raise ValueError("both minutes and steps are given; give one of them")
        return data if given else {**data, "minutes": MINUTES}


class TrainConfig(Section):
    """Everything that decides what a training does, given its cases."""

    preset: Preset = "default"
    seed: int = Field(0, ge=0, lt=2**63)
    deterministic: bool = False
    """The same result on the same machine each time: full precision, deterministic kernels, nothing timed."""
    preprocess: PreprocessConfig = PreprocessConfig()
    locate: LocateConfig = LocateConfig()
    augment: AugmentConfig = AugmentConfig()
    network: NetworkConfig = NetworkConfig()
    method: MethodConfig = MethodConfig()
    optim: OptimConfig = OptimConfig()
    schedule: ScheduleConfig = ScheduleConfig()

    @property
    def volumetric(self) -> bool:
        """Whether it learns from blocks of slices."""
        return self.network.dimensions == 3

    @property
    def shape(self) -> Shape:
        """What the network sees, once it is chosen: (rows, cols) of a slice, or (slices, rows, cols) of a block."""
        side, depth = self.preprocess.side, self.preprocess.depth
        if not self.volumetric:
            return side, side
        assert depth is not None
        return depth, side, side


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    # The published recipe, read literally: no warm-up, no ramp, every batch half labeled and half unlabeled.
    "paper": {
        "method": {"supervised": "ce", "alpha": 0.99, "threshold_floor": 0.0, "contrast_key": "student"},
        "optim": {
            "learning_rate": 0.01,
            "weight_decay": 5e-4,
            "nesterov": False,
            "clip_norm": None,
            "hold": 0.0,
            "batch_labeled": 16,
            "batch_mixed": (8, 8),
            "batch_times": 1,
        },
        "schedule": {"warmup": 0.0, "warmup_steps": 0, "ramp": 0.0},
        "augment": {"cutout": 0.5, "crop": 0.5, "noise": 0.1, "shift": 0.0, "blur": 0.0},
        "locate": {"method": "center"},
        "preprocess": {"crop": 160},
    },
    # The same recipe on the labeled cases alone.
    "supervised": {"method": {"name": "supervised"}},
}

VOLUMETRIC: dict[str, Any] = {
    "preprocess": {"spacing_mm": 2.0, "crop": None, "margin": 16},
    "augment": {"flip": 0.0, "rotation": 15.0},
    "optim": {"batch_labeled": 2, "batch_mixed": (1, 2), "ema": 0.99, "learning_rate": 0.1},
    "schedule": {"warmup_steps": 200},
}
"""What else a preset has with `network.dimensions` 3.

A block holds what dozens of slices hold, so that batches are small and steps are few. Whole hearts lie alike in all
scans: left told from right, the phantom's seven structures are learned in 300 steps; mirrored at random, hardly in 450.
"""


def upgrade(config: Any) -> Any:
    """A stored configuration of an earlier version, in which the section `method` was called `loss`, as it is now."""
    if not (isinstance(config, dict) and isinstance(config.get("loss"), dict) and "method" not in config):
        return config
    loss = config["loss"]
    schedule = config.get("schedule")
    if config.get("preset") == "supervised" and isinstance(schedule, dict) and schedule.get("warmup") == 1:
        method = {"name": "supervised"} | {key: loss[key] for key in ("supervised",) if key in loss}
    else:
        method = {"name": "dptm_rem_cc", **loss}
    return {"method" if key == "loss" else key: method if key == "loss" else value for key, value in config.items()}


def make_config(preset: str = "default", overrides: dict[str, Any] | None = None) -> TrainConfig:
    """The configuration of a preset with some settings changed.

    Args:
        preset: `default`, `paper` or `supervised`.
        overrides: Nested settings, such as `{"method": {"lambda_u": 0.5}}`; they win over the preset.

    Raises:
        UserError: For an unknown preset or setting (with the nearest known one) or a value out of bounds.
    """
    if preset not in PRESETS:
        raise UserError(f"there is no preset '{preset}'", where="preset", hint=nearest(preset, PRESETS))
    if "preset" in (overrides or {}):
        hint = "Use --preset; --set changes single settings of it"
        raise UserError("a preset is no setting by itself", where="preset", hint=hint)
    if "loss" in (overrides or {}):
        hint = "For example: method.lambda_u=0.5"
        raise UserError("the settings of a method are in the section 'method'", where="loss", hint=hint)
    settings, asked = {"preset": preset, **PRESETS[preset]}, overrides or {}
    network = asked.get("network")
    if isinstance(network, dict) and network.get("dimensions") == 3:
        if preset == "paper":
            hint = "Use the preset 'default', or leave network.dimensions at 2"
            raise UserError("the published recipe is one for slices", where="network.dimensions", hint=hint)
        settings = merged(settings, VOLUMETRIC)
    method = asked.get("method")
    if isinstance(method, dict) and "name" in method:  # what a preset sets of its own method is not for another one
        before = settings.get("method", {})
        settings["method"] = before if method["name"] == before.get("name", MethodConfig().name) else {}
    return parse(TrainConfig, merged(settings, asked))
