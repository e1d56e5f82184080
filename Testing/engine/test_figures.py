"""Figures of the report: curves, strips, agreement, and colors that can be seen."""

from __future__ import annotations

import math
import re

import pytest

pytest.importorskip("matplotlib")

from semicardiac import figures, page
from semicardiac.clinical import agreement
from semicardiac.labels import get_label_set


class TestFigures:
    def test_names_at_the_line_ends_do_not_overlap(self):
        lines = {f"line {number}": ([0, 1, 2], [0, 1, 1 + number / 1000]) for number in range(5)}
        svg = figures.curves(lines, name="x", title="x", colors={})
        heights = [
            float(y) for y in re.findall(r'transform="translate\([\d.]+ ([\d.]+)\)">line', svg.replace("\n", ""))
        ]
        if not heights:  # how matplotlib places a text is its own affair
            heights = [float(y) for y in re.findall(r'<text[^>]*\by="([\d.]+)"[^>]*>line', svg)]
        assert len(heights) == 5
        assert min(abs(a - b) for a, b in zip(sorted(heights), sorted(heights)[1:], strict=False)) > 8

    def test_nan_and_nothing_are_drawn_as_nothing(self):
        figures.curves({"a": ([1, 2], [math.nan, math.nan])}, name="x", title="x", colors={})
        figures.dice_strip({"this": {"RV": {"a": math.nan}}}, name="x", title="x", colors={"RV": "s1"})

    def test_one_patient_has_no_limits(self):
        svg = figures.bland_altman([50.0], [48.0], agreement([50.0], [48.0]), name="x", title="x", unit="%")
        assert "bias" in svg
        assert "1.96" not in svg

    def test_titles_are_escaped(self):
        assert 'aria-label="a &lt;b&gt; &quot;c&quot;"' in figures.curves({}, name="x", title='a <b> "c"', colors={})


def test_structure_colors_can_be_seen_on_either_page():
    def contrast(color: str, paper: str) -> float:
        bright, dim = sorted(
            (page._luminance([int(text[at : at + 2], 16) for at in (1, 3, 5)]) for text in (color, paper)), reverse=True
        )
        return (bright + 0.05) / (dim + 0.05)

    for structure in get_label_set("mmwhs").structures:
        for theme in (page.LIGHT, page.DARK):
            assert contrast(page._legible(structure.color, theme["paper"]), theme["paper"]) >= 4.5
