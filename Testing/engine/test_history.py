"""history.csv, whatever a kill has left of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from semicardiac.history import History


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
