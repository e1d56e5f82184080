"""The stream of events: its vocabulary, its lines, and what an interruption leaves of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from semicardiac.base import events
from semicardiac.base.events import Done, EventLog, Failed, Progress, Started, Validation, Warned

ONE_OF_EACH = [
    Started(kind="train", version="1.0", pid=4),
    events.Device(device="cpu", name="x", dtype="float32", channels_last=False, threads=2, images_per_s={"a": 1.5}),
    Progress(stage="supervised", step=1, total=10, eta_s=3.5, loss=0.25, pass_rate={"LV cavity": 0.5}, case="Müller"),
    Validation(step=3, dice={"LV cavity": None, "RV cavity": 0.5}, mean_dice=0.5),
    events.Preview(step=3, path="previews/a.png"),
    events.Writing(planned="a.nii.gz", path="../a-2.nii.gz", sha256="00"),
    events.Result(kind="model", path="model"),
    events.Result(kind="segmentation", path="../M\udcfcller.nii.gz", case="M\udcfcller"),  # no UTF-8
    Warned(warning="this", where="there", hint="that"),
    Failed(what="this", fault="engine"),
    events.StoppedEvent(),
    Done(seconds=1.0, cpu_seconds=2.0, summary={"steps": 3}),
]


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: event.event)
def test_an_event_survives_its_line(event):
    line = events.to_line(event)
    assert line.isascii()
    assert "\n" not in line
    assert events.parse_line(line) == event


def test_every_kind_of_event_is_in_the_schema_with_event_and_time():
    schema = events.json_schema()
    kinds = {definition["properties"]["event"]["const"] for definition in schema["$defs"].values()}
    assert kinds == {event.event for event in ONE_OF_EACH}
    assert all("time" in definition["properties"] for definition in schema["$defs"].values())


def test_nan_becomes_null_in_a_line():
    line = events.to_line(Progress(stage="supervised", step=1, total=2, loss=float("nan")))
    assert "NaN" not in line
    assert events.parse_line(line).loss is None


@pytest.mark.parametrize(
    "line", ["", "{", "{}", '{"event": "done"}', '{"event": "nothing", "time": 1}', "[]", "[" * 100_000,
     '{"event": "progress", "time": 1, "stage": "segment", "step": 1, "total": 2}']
)  # fmt: skip
def test_what_is_no_event_is_refused(line: str):
    with pytest.raises(ValueError, match=r"."):
        events.parse_line(line)


class TestEventLog:
    def test_appends_and_tells_listeners_in_order(self, tmp_path: Path):
        heard: list[tuple[str, str]] = []
        log = EventLog(
            tmp_path / "events.jsonl",
            lambda event: heard.append(("first", event.event)),
            lambda event: heard.append(("second", event.event)),
        )
        log.emit(ONE_OF_EACH[0])
        log.warn("careful", where=tmp_path, hint="Look")
        assert heard == [("first", "started"), ("second", "started"), ("first", "warning"), ("second", "warning")]
        again = EventLog(tmp_path / "events.jsonl")
        again.emit(ONE_OF_EACH[-1])
        written = events.read_events(tmp_path / "events.jsonl")
        assert [event.event for event in written] == ["started", "warning", "done"]

    def test_an_event_is_on_disk_as_soon_as_it_is_emitted(self, tmp_path: Path):
        log = EventLog(tmp_path / "events.jsonl")
        log.emit(ONE_OF_EACH[0])
        assert json.loads((tmp_path / "events.jsonl").read_text())["event"] == "started"

    def test_a_line_cut_short_by_a_kill_costs_only_itself(self, tmp_path: Path):
        path = tmp_path / "events.jsonl"
        EventLog(path).emit(ONE_OF_EACH[0])
        whole = events.to_line(ONE_OF_EACH[2])
        for cut in (1, 10, len(whole) - 1):
            with open(path, "a") as file:
                file.write(whole[:cut])
            EventLog(path).emit(ONE_OF_EACH[-1])
        assert [event.event for event in events.read_events(path)] == ["started", "done", "done", "done"]

    def test_an_event_that_the_disk_did_not_take_costs_only_itself(self, tmp_path: Path):
        log = EventLog(tmp_path / "events.jsonl")
        log.emit(ONE_OF_EACH[0])
        whole = events.to_line(ONE_OF_EACH[2])
        with open(tmp_path / "events.jsonl", "a") as file:
            file.write(whole[:10])  # what fits
        log.emit(ONE_OF_EACH[-1])
        assert [event.event for event in events.read_events(tmp_path / "events.jsonl")] == ["started", "done"]

    def test_without_a_file_only_listeners_hear(self, tmp_path: Path):
        heard = []
        EventLog(None, heard.append).emit(ONE_OF_EACH[0])
        assert heard == [ONE_OF_EACH[0]]
        assert not list(tmp_path.iterdir())
