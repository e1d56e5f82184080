"""A crash report tells a developer what happened, and nothing that was read from a file."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from semicardiac.base import files
from semicardiac.base.errors import UserError
from semicardiac.base.settings import parse_assignments
from semicardiac.config import make_config
from semicardiac.data.cases import Case
from semicardiac.jobs.crash import crash_report
from semicardiac.jobs.job import TrainJob

from Testing.engine.support import ACDC


def report_of(error: Exception, job=None) -> str:
    try:
        raise error
    except type(error) as caught:
        return crash_report(caught, job)


class TestCrashReport:
    NAME = 'J\u00fcrgen\tO\'Neil\\"Mar\u00eda"'
    """With what `repr` escapes, and letters that have another Unicode form."""

    @pytest.mark.parametrize(
        "error",
        [
            ValueError(f"invalid literal for int() with base 10: {NAME!r}"),
            ValueError(unicodedata.normalize("NFD", NAME)),
            KeyError(NAME),
            KeyError(NAME.encode()),
            SyntaxError("invalid syntax", (f"/home/{NAME}.py", 1, 2, f"{NAME} = 1")),
            OSError(5, "Input/output error", f"/home/{NAME}/scan.nii.gz"),
            type("Group", (Exception,), {"exceptions": property(lambda self: (ValueError(self.args[0]),))})(NAME),
            type("Rude", (Exception,), {"__str__": lambda self: self.args[1]})(NAME),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_holds_nothing_of_the_text_of_an_exception_that_may_come_from_a_file(self, error: Exception):
        error.__cause__ = RuntimeError(f"cannot use {self.NAME}")
        error.__notes__ = [f"while reading {self.NAME}"]
        report = report_of(error)
        assert type(error).__name__ in report
        assert not re.search(r"rgen|O.?Neil|Mar[^k]?.?a\b|home|scan", report), report

    def test_holds_what_stands_in_the_source(self):
        try:
            try:
                parse_assignments(["Jane Doe"])
            except UserError as error:
                raise IndexError("list index out of range") from error
        except IndexError as error:
            report = crash_report(error)
        assert "Jane" not in report
        assert "is not of the form section.key=value" in report
        assert "IndexError: <...>index out of range" in report
        assert "in parse_assignments" in report

    def test_a_division_by_zero_says_so(self):
        assert "ZeroDivisionError: division by zero" in report_of(ZeroDivisionError("division by zero"))

    def test_tells_versions_settings_and_the_place_of_the_error(self):
        case = Case(name="jane", patient="jane", image=Path("jane.nrrd"))
        job = TrainJob(cases=(case,), labels=ACDC, config=make_config("paper"))
        try:
            files.read_json(None)
        except TypeError as error:
            report = crash_report(error, job)
        assert "torch " in report
        assert '"preset": "paper"' in report
        assert "File semicardiac/base/files.py, line" in report
        assert "in read_json" in report
        assert "read_text(" in report
        assert "jane" not in report

    def test_names_no_file_of_code_that_is_not_ours(self, tmp_path: Path):
        path = tmp_path / "jane_doe.py"
        path.write_text("def jane():\n    doe = 1 / 0\n")
        space: dict = {}
        exec(compile(path.read_text(), str(path), "exec"), space)
        try:
            space["jane"]()
        except ZeroDivisionError as error:
            report = crash_report(error)
        assert "division by zero" in report
        assert "jane" not in report
        assert "doe" not in report
