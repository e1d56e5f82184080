"""CSV tables with names of others: what a spreadsheet makes of them, and what is read back."""

from __future__ import annotations

import ast
import csv
import math
from pathlib import Path

import pytest
from semicardiac.base.errors import UserError
from semicardiac.base.tables import GrowingTable, format_csv, read_csv, to_cell, to_text, write_csv

from Testing.engine.support import REPOSITORY

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
    history = GrowingTable(tmp_path / "validation.csv")
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


def test_csv_is_read_and_written_in_this_module_alone():
    """Everywhere else a name of others would get into a table, or out of one, in another way."""
    importing = set()
    for folder in ("training", "SemiCardiacSeg"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if (isinstance(node, ast.Import) and "csv" in {alias.name for alias in node.names}) or (
                    isinstance(node, ast.ImportFrom) and node.module == "csv"
                ):
                    importing.add(path.relative_to(REPOSITORY).as_posix())
    assert importing == {"training/semicardiac/base/tables.py"}


class TestGrowingTable:
    """history.csv, whatever a kill has left of it."""

    @pytest.mark.parametrize("left", ["", "st", "step,loss\n", "step,loss\n2", "step,loss\n20,0.5\n40,0."])
    def test_what_a_kill_left_is_cut_and_written_on(self, tmp_path: Path, left: str):
        path = tmp_path / "history.csv"
        path.write_text(left)
        history = GrowingTable(path)
        history.cut(20)
        history.add({"step": 40, "loss": 0.25})
        lines = path.read_text().split()
        assert lines[0] == "step,loss"
        assert lines[1:] == (["20,0.5", "40,0.25"] if "20," in left else ["40,0.25"])

    @pytest.mark.parametrize(
        "spoilt", ["40,\0", "²,0.5", "\udc80,0.5", "9" * 5000 + ",0.5", "30," + "5" * 200_000, "30,0.5,7", ""]
    )
    def test_a_spoilt_row_is_left_out_and_the_others_stay(self, tmp_path: Path, spoilt: str):
        path = tmp_path / "history.csv"
        path.write_bytes(f"step,loss\n20,0.5\n{spoilt}\n40,0.25\n60,0.1\n".encode(errors="surrogateescape"))
        GrowingTable(path).cut(40)
        assert path.read_text().split() == ["step,loss", "20,0.5", "40,0.25"]

    @pytest.mark.parametrize("header", [b"", b"\0\0\0\0", b"\xff\xfe", b"loss,step", b"sudo,loss"])
    def test_a_table_without_its_header_is_moved_aside(self, tmp_path: Path, header: bytes):
        path = tmp_path / "history.csv"
        path.write_bytes(header + b"\n20,0.5\n40,0.25\n")
        history = GrowingTable(path)
        history.cut(40)
        history.add({"step": 60, "loss": 0.1})
        assert path.read_text().split() == ["step,loss", "60,0.1"]
        assert (tmp_path / "history-damaged.csv").read_bytes().endswith(b"20,0.5\n40,0.25\n")
