"""Figures of the report: curves, strips, agreement, and colors that can be seen."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from html import escape
from pathlib import Path

import pytest

from Testing.engine.support import engine_environment

pytest.importorskip("matplotlib")

from semicardiac.base.text import spelled
from semicardiac.evaluation.clinical import agreement
from semicardiac.images.labels import get_label_set
from semicardiac.report import charts, html


def curves(lines: dict, **options) -> str:
    return charts.curves(lines, name="x", title="x", colors={}, **options)


def strip(dice: dict[str, float]) -> str:
    """Dice of one structure by case."""
    return charts.dice_strip({"this": {"RV": dice}}, name="x", title="x", colors={"RV": "s1"})


class TestFigures:
    def test_names_at_the_line_ends_do_not_overlap(self):
        lines = {f"line {number}": ([0, 1, 2], [0, 1, 1 + number / 1000]) for number in range(5)}
        svg = charts.curves(lines, name="x", title="x", colors={})
        heights = [
            float(y) for y in re.findall(r'transform="translate\([\d.]+ ([\d.]+)\)">line', svg.replace("\n", ""))
        ]
        if not heights:  # how matplotlib places a text is its own affair
            heights = [float(y) for y in re.findall(r'<text[^>]*\by="([\d.]+)"[^>]*>line', svg)]
        assert len(heights) == 5
        assert min(abs(a - b) for a, b in zip(sorted(heights), sorted(heights)[1:], strict=False)) > 8

    def test_nan_and_nothing_are_drawn_as_nothing(self):
        assert curves({"a": ([1, 2], [math.nan, math.nan])}) == curves({}) != curves({"a": ([1, 2], [1, 2])})
        assert strip({"a": math.nan, "b": 0.5}) == strip({"b": 0.5}) != strip({"a": math.nan}) == strip({})

    def test_one_patient_has_no_limits(self):
        svg = charts.bland_altman([50.0], [48.0], agreement([50.0], [48.0]), name="x", title="x", unit="%")
        assert "bias" in svg
        assert "1.96" not in svg

    def test_titles_are_escaped(self):
        assert 'aria-label="a &lt;b&gt; &quot;c&quot;"' in charts.curves({}, name="x", title='a <b> "c"', colors={})


def test_structure_colors_can_be_seen_on_either_page():
    def contrast(color: str, paper: str) -> float:
        bright, dim = sorted(
            (html._luminance([int(text[at : at + 2], 16) for at in (1, 3, 5)]) for text in (color, paper)), reverse=True
        )
        return (bright + 0.05) / (dim + 0.05)

    for structure in get_label_set("mmwhs").structures:
        for theme in (html.LIGHT, html.DARK):
            assert contrast(html._legible(structure.color, theme["paper"]), theme["paper"]) >= 4.5


class TestTexts:
    NAMES = (
        "$x_1$ and $y$",
        "\\\\alpha $\\frac$",
        "a $ b",
        "\x1b[2J",
        "\N{CJK UNIFIED IDEOGRAPH-5FC3}",
        "<b>&amp;",
        "url(#a) #0000fe",
    )

    def test_names_are_drawn_as_they_are_and_matplotlib_says_nothing(self, recwarn, capfd):
        lines = {name: ([0, 1], [0, number]) for number, name in enumerate(self.NAMES)}
        svg = charts.curves(lines, name="x", title=self.NAMES[0], colors={})
        dice = {"this": {name: {self.NAMES[0]: 0.5} for name in self.NAMES}}
        svg += charts.dice_strip(dice, name="x", title="x", colors=dict.fromkeys(self.NAMES, "s1"))
        for name in self.NAMES:
            assert svg.count(f">{escape(spelled(name))}<") == 2
        assert not recwarn.list
        assert capfd.readouterr() == ("", "")

    def test_the_style_of_the_user_is_neither_taken_nor_changed(self):
        import matplotlib

        with matplotlib.rc_context({"text.usetex": True, "svg.fonttype": "path", "axes.grid": True}):
            charts.curves({"a": ([0, 1], [0, 1])}, name="x", title="x", colors={})
            assert matplotlib.rcParams["text.usetex"] is True
            assert matplotlib.rcParams["text.parse_math"] is True

    def test_values_beyond_any_measure_are_not_drawn(self):
        assert curves({"a": ([1e308, 1, 2], [1, 1e300, 3])}, log=True) == curves({"a": ([2], [3])}, log=True)
        assert strip({"a": -1e308, "b": 0.5}) == strip({"b": 0.5})
        drawn = [
            charts.bland_altman(*pair, agreement(*pair), name="x", title="x", unit="%")
            for pair in (([1e308, 5.0], [-1e308, 4.0]), ([5.0], [4.0]))
        ]
        assert drawn[0] == drawn[1]


class TestFontList:
    """Where matplotlib keeps its list of fonts, which it writes when it is imported."""

    CODE = "from semicardiac.report.plotting import require_matplotlib; require_matplotlib(); import os, matplotlib; "
    CODE += "print(matplotlib.get_cachedir(), os.environ.get('MPLCONFIGDIR'), sep='|')"

    def places(self, tmp_path, **environment) -> list[str]:
        homes = dict.fromkeys(("HOME", "USERPROFILE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), str(tmp_path / "home"))
        temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(tmp_path / "tmp"))
        for name in ("home", "tmp"):
            (tmp_path / name).mkdir(exist_ok=True)
        variables = engine_environment(**homes, **temporary, **environment)
        if "MPLCONFIGDIR" not in environment:
            variables.pop("MPLCONFIGDIR", None)
        command = [sys.executable, "-c", self.CODE]
        done = subprocess.run(command, env=variables, capture_output=True, encoding="utf-8", timeout=120, check=True)
        assert done.stderr == ""
        assert not list((tmp_path / "home").iterdir())
        return done.stdout.strip().split("|")

    def test_is_a_temporary_folder_that_the_next_report_finds_again(self, tmp_path):
        cache, variable = self.places(tmp_path)
        assert Path(cache).parent == tmp_path / "tmp"
        assert variable == "None"
        assert self.places(tmp_path) == [cache, variable]

    def test_is_where_the_user_says(self, tmp_path):
        assert self.places(tmp_path, MPLCONFIGDIR=str(tmp_path / "own")) == [str(tmp_path / "own")] * 2
        assert not list((tmp_path / "tmp").iterdir())

    @pytest.mark.skipif(os.name == "nt", reason="the temporary folder is the user's own")
    def test_is_never_one_that_others_may_write_to(self, tmp_path):
        cache, _ = self.places(tmp_path)
        Path(cache).chmod(0o777)
        assert self.places(tmp_path)[0] != cache
        assert [str(path) for path in (tmp_path / "tmp").iterdir()] == [cache]  # the other one is gone
