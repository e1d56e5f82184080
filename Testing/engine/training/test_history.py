"""history.csv, whatever a kill has left of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from semicardiac.training.history import History


@pytest.mark.parametrize("left", ["", "st", "step,loss\n", "step,loss\n2", "step,loss\n20,0.5\n40,0."])
def test_what_a_kill_left_is_cut_and_written_on(tmp_path: Path, left: str):
    path = tmp_path / "history.csv"
    path.write_text(left)
    history = History(path)
    history.cut(20)
    history.add({"step": 40, "loss": 0.25})
    lines = path.read_text().split()
    assert lines[0] == "step,loss"
    assert lines[1:] == (["20,0.5", "40,0.25"] if "20," in left else ["40,0.25"])


@pytest.mark.parametrize(
    "spoilt", ["40,\0", "²,0.5", "\udc80,0.5", "9" * 5000 + ",0.5", "30," + "5" * 200_000, "30,0.5,7", ""]
)
def test_a_spoilt_row_is_left_out_and_the_others_stay(tmp_path: Path, spoilt: str):
    path = tmp_path / "history.csv"
    path.write_bytes(f"step,loss\n20,0.5\n{spoilt}\n40,0.25\n60,0.1\n".encode(errors="surrogateescape"))
    History(path).cut(40)
    assert path.read_text().split() == ["step,loss", "20,0.5", "40,0.25"]


@pytest.mark.parametrize("header", [b"", b"\0\0\0\0", b"\xff\xfe", b"loss,step", b"sudo,loss"])
def test_a_table_without_its_header_is_moved_aside(tmp_path: Path, header: bytes):
    path = tmp_path / "history.csv"
    path.write_bytes(header + b"\n20,0.5\n40,0.25\n")
    history = History(path)
    history.cut(40)
    history.add({"step": 60, "loss": 0.1})
    assert path.read_text().split() == ["step,loss", "60,0.1"]
    assert (tmp_path / "history-damaged.csv").read_bytes().endswith(b"20,0.5\n40,0.25\n")
