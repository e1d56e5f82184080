"""Charts of the report as SVG text that takes the page's fonts and colors, light or dark.

Colors in the figures are CSS variables of the page (see page.py): `ink`, `muted`, `rule`, `paper`, `accent`, and
`s1`, `s2`, ... for the structures, `s0` for the background. Matplotlib draws with a stand-in color for each,
which is then replaced.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal
from xml.sax.saxutils import escape

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
_SMOOTH_FROM = 40
"""Points from which on a line is smoothed."""
_LARGEST = 1e12
"""No value of ours lies beyond it; what does comes from a damaged file and would break the axes."""


@drawing()
def curves(
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
    from matplotlib.ticker import LogLocator, NullLocator

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
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=7))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    low, high = bounds
    axes.set_ylim(bottom=None if low is None else min(low, axes.get_ylim()[0]))
    axes.set_ylim(top=None if high is None else max(high, axes.get_ylim()[1]))
    axes.margins(x=0.01)
    axes.set_xlim(left=0)
    if mark is not None and 0 < mark[0] < axes.get_xlim()[1]:
        axes.axvline(mark[0], color=_STAND_INS["muted"], linewidth=0.8, dashes=(2, 3))
        axes.text(
            mark[0],
            1.02,
            f" {mark[1]}",
            transform=axes.get_xaxis_transform(),
            va="bottom",
            ha="left" if mark[0] < 0.6 * axes.get_xlim()[1] else "right",
            fontsize=8,
            color=_STAND_INS["muted"],
        )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value >= 1000 else f"{value:g}")
    _name_ends(axes, ends)
    return _svg(figure, name, title)


@drawing()
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
            color = _STAND_INS["muted" if number else colors[structure]]
            values = np.array(list(named.values()))
            level = row - lane + 2 * lane * number
            shown, heights = np.maximum(values, left), level + _spread(values)
            for marker, chosen in (("o", values >= left), ("<", values < left)):
                axes.scatter(
                    shown[chosen],
                    heights[chosen],
                    s=20 if marker == "o" else 30,
                    marker=marker,
                    zorder=3,
                    clip_on=False,
                    linewidth=1 if number else 0.6,
                    color="none" if number else color,
                    edgecolor=color if number else _STAND_INS["paper"],
                )
            axes.plot(
                [max(values.mean(), left)] * 2,
                [level - 0.3 + lane / 2, level + 0.3 - lane / 2],
                color=color,
                linewidth=2.2,
                zorder=4,
            )
            if not number:
                worst = min(named, key=named.__getitem__)
                at, text = int(values.argmin()), f"{_short(worst, 44)} {named[worst]:.2f}"
                axes.annotate(
                    text,
                    (shown[at], level),
                    xytext=(-3, 9.5),
                    textcoords="offset points",
                    va="bottom",
                    fontsize=7.5,
                    color=_STAND_INS["muted"],
                )
    axes.set_yticks(range(len(structures)), names, color=_STAND_INS["ink"])
    axes.set_ylim(len(structures) - 0.45, -0.62)
    axes.set_xlim(left, 1.0)
    return _svg(figure, name, title)


def _strip_start(values: Sequence[float]) -> float:
    """Where the axis begins: below all values but outliers, which are drawn at its edge."""
    if not len(values):
        return 0.0
    low = float(np.percentile(values, 5)) - 0.05
    lowest = min(value for value in values if value >= low - 0.1)
    return max(0.0, float(np.floor((lowest - 0.005) * 20) / 20))


@drawing()
def bland_altman(
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
    axes.set_xlabel(f"mean of both ({unit})", fontsize=8.5, color=_STAND_INS["muted"])
    difference = f"segmentation minus reference ({difference_unit or unit})"
    axes.set_title(difference, fontsize=8.5, color=_STAND_INS["muted"], loc="left", pad=6)
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
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(side == "bottom" and grid == "y")
        axes.spines[side].set_color(_STAND_INS["rule"])
    axes.grid(axis=grid, color=_STAND_INS["rule"], linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8.5, labelcolor=_STAND_INS["muted"], pad=4)
    return figure, axes


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
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)[\")]", text))

    def in_page(tag: re.Match[str]) -> str:
        """A tag with the page's colors, and names of its own for what it refers to; what is written stays as it is."""
        found = re.sub(r' id="([^"]+)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", tag[0])
        found = re.sub(r'(url\(|href=")#([\w-]+)', rf"\1#{name}-\2", found)
        return re.sub("#[0-9a-f]{6}", lambda match: _VARIABLE_OF.get(match[0], match[0]), found)

    text = re.sub(r"<[^>]*>", in_page, text)
    viewbox = re.search(r'viewBox="([^"]+)"', text)
    assert viewbox is not None
    return (
        f'<svg viewBox="{viewbox[1]}" role="img" aria-label="{escape(spelled(title), {chr(34): "&quot;"})}">'
        + text[text.index(">") + 1 :]
    )
