"""The page of the report from its templates: colors, formats, and what keeps a text of others a text."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..base.text import DASH, count, duration, number, signed, spelled
from ..images.labels import LabelSet

LIGHT = {
    "paper": "#fbfaf7", "ink": "#1c1d20", "muted": "#676a70", "rule": "#dedad2", "accent": "#a3203a",
    "c1": "#2f5d8a", "c2": "#1f7a6c", "s0": "#6b6e74", "tint": "#f3f0ea", "warn": "#9a5b00",
}  # fmt: skip
DARK = {
    "paper": "#131417", "ink": "#e9e7e2", "muted": "#9b9ea5", "rule": "#303238", "accent": "#f07a8c",
    "c1": "#86b4e0", "c2": "#66c3b2", "s0": "#8a8d93", "tint": "#1b1d21", "warn": "#f0b35a",
}  # fmt: skip


def render(template: str, **values: Any) -> str:
    """A template of the folder `templates`, filled in.

    Every text becomes one that HTML shows and does nothing else with: jinja escapes it, and `spelled` makes visible
    what nobody could see. Only what a template calls `safe` goes in as it is: charts and whole sections of ours.
    """
    return _environment().get_template(template).render(**values)


def document(title: str, sections: Sequence[str], labels: LabelSet | None) -> str:
    """The whole document.

    Args:
        title: Of the window.
        sections: What `render` gave, in order; empty ones take no place.
        labels: Its colors become the variables s1, s2, ..., each dark or light enough to be seen on the page.
    """
    colors = [structure.color for structure in labels.structures] if labels else []
    light, dark = (
        theme | {f"s{number}": _legible(color, theme["paper"]) for number, color in enumerate(colors, start=1)}
        for theme in (LIGHT, DARK)
    )
    return render("page.html", title=title, sections=list(filter(None, sections)), light=light, dark=dark)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"DASH": DASH}
    environment.filters |= {
        "counted": count,
        "duration": duration,
        "number": number,
        "png": lambda data: f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}",
        "signed": signed,
    }
    return environment


def _shown(value: Any) -> Any:
    """What is written for a value: a text with all that is invisible spelled out; the HTML of a macro as it is."""
    return spelled(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _legible(color: Sequence[int], paper: str) -> str:
    """A color moved towards black or white until it has a contrast of 4.5 to the paper (WCAG, for text)."""
    background = _luminance([int(paper[at : at + 2], 16) for at in (1, 3, 5)])
    target = 0 if background > 0.5 else 255
    for step in range(21):
        mixed = [round(channel + (target - channel) * step / 20) for channel in color]
        bright, dim = sorted((_luminance(mixed), background), reverse=True)
        if (bright + 0.05) / (dim + 0.05) >= 4.5:
            break
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _luminance(color: Sequence[int]) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (channel / 255 for channel in color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
