"""The settings of the panel, kept in the module's parameter node and so in the scene; all but the case table."""

import enum
from pathlib import Path
from typing import Annotated, Union

from slicer import (
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLSequenceNode,
)
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from .engine import process
from .i18n import tr as _

process.addToPath()
from semicardiac.methods.registry import METHODS  # noqa: E402 - it is found now


class Preset(enum.Enum):
    """How to learn. The names are what scenes keep, the values what the engine knows."""

    DEFAULT = "default"
    SUPERVISED = "supervised"
    PAPER = "paper"

    def label(self) -> str:
        labels = {
            Preset.DEFAULT: _("Labeled and unlabeled cases"),
            Preset.SUPERVISED: _("Labeled cases alone"),
            Preset.PAPER: _("As published"),
        }
        return labels[self]


class _Titled(enum.Enum):
    def label(self) -> str:
        return METHODS[self.value].title if self.value in METHODS else _("That of the recipe")


Method = _Titled("Method", {"OF_THE_RECIPE": "", **{name.upper(): name for name in METHODS}})
"""How to learn from the unlabeled cases: the methods that the engine knows."""


class Device(enum.Enum):
    """Where to compute."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"

    def label(self) -> str:
        labels = {
            Device.AUTO: _("Automatic"),
            Device.CPU: _("Processor (CPU)"),
            Device.CUDA: _("NVIDIA graphics card"),
        }
        return labels[self]


@parameterNodeWrapper
class Parameters:
    """Each is connected to the widget that names it as its SlicerParameterName."""

    # parameterNodeWrapper knows Union, not "|"; of several classes, none must be named to be allowed.
    folder: Path
    minutes: Annotated[int, WithinRange(1, 10_000)] = 10
    preset: Preset = Preset.DEFAULT
    method: Method = Method.OF_THE_RECIPE
    device: Device = Device.AUTO
    steps: Annotated[int, WithinRange(0, 10_000_000)] = 0
    seed: Annotated[int, WithinRange(0, 2**31 - 1)] = 0
    deterministic: bool = False
    inputNode: Union[vtkMRMLScalarVolumeNode, vtkMRMLSequenceNode, None]  # noqa: UP007
    allCases: bool = False
    confidence: bool = False
    entropy: bool = False
    thresholdMap: bool = False
    pseudoLabels: bool = False
    flips: bool = True
    measured: Union[vtkMRMLSegmentationNode, vtkMRMLSequenceNode, None]  # noqa: UP007
    otherPhase: vtkMRMLSegmentationNode
    reference: vtkMRMLSegmentationNode
