"""CSV tables with names of others: what a spreadsheet makes of them, and what is read back."""

from __future__ import annotations

import csv
import math

import pytest
from semicardiac.base.errors import UserError
from semicardiac.base.tables import format_csv, read_csv, to_cell, to_text, write_csv
from semicardiac.training.history import History

NAMES = [
    "=1+1", "+49", "-5", "@SUM(A1)", "\t=1", "\r=1", " =1", "'=1", "''", "'", "a=1", "\N{FULLWIDTH EQUALS SIGN}1",
    "\x1b[2J", r"\x1b[2J", 'a "quoted", name', "two\nlines", "001", "nan", "1e3", "\udce9", "\u202etxt", "",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_no_formula_and_comes_back_as_it_was(tmp_path, name):
    assert to_text(to_cell(name)) == name
    write_csv(tmp_path / "a.csv", ["case", "dice"], [{"case": name, "dice": -0.5}])
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
        cell, number = list(csv.reader(file))[1]
    assert not cell.startswith(tuple("=+-@\t\r \N{FULLWIDTH EQUALS SIGN}"))
    assert cell.isprintable()
    assert number == "-0.5"
    assert read_csv(tmp_path / "a.csv", {"case"}, ("case",)) == [{"case": name, "dice": -0.5}]


def test_columns_are_no_formulas_either_and_numbers_are_in_full():
    text = format_csv(["=cmd (ml)", "frame"], [[1 / 3, 1], [math.nan, 2]])
    assert text == f"'=cmd (ml),frame\n{1 / 3!r},1\n,2\n"


def test_a_table_that_grows_is_read_the_same(tmp_path):
    history = History(tmp_path / "validation.csv")
    history.add({"step": 20, "structure": "=LV", "pass_rate/\x1b": -0.5, "none": None})
    assert "\x1b" not in (tmp_path / "validation.csv").read_text(encoding="utf-8")
    (row,) = read_csv(tmp_path / "validation.csv", {"structure"}, ("step",))
    assert (row["step"], row["structure"], row["pass_rate/\x1b"]) == (20.0, "=LV", -0.5)
    assert math.isnan(row["none"])


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\xff\xfe\x00", "cannot be read"),
        (b"case,dice\n" + b"a" * 200_000 + b",1\n", "cannot be read"),
        (b"name,dice\na,1\n", "has no column 'case'"),
    ],
)
def test_what_is_no_such_table_is_an_error_that_names_the_file(tmp_path, content, what):
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=what) as caught:
        read_csv(path, {"case"}, ("case", "dice"))
    assert caught.value.where == str(path)


def test_an_empty_file_and_rows_cut_short_are_no_rows(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("", encoding="utf-8")
    assert read_csv(path, {"case"}, ("case",)) == []
    path.write_text("case,dice\na,1\nb", encoding="utf-8")
    assert read_csv(path, {"case"}, ("case",)) == [{"case": "a", "dice": 1.0}]
