"""Charts of the report as SVG text that takes the page's fonts and colors, light or dark.

Colors in the figures are CSS variables of the page (see html.py): `ink`, `muted`, `rule`, `paper`, `accent`, and
`s1`, `s2`, ... for the structures, `s0` for the background. Matplotlib knows no variables: it draws with a stand-in
color for each, which is then replaced.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np

from ..base.text import spelled
from ..evaluation.clinical import Agreement
from ..images.labels import LabelSet
from .plotting import drawing

Points = tuple[Sequence[float], Sequence[float]]
"""x and y of a line; a NaN in y is a gap."""

_VARIABLES = ("ink", "muted", "rule", "paper", "accent", "c1", "c2", *(f"s{number}" for number in range(256)))
_STAND_INS = {name: f"#{number:04x}fe" for number, name in enumerate(_VARIABLES)}
_VARIABLE_OF = {stand_in: f"var(--{name})" for name, stand_in in _STAND_INS.items()}
_STYLE = {
    "text.parse_math": False,  # in a name of others, `$` is a dollar
    "svg.fonttype": "none",  # text stays text, in the font of the page
    "savefig.transparent": True,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.edgecolor": _STAND_INS["rule"],
    "axes.axisbelow": True,
    "axes.labelsize": 8.5,
    "axes.labelcolor": _STAND_INS["muted"],
    "axes.titlesize": 8.5,
    "axes.titlecolor": _STAND_INS["muted"],
    "axes.titlelocation": "left",
    "grid.color": _STAND_INS["rule"],
    "grid.linewidth": 0.7,
    **{f"{axis}tick.{ticks}.size": 0.0 for axis in "xy" for ticks in ("major", "minor")},
    **{f"{axis}tick.{ticks}.pad": 4.0 for axis in "xy" for ticks in ("major", "minor")},
    **{f"{axis}tick.labelsize": 8.5 for axis in "xy"},
    **{f"{axis}tick.labelcolor": _STAND_INS["muted"] for axis in "xy"},
}
"""Settings of matplotlib for all figures."""
_COLOR = re.compile("#[0-9a-f]{6}")
_SMOOTH_FROM = 40
"""Points from which on a line is smoothed."""
_LARGEST = 1e12
"""No value of ours lies beyond it; what does comes from a damaged file and would break the axes."""


@drawing(_STYLE)
def curves(  # what a chart shows and how, each as matplotlib takes it
    lines: Mapping[str, Points],
    *,
    name: str,
    title: str,
    colors: Mapping[str, str],
    bounds: tuple[float | None, float | None] = (None, None),
    mark: tuple[float, str] | None = None,
    log: bool = False,
) -> str:
    """Lines over training steps, each named at its right end.

    Args:
        lines: What to draw, by the name that is written at its end; many points become a moving mean over faint ones.
        name: A name for this figure that no other on the page has.
        title: What is drawn, for those who cannot see it.
        colors: The color variable of each line; `muted` for those left out.
        bounds: Lowest and highest y to show at least.
        mark: A step to mark by a vertical line, and its text.
        log: Logarithmic y axis.
    """
    figure, axes = _axes(4.6, 2.5, (0.41, 0.92, 0.28, 0.27))
    ends = []
    for label, points in lines.items():
        color = _STAND_INS[colors.get(label, "muted")]
        x, y = (np.asarray(side, float) for side in points)
        kept = _drawable(x) & _drawable(y)
        x, y = x[kept], y[kept]
        if not len(x):
            continue
        smooth = _moving_mean(y)
        if smooth is not y:
            axes.plot(x, y, color=color, linewidth=0.6, alpha=0.28)
        marker = "o" if len(x) < 12 else None
        axes.plot(x, smooth, color=color, linewidth=1.5, marker=marker, markersize=3, solid_capstyle="round")
        ends.append((label, float(smooth[-1]), color))
    if log:
        _scale_logarithmically(axes)
    low, high = bounds
    axes.set_ylim(bottom=None if low is None else min(low, axes.get_ylim()[0]))
    axes.set_ylim(top=None if high is None else max(high, axes.get_ylim()[1]))
    axes.margins(x=0.01)
    axes.set_xlim(left=0)
    if mark is not None and 0 < mark[0] < axes.get_xlim()[1]:
        _mark_step(axes, *mark)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value >= 1000 else f"{value:g}")
    _name_ends(axes, ends)
    return _svg(figure, name, title)


@drawing(_STYLE)
def dice_strip(
    groups: Mapping[str, Mapping[str, Mapping[str, float]]],
    *,
    name: str,
    title: str,
    colors: Mapping[str, str],
) -> str:
    """Dice of every volume, a row per structure: each volume a dot, the mean a bar, the worst volume named.

    Args:
        groups: Dice by the name of the result, then structure, then case. Of two results the first is filled and in
            color, and the second hollow and gray beneath it.
        name: A name for this figure that no other on the page has.
        title: What is drawn, for those who cannot see it.
        colors: The color variable of each structure.
    """
    structures = list(next(iter(groups.values())))
    every = [
        value for result in groups.values() for cases in result.values() for value in cases.values() if _drawable(value)
    ]
    left = _strip_start(every)
    row_height = 0.62 if len(groups) > 1 else 0.5
    names = [_short(structure, 44) for structure in structures]
    left_margin = max([1.2, *(0.2 + 0.068 * len(each) for each in names)])
    figure, axes = _axes(9.6, 0.62 + row_height * len(structures), (left_margin, 0.144, 0.28, 0.12), grid="x")
    lane = 0.2 if len(groups) > 1 else 0.0
    for number, result in enumerate(groups.values()):
        for row, structure in enumerate(structures):
            named = {case: value for case, value in result.get(structure, {}).items() if _drawable(value)}
            if not named:
                continue
            _draw_dots(axes, named, row - lane + 2 * lane * number, lane, left, None if number else colors[structure])
    axes.set_yticks(range(len(structures)), names, color=_STAND_INS["ink"])
    axes.set_ylim(len(structures) - 0.45, -0.62)
    axes.set_xlim(left, 1.0)
    return _svg(figure, name, title)


def _draw_dots(axes: Any, dice: Mapping[str, float], level: float, lane: float, left: float, color: str | None) -> None:
    """A row of the strip: dots, or arrows at the edge for what lies beyond it, and a bar at the mean.

    Args:
        axes: To draw in.
        dice: By case, at least one.
        level: The height of the row.
        lane: By how much two rows of one structure lie beside the middle between them, 0 if there is one only.
        left: Where the axis begins.
        color: The color variable of the structure; None for hollow gray dots, of which the worst is not named.
    """
    values = np.array(list(dice.values()))
    shown, heights = np.maximum(values, left), level + _spread(values)
    line = _STAND_INS[color or "muted"]
    dots = {"color": line, "edgecolor": _STAND_INS["paper"], "linewidth": 0.6}
    if color is None:
        dots = {"color": "none", "edgecolor": line, "linewidth": 1}
    for marker, size, chosen in (("o", 20, values >= left), ("<", 30, values < left)):
        axes.scatter(shown[chosen], heights[chosen], s=size, marker=marker, zorder=3, clip_on=False, **dots)
    mean = max(values.mean(), left)
    axes.plot([mean, mean], [level - 0.3 + lane / 2, level + 0.3 - lane / 2], color=line, linewidth=2.2, zorder=4)
    if color is not None:
        worst = min(dice, key=dice.__getitem__)
        text, place = f"{_short(worst, 44)} {dice[worst]:.2f}", (shown[values.argmin()], level)
        style = {"textcoords": "offset points", "va": "bottom", "fontsize": 7.5, "color": _STAND_INS["muted"]}
        axes.annotate(text, place, xytext=(-3, 9.5), **style)


def _strip_start(values: Sequence[float]) -> float:
    """Where the axis begins: below all values but outliers, which are drawn at its edge."""
    if not len(values):
        return 0.0
    low = float(np.percentile(values, 5)) - 0.05
    lowest = min(value for value in values if value >= low - 0.1)
    return max(0.0, float(np.floor((lowest - 0.005) * 20) / 20))


@drawing(_STYLE)
def bland_altman(  # what a chart shows and how, each as matplotlib takes it
    measured: Sequence[float],
    reference: Sequence[float],
    limits: Agreement,
    *,
    name: str,
    title: str,
    unit: str,
    difference_unit: str = "",
) -> str:
    """Differences over means of paired measurements, with the bias and the 95 % limits of agreement.

    Args:
        measured: What was measured.
        reference: What it should be, in the same order.
        limits: Their agreement.
        name: A name for this figure that no other on the page has.
        title: What is drawn, for those who cannot see it.
        unit: Of the measurements.
        difference_unit: Of their differences, where it is another one.
    """
    pairs = np.array([measured, reference], float)
    ours, theirs = pairs[:, _drawable(pairs).all(0)]
    figure, axes = _axes(4.6, 2.9, (0.53, 0.97, 0.45, 0.27))
    axes.axhline(0, color=_STAND_INS["rule"], linewidth=1)
    axes.scatter(
        (ours + theirs) / 2,
        ours - theirs,
        s=26,
        zorder=3,
        color=_STAND_INS["accent"],
        edgecolor=_STAND_INS["paper"],
        linewidth=0.6,
    )
    ends = []
    for value, text, dashes in (
        (limits.upper, "+1.96 SD", (4, 3)),
        (limits.bias, "bias", (1, 0)),
        (limits.lower, "-1.96 SD", (4, 3)),
    ):
        if np.isfinite(value):
            axes.axhline(value, color=_STAND_INS["muted"], linewidth=1.0, dashes=dashes)
            ends.append((f"{text} {value:+.1f}".replace("-", "\N{MINUS SIGN}"), value, _STAND_INS["muted"]))
    spread = max(abs(bound) for bound in axes.get_ylim()) * 1.15
    axes.set_ylim(-spread, spread)
    axes.set_xlabel(f"mean of both ({unit})")
    axes.set_title(f"segmentation minus reference ({difference_unit or unit})")
    _name_ends(axes, ends)
    return _svg(figure, name, title)


def structure_colors(labels: LabelSet) -> dict[str, str]:
    """The color variable of each structure."""
    return {name: f"s{number}" for number, name in enumerate(labels.names, start=1)}


def _axes(
    width: float, height: float, margins: tuple[float, float, float, float], grid: Literal["x", "y"] = "y"
) -> tuple[Any, Any]:
    """A figure of so many inches with one plot, and the left, right, bottom and top margins around it, in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    left, right, bottom, top = margins
    inner = ((width - left - right) / width, (height - bottom - top) / height)
    axes = figure.add_axes((left / width, bottom / height, *inner))
    axes.spines["bottom"].set_visible(grid == "y")
    axes.grid(axis=grid)
    return figure, axes


