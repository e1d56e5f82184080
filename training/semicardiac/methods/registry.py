"""Which methods there are. Only standard library and errors, so that a list of them is there at once."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from ..base.errors import UserError, nearest

if TYPE_CHECKING:
    from ..config import TrainConfig
    from .method import Facts, Method


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


def require_method(name: str) -> Entry:
    """The entry of a method.

    Raises:
        UserError: If there is none of that name.
    """
    if name not in METHODS:
        raise UserError(f"there is no method '{name:.60}'", where="method.name", hint=nearest(name, METHODS))
    return METHODS[name]


def load(name: str) -> type[Method]:
    """The class of a method; this imports PyTorch.

    Raises:
        UserError: If there is no method of that name.
    """
    module, _, kind = require_method(name).place.partition(":")
    return getattr(import_module(f"{__package__}.{module}"), kind)


def complete(config: TrainConfig, *, where: object = "configuration") -> TrainConfig:
    """The configuration with every setting of its method, those that were not given at their defaults.

    Raises:
        UserError: If there is no such method, or it has no such setting or another range for it.
    """
    from ..base.settings import parse

    kind, chosen = load(config.method.name), config.method
    settings = parse(kind.Settings, chosen.given, where=where, inside=("method",))
    method = type(chosen)(name=chosen.name, **settings.model_dump())
    return config.model_copy(update={"method": method})


def build(config: TrainConfig, facts: Facts) -> Method:
    """The method of a configuration, at the beginning of a training.

    Raises:
        UserError: As `complete`.
    """
    from ..base.settings import parse

    kind = load(config.method.name)
    return kind(parse(kind.Settings, config.method.given, where="configuration", inside=("method",)), facts)
