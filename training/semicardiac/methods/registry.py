"""Which methods there are. Only standard library and errors, so that a list of them is there at once."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from ..base.errors import UserError, nearest

if TYPE_CHECKING:
    from ..config import TrainConfig
    from .method import Facts, Method, MethodSettings


class Entry(NamedTuple):
    """A method that can be chosen."""

    place: str
    """Module and class."""
    title: str
    """A name for people."""
    about: str
    """One line for those who choose."""
    unlabeled: bool = True
    """Whether it learns from unlabeled cases."""


DEFAULT = "dptm_rem_cc"
METHODS: dict[str, Entry] = {
    DEFAULT: Entry(
        "dptm_rem_cc:DptmRemCc",
        "DPTM + REM + CC",
        "ours: dynamic threshold map, robust entropy minimization, contrastive consistency (Mi et al. 2026)",
    ),
    "fixmatch": Entry("fixmatch:FixMatch", "FixMatch", "pseudo-labels above a fixed confidence (Sohn et al. 2020)"),
    "mean_teacher": Entry(
        "mean_teacher:MeanTeacher", "Mean teacher", "agreement with an averaged teacher (Tarvainen & Valpola 2017)"
    ),
    "supervised": Entry("supervised:Supervised", "Supervised", "the labeled cases alone", unlabeled=False),
}


def require_method(name: str, *, where: object = "method.name") -> Entry:
    """The entry of a method.

    Raises:
        UserError: If there is none of that name.
    """
    if name not in METHODS:
        raise UserError(f"there is no method '{name:.60}'", where=where, hint=nearest(name, METHODS))
    return METHODS[name]


def load(name: str, *, where: object = "method.name") -> type[Method]:
    """The class of a method; this imports PyTorch.

    Raises:
        UserError: If there is no method of that name.
    """
    module, _, kind = require_method(name, where=where).place.partition(":")
    found: type[Method] = getattr(import_module(f"{__package__}.{module}"), kind)
    return found


def settings_of(
    config: TrainConfig, *, where: object = "configuration", inside: tuple[str, ...] = ("method",)
) -> MethodSettings:
    """The settings of a configuration's method, those that were not given at their defaults.

    Args:
        config: Names the method.
        where: The file, for errors.
        inside: The sections of the file in which the settings stand.

    Raises:
        UserError: If there is no such method, or it has no such setting or another range for it.
    """
    from ..base.settings import parse

    kind = load(config.method.name, where=f"{where}: {'.'.join(inside)}.name")
    return parse(kind.Settings, config.method.given, where=where, inside=inside)


def complete(config: TrainConfig, *, where: object = "configuration") -> TrainConfig:
    """The configuration with every setting of its method.

    Raises:
        UserError: As `settings_of`.
    """
    settings = settings_of(config, where=where)
    method = type(config.method)(name=config.method.name, **settings.model_dump())
    return config.model_copy(update={"method": method})


def build(
    config: TrainConfig, facts: Facts, *, where: object = "configuration", inside: tuple[str, ...] = ("method",)
) -> Method:
    """The method of a configuration, at the beginning of a training.

    Raises:
        UserError: As `settings_of`.
    """
    return load(config.method.name)(settings_of(config, where=where, inside=inside), facts)