def _scale_logarithmically(axes: Any) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=7))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _mark_step(axes: Any, step: float, text: str) -> None:
    """A vertical line with a text above it, on that side of it where there is room."""
    color, side = _STAND_INS["muted"], "left" if step < 0.6 * axes.get_xlim()[1] else "right"
    axes.axvline(step, color=color, linewidth=0.8, dashes=(2, 3))
    above = {"transform": axes.get_xaxis_transform(), "va": "bottom", "ha": side}
    axes.text(step, 1.02, f" {text}", fontsize=8, color=color, **above)


def _moving_mean(y: np.ndarray) -> np.ndarray:
    if len(y) < _SMOOTH_FROM:
        return y
    window = max(3, len(y) // 25) | 1
    weights = np.ones(window)
    return np.convolve(y, weights, "same") / np.convolve(np.ones(len(y)), weights, "same")


def _spread(values: np.ndarray) -> np.ndarray:
    """Small vertical offsets, the same at each call, that keep near dots apart."""
    return 0.13 * np.sin(np.argsort(np.argsort(values)) * 2.4)


def _name_ends(axes: Any, ends: list[tuple[str, float, str]]) -> None:
    """Writes the name of each line at the height of its end, moved apart where they would overlap."""
    transform = axes.transData.transform
    height = axes.get_window_extent().height
    bottom = axes.get_window_extent().y0
    at = [(transform((0, value))[1] - bottom) / height for _, value, _ in ends]
    gap = 11 / 72 * axes.figure.dpi / height
    order = sorted(range(len(ends)), key=at.__getitem__)
    for lower, upper in pairwise(order):
        at[upper] = max(at[upper], at[lower] + gap)
    ceiling = 1.0
    for index in reversed(order):
        at[index] = min(at[index], ceiling)
        ceiling = at[index] - gap
    for place, (label, _, color) in zip(at, ends, strict=True):
        axes.text(1.02, place, _short(label, 22), transform=axes.transAxes, va="center", fontsize=8.5, color=color)


def _short(name: str, most: int) -> str:
    name = spelled(name)
    return name if len(name) <= most else f"{name[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def _drawable(values: Any) -> Any:
    return np.isfinite(values) & (np.abs(values) < _LARGEST)


def _svg(figure: Any, name: str, title: str) -> str:
    """A figure as an element of the page, with the page's colors; `name` makes what it refers to its own."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        element.tag = _without_namespace(element.tag)
        # No setting keeps matplotlib from naming its groups figure_1, axes_1, ... in every figure, nor draws with
        # variables.
        element.attrib = {
            _without_namespace(key): _COLOR.sub(lambda match: _VARIABLE_OF.get(match[0], match[0]), value)
            for key, value in element.attrib.items()
            if (element.tag, key) != ("g", "id")
        }
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": spelled(title)}
    return ElementTree.tostring(root, encoding="unicode")


def _without_namespace(name: str) -> str:
    """A name as HTML has it, which knows SVG: `path` of `{http://www.w3.org/2000/svg}path`."""
    return name.rpartition("}")[2]
