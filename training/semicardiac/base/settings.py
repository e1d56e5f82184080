"""Settings that check themselves: a section of them, their bounds, and the errors that name what was wrong."""

from __future__ import annotations

import json
import reprlib
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    PositiveInt,
    ValidationError,
)

from .errors import UserError, nearest

Model = TypeVar("Model", bound=BaseModel)


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if not bounds[0] < bounds[1]:
        raise ValueError(f"the first of {bounds[0]:g} and {bounds[1]:g} must be the lower one")
    return bounds


def _box(bounds: tuple[float, ...]) -> tuple[float, ...]:
    if not all(low < high for low, high in zip(bounds[::2], bounds[1::2], strict=True)):
        raise ValueError("a region is xmin, xmax, ymin, ymax, zmin, zmax in mm, each minimum below its maximum")
    return bounds


#: An intensity in standard deviations of its volume; the slices are kept in half precision, which ends at 65504.
Intensity = Annotated[float, Field(ge=-1000, le=1000)]


#: Lower and upper bound of the intensities.
Bounds = Annotated[tuple[Intensity, Intensity], AfterValidator(_ordered)]


#: One end of the range of a factor.
End = Annotated[float, Field(gt=0, le=100)]


#: Bounds of a factor.
Factor = Annotated[tuple[End, End], AfterValidator(lambda ends: ends if ends[0] == ends[1] else _ordered(ends))]


#: Where the heart is: xmin, xmax, ymin, ymax, zmin, zmax in mm, RAS.
Roi = Annotated[
    tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat], AfterValidator(_box)
]


#: Channels of each level of a network. How many are too many, `network.build_network` tells by what they take together.
Widths = Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=8)]


_LONGEST = 80
"""Letters of a value or a key in a message."""


class Section(BaseModel):
    """A group of settings. Numbers are finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Nested settings from texts such as `loss.lambda_u=0.5`; values are read as JSON where they are JSON.

    Raises:
        UserError: For a text without `=` or without a section.
    """
    settings: dict[str, Any] = {}
    for text in assignments:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            hint = "For example: loss.lambda_u=0.5"
            raise UserError(f"'{text}' is not of the form section.key=value", where="settings", hint=hint)
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            parsed = value
        for name in reversed(key.strip().split(".")):
            parsed = {name: parsed}
        settings = merged(settings, parsed)
    return settings


def parse(model: type[Model], data: object, *, where: object = "configuration", inside: tuple[str, ...] = ()) -> Model:
    """Validates `data` as `model`; `inside` names the sections that it stands in.

    Raises:
        UserError: With the field, what was found, what is allowed, and the nearest known key.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(_shortened(str(part)) for part in (*inside, *first["loc"]))
        place = f"{where}: {path}" if path else str(where)
        if first["type"] == "missing":
            raise UserError("this is missing", where=place) from None
        if first["type"] == "extra_forbidden":
            name, known = _shortened(str(first["loc"][-1])), _fields_at(model, first["loc"][:-1])
            nested = [f"{section}.{name}" for section in known if name in _fields_at(model, (section,)) != known]
            hint = f"Did you mean '{nested[0]}'" if nested else nearest(name, known)
            raise UserError("there is no such setting", where=place, hint=hint) from None
        if first["type"] == "value_error":  # raised by a validator of ours: it says what was found
            raise UserError(str(first["ctx"]["error"]), where=place) from None
        allowed = f"{first['msg'][0].lower()}{first['msg'][1:]}"
        raise UserError(f"got {shown(first['input'])}: {allowed}", where=place) from None


def shown(value: Any) -> str:
    """A value as in Python, shortened to what fits into a message."""
    brief = reprlib.Repr()  # which does not even look at what lies deeper or behind
    brief.maxstring = brief.maxother = brief.maxlong = _LONGEST
    return _shortened(brief.repr(value))


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _fields_at(model: type[Any], loc: tuple[Any, ...]) -> list[str]:
    for name in loc:
        field = getattr(model, "model_fields", {}).get(name)
        if field is None or not hasattr(field.annotation, "model_fields"):
            break
        model = field.annotation
    return list(model.model_fields)


def merged(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """Nested settings: those of `base`, and over them those of `top`."""
    both = dict(base)
    for key, value in top.items():
        inner = isinstance(value, dict) and isinstance(both.get(key), dict)
        both[key] = merged(both[key], value) if inner else value
    return both
