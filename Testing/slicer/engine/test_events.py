"""Events are read as they come, whatever a kill or an earlier run left."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from semicardiac.jobs import job as jobs
from SemiCardiacSegLib.engine import job
from SemiCardiacSegLib.engine.job import Job

from Testing.slicer.engine.support import event, write


def test_files_are_named_as_the_engine_names_them():
    assert (job.JOB, job.EVENTS, job.LOCK, job.STOP) == (jobs.JOB, jobs.EVENTS, jobs.LOCK, jobs.STOP)


class TestEvents:
    """What is read from events.jsonl, and the state that follows from it when no process works on the job."""

    def test_none_yet(self, folder: Path):
        found = Job(folder)
        assert found.poll() == []
        assert found.state == "waiting"
        assert found.failure is None

    def test_a_line_counts_when_it_is_whole(self, folder: Path):
        found = Job(folder)
        write(folder, event("started"), '{"event": "prog')
        assert [each["event"] for each in found.poll()] == ["started"]
        write(folder, 'ress", "step": 3}')
        assert found.poll() == []
        write(folder, "\n")
        assert found.poll() == [{"event": "progress", "step": 3}]
        assert found.progress == {"event": "progress", "step": 3}

    def test_what_is_no_event_is_left_out(self, folder: Path):
        write(folder, event("started"), "\x00\x01\n", "[1]\n", '{"step": 1}\n', '{"event": 5}\n', "{\n", event("done"))
        found = Job(folder)
        assert [each["event"] for each in found.poll()] == ["started", "done"]
        assert found.state == "done"

    @given(st.data())
    def test_however_it_is_cut_the_same_is_read(self, data):
        texts = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=8)
        lines = data.draw(st.lists(st.one_of(texts, st.integers(0, 9).map(lambda n: json.dumps(event("x", n=n))))))
        content = "".join(line + "\n" for line in lines).encode()
        cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=6)))
        with tempfile.TemporaryDirectory() as place:
            found, read = Job(place), []
            for begin, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
                with open(Path(place) / job.EVENTS, "ab") as file:
                    file.write(content[begin:end])
                read += found.poll()
        assert read == [json.loads(line) for line in lines if line.startswith('{"event"')]

    @pytest.mark.parametrize(
        ("end", "state"),
        [(event("done", summary={}), "done"), (event("stopped"), "stopped"), (event("error", what="x"), "failed")],
    )
    def test_the_last_word_tells_the_state(self, folder: Path, end: dict, state: str):
        write(folder, event("started"), end)
        found = Job(folder)
        found.poll()
        assert found.state == state
        assert found.end == end

    def test_a_failure_says_what_where_and_how_to_mend_it(self, folder: Path):
        write(folder, event("started"), event("error", what="the disk is full", where="/there", hint="Free some space"))
        found = Job(folder)
        found.poll()
        assert found.failure == {"what": "the disk is full", "where": "/there", "hint": "Free some space"}

    def test_no_process_and_no_last_word_is_an_interruption(self, folder: Path):
        write(folder, event("started"), event("progress", stage="supervised", step=3, total=9))
        found = Job(folder)
        found.poll()
        assert found.state == "interrupted"
        assert "Resume" in found.failure["hint"]
        assert found.progress["step"] == 3

    def test_events_of_earlier_runs_are_marked_and_tell_no_state(self, folder: Path):
        first = [event("started"), event("progress", step=1), event("error", what="wrong")]
        write(folder, *first, event("started", resumed=True), event("stopped"))
        found = Job(folder)
        events = found.poll()
        assert events[:3] == [{**each, "earlier": True} for each in first]
        assert not any("earlier" in each for each in events[3:])
        assert found.state == "stopped"
        assert found.progress is None
        assert found.failure is None

    def test_a_job_made_anew_in_the_same_folder(self, folder: Path):
        write(folder, event("started"), event("progress", step=1), event("error", what="the labels are wrong"))
        found = Job(folder)
        found.poll()
        write(folder, event("started"), mode="w")
        assert found.poll() == [event("started")]
        assert found.state == "interrupted"
        assert found.end is None
        assert found.progress is None
