"""Jobs that the engine works on in a process of its own: followed, stopped, killed, gone on with, found again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from helpers_engine_jobs import ROOT, evaluationJob, exists, launcher, trainingJob, unprivileged, until
from hypothesis import given
from hypothesis import strategies as st
from semicardiac import jobs
from semicardiac.errors import UserError
from semicardiac.processes import _lock, exclusive
from SemiCardiacSegLib import engine, job
from SemiCardiacSegLib.job import Job

posix = pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for Slicer's launcher")


def write(folder: Path, *events: dict | str, mode: str = "a") -> None:
    """Appends events, or any text, to a job's events."""
    text = "".join(event if isinstance(event, str) else json.dumps(event) + "\n" for event in events)
    with open(folder / job.EVENTS, mode, encoding="utf-8", newline="\n") as file:
        file.write(text)


def event(kind: str, **fields) -> dict:
    return {"event": kind, "time": 1.0, **fields}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job folder in a place whose name is none for the careless."""
    path = tmp_path / "Hérz & früh 心" / "my job"
    path.mkdir(parents=True)
    (path / job.JOB).write_text("{}", encoding="utf-8")
    return path


@pytest.fixture
def asLauncher(tmp_path: Path, monkeypatch):
    """Runs the engine by way of a launcher: PythonSlicer does what a shell script says."""

    def put(script: str) -> None:
        program = launcher(tmp_path / "bin", script)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return put


@pytest.fixture
def holder(folder: Path):
    """Another process that works on the job; a function that kills it."""
    code = (
        "import sys, time; from pathlib import Path; from semicardiac.processes import exclusive\n"
        "with exclusive(Path(sys.argv[1])):\n"
        "    print('holds', flush=True); time.sleep(300)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder / job.LOCK)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "training")},
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline().strip() == b"holds"

    def kill() -> None:
        process.kill()
        process.wait()

    yield kill
    kill()
    process.stdout.close()


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
        write(folder, event("started"), event("progress", stage="training", step=3, total=9))
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


class TestAttach:
    """A job that another process works on."""

    def test_it_runs_as_long_as_that_process_lives(self, folder: Path, holder):
        write(folder, event("started"))
        found = Job(folder)
        found.poll()
        assert found.state == "running"
        holder()
        found.poll()
        assert found.state == "interrupted"

    def test_the_state_is_final_only_when_the_process_has_ended(self, folder: Path, holder):
        write(folder, event("started"), event("done", summary={}))
        found = Job(folder)
        found.poll()
        assert found.state == "running"
        holder()
        found.poll()
        assert found.state == "done"

    def test_looking_neither_breaks_nor_takes_the_lock(self, folder: Path, holder):
        before = (folder / job.LOCK).read_bytes()
        found = Job(folder)
        assert all(found.isAlive() for _ in range(5))
        with pytest.raises(UserError, match="another engine runs this job"), exclusive(folder / job.LOCK):
            pass
        assert (folder / job.LOCK).read_bytes() == before
        holder()
        assert not found.isAlive()
        with exclusive(folder / job.LOCK):
            assert found.isAlive()
        assert not found.isAlive()

    def test_a_lock_found_free_is_left_alone_until_an_engine_writes_into_it(self, folder: Path):
        """An engine that begins must not meet somebody who only looks."""
        with exclusive(folder / job.LOCK):
            pass
        found = Job(folder)
        assert not found.isAlive()
        with open(folder / job.LOCK, "ab") as file:
            _lock(file.fileno())
            assert not found.isAlive()
            file.write(b"process 1\n")
            file.flush()
            assert found.isAlive()

    def test_it_is_asked_to_stop_and_never_killed(self, folder: Path, holder):
        write(folder, event("started"))
        found = Job(folder, graceSeconds=0)
        found.poll()
        found.stop()
        for _ in range(3):
            found.poll()
        assert found.state == "stopping"
        assert (folder / job.STOP).exists()
        with pytest.raises(ValueError, match="Another program"):
            found.kill()
        assert found.isAlive()
        holder()
        found.poll()
        assert found.state == "interrupted"
        assert not (folder / job.STOP).exists()

    def test_it_is_not_started_twice(self, folder: Path, holder):
        with pytest.raises(ValueError, match="runs already"):
            Job.start(folder)
        assert not (folder / job.OUTPUT).exists()

    def test_one_that_ended_is_not_asked_to_stop(self, folder: Path):
        write(folder, event("started"), event("done"))
        found = Job(folder)
        found.poll()
        found.stop()
        assert found.state == "done"
        assert not (folder / job.STOP).exists()


class TestBadStart:
    """Runs that end before they begin."""

    def test_no_job(self, tmp_path: Path):
        with pytest.raises(ValueError, match="is not a job folder"):
            Job.start(tmp_path)
        assert not list(tmp_path.iterdir())

    @pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs the permissions of POSIX")
    def test_a_read_only_folder(self):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "job"
            folder.mkdir()
            (folder / job.JOB).write_text("{}", encoding="utf-8")
            Path(place).chmod(0o755)
            folder.chmod(0o555)
            with unprivileged(), pytest.raises(ValueError, match="not writable") as error:
                Job.start(folder)
            assert str(folder) in str(error.value)
            assert [path.name for path in folder.iterdir()] == [job.JOB]
            folder.chmod(0o755)

    def test_no_python(self, folder: Path, monkeypatch):
        monkeypatch.setattr(engine, "pythonExecutable", lambda: "/nowhere/PythonSlicer")
        started = Job.start(folder)
        assert started.wait() == "failed"
        assert "/nowhere/PythonSlicer" in started.failure["what"]
        assert started.failure["where"] == str(folder)
        assert job.OUTPUT in started.failure["hint"]
        again = Job(folder)
        again.poll()
        assert again.failure == started.failure

    @posix
    def test_the_requirements_are_missing(self, folder: Path, asLauncher):
        asLauncher('exec "$PYTHON" -I -S "$@"')  # without site-packages
        started = Job.start(folder)
        assert started.wait() == "failed"
        assert "ModuleNotFoundError" in started.failure["what"]
        assert "Set up" in started.failure["hint"]

    @posix
    def test_pytorch_is_missing(self, tmp_path: Path, asLauncher):
        (tmp_path / "hides" / "torch").mkdir(parents=True)
        code = "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')"
        (tmp_path / "hides" / "torch" / "__init__.py").write_text(code, encoding="utf-8")
        asLauncher(f'PYTHONPATH=\'{tmp_path}/hides\' exec "$PYTHON" "$@"')
        started = Job.start(trainingJob(tmp_path / "job", steps=4))
        assert started.wait() == "failed"
        assert "'torch' is not installed" in started.failure["what"]

    @posix
    def test_a_process_that_dies_without_a_word(self, folder: Path, asLauncher):
        asLauncher("exit 7")
        started = Job.start(folder)
        assert started.wait() == "failed"
        assert "exit status 7" in started.failure["what"]

    @posix
    def test_a_failure_that_could_not_be_written_as_an_event(self, folder: Path, asLauncher):
        said = json.dumps(event("error", what="the disk is full", where="x", hint="Free some space"))
        asLauncher(f"echo '{said}'; exit 2")
        started = Job.start(folder)
        assert started.wait() == "failed"
        assert started.failure == {"what": "the disk is full", "where": "x", "hint": "Free some space"}

    @posix
    def test_a_run_that_does_not_begin_is_not_taken_for_the_one_before(self, folder: Path, asLauncher):
        write(folder, event("started"), event("done", summary={}))
        asLauncher("echo 'no such thing' >&2; exit 1")
        started = Job.start(folder)
        assert started.wait() == "failed"
        assert "no such thing" in started.failure["what"]

    @posix
    def test_a_crash_in_the_middle_is_an_interruption_with_its_reason(self, folder: Path, asLauncher):
        asLauncher(f"echo '{json.dumps(event('started'))}' >> \"$3/{job.EVENTS}\"; kill -9 $$")
        started = Job.start(folder)
        assert started.wait() == "interrupted"
        assert "exit status -9" in started.failure["what"]
        assert "Resume" in started.failure["hint"]


@posix
class TestStop:
    """A process that does not stop, and one that was found again."""

    @pytest.fixture
    def deaf(self, asLauncher, tmp_path: Path) -> Path:
        """An engine that does not look at STOP, and a process that it started; where that one's number is written."""
        started = json.dumps(event("started"))
        asLauncher(f"sleep 300 & echo $! > '{tmp_path}/pid'; echo '{started}' >> \"$3/{job.EVENTS}\"; wait")
        return tmp_path / "pid"

    def test_after_the_time_of_grace_the_tree_is_killed(self, folder: Path, deaf: Path):
        started = Job.start(folder, graceSeconds=0.5)
        until(lambda: started.poll() or started.state == "running")
        until(lambda: started.poll() is not None and started.state == "running")
        grandchild = int(deaf.read_text())
        started.stop()
        assert (folder / job.STOP).exists()
        started.poll()
        assert started.state == "stopping"
        assert exists(grandchild)
        assert started.wait() == "interrupted"
        until(lambda: not exists(grandchild), seconds=5)
        assert not (folder / job.STOP).exists()

    def test_a_stop_before_the_engine_looks_is_not_lost(self, folder: Path, deaf: Path):
        """The engine removes the STOP of an earlier run when it begins."""
        started = Job.start(folder)
        started.stop()
        (folder / job.STOP).unlink()
        started.poll()
        assert (folder / job.STOP).exists()
        started.kill()
        assert started.wait() == "interrupted"

    def test_what_an_ended_engine_leaves_behind_is_ended(self, folder: Path, asLauncher, tmp_path: Path):
        events = f"{json.dumps(event('started'))}\n{json.dumps(event('done'))}"
        asLauncher(f"sleep 300 & echo $! > '{tmp_path}/pid'; echo '{events}' >> \"$3/{job.EVENTS}\"; exit 0")
        assert Job.start(folder).wait() == "done"
        until(lambda: not exists(int((tmp_path / "pid").read_text())), seconds=5)

    def test_an_engine_that_does_not_end_after_its_last_word_is_ended(self, folder: Path, asLauncher):
        events = f"{json.dumps(event('started'))}\n{json.dumps(event('done'))}"
        asLauncher(f"echo '{events}' >> \"$3/{job.EVENTS}\"; sleep 300")
        assert Job.start(folder, graceSeconds=0.3).wait() == "done"

    def test_a_job_of_this_process_is_found_again(self, folder: Path, deaf: Path):
        """As after the scene was closed: also while its run has not begun, and another one lies in the folder."""
        write(folder, event("started"), event("stopped"))
        Job.start(folder)
        again = Job(folder, graceSeconds=0)
        again.poll()
        assert again.state in ("waiting", "running")
        until(lambda: again.poll() is not None and again.state == "running")
        again.stop()
        assert again.wait() == "interrupted"
        assert not exists(int(deaf.read_text()))

    def test_a_run_that_ended_unseen_does_not_hide_the_next_one(self, folder: Path, asLauncher):
        asLauncher("exit 0")
        first = Job.start(folder)
        until(lambda: first._process.poll() is not None)
        asLauncher("sleep 300")
        second = Job.start(folder)
        first.poll()
        assert Job(folder).isAlive()
        second.kill()
        assert not Job(folder).isAlive()


class TestRealEngine:
    def test_done_with_its_events_one_by_one(self, tmp_path: Path, monkeypatch):
        monkeypatch.delenv("PYTHONPATH", raising=False)
        folder = evaluationJob(tmp_path / "Évaluation № 1")
        heard, ticks = [], []
        started = Job.start(folder)
        assert started.wait(heard.append, lambda: ticks.append(started.state)) == "done"
        assert [each["event"] for each in (heard[0], heard[-1])] == ["started", "done"]
        assert started.end == heard[-1]
        assert set(ticks) <= {"waiting", "running"}
        assert ticks
        assert (folder / "metrics.csv").exists()

    def test_the_users_mistake_is_told(self, tmp_path: Path):
        folder = evaluationJob(tmp_path / "job")
        (tmp_path / "job data" / "a.nii.gz").write_bytes(b"damaged")
        started = Job.start(folder)
        assert started.wait() == "failed"
        assert "a.nii.gz" in started.failure["where"]
        assert started.failure["what"]

    @posix
    @pytest.mark.slow
    def test_a_training_stops_leaves_no_process_and_goes_on_to_its_end(self, tmp_path: Path, asLauncher):
        asLauncher(f'sleep 300 & echo $! >> \'{tmp_path}/pids\'; "$PYTHON" "$@"')
        folder = trainingJob(tmp_path / "Hérz 心", steps=400, warmup=1.0)
        started = Job.start(folder)
        events = []

        def trains() -> bool:
            events.extend(started.poll())
            return "learning_rate" in (started.progress or {})

        until(trains, seconds=120)
        started.stop()
        assert started.wait(events.append) == "stopped"
        engines = [each["pid"] for each in events if each["event"] == "started"]
        launched = [int(line) for line in (tmp_path / "pids").read_text().split()]
        until(lambda: not any(exists(pid) for pid in engines + launched), seconds=5)
        assert not (folder / "model").exists()
        assert not (folder / job.STOP).exists()

        again, later = Job.start(folder), []
        assert again.wait(later.append) == "done"
        assert [each for each in later if each.get("earlier")] == [{**each, "earlier": True} for each in events]
        assert [each["resumed"] for each in later if each["event"] == "started"] == [False, True]
        assert (folder / "model" / "model.safetensors").exists()
        assert not again.isAlive()

    @posix
    @pytest.mark.slow
    def test_nothing_is_lost_when_the_starter_ends(self, tmp_path: Path):
        """As when Slicer is closed during a training: the next one finds it, and goes on where it was."""
        folder = trainingJob(tmp_path / "job", steps=400, warmup=1.0)
        code = (
            "import os, sys, time; from SemiCardiacSegLib.job import Job\n"
            "job = Job.start(sys.argv[1])\n"
            "while 'learning_rate' not in (job.progress or {}):\n"
            "    job.poll(); assert job.state in ('waiting', 'running'), job.failure; time.sleep(0.05)\n"
            "os._exit(0)"
        )
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "SemiCardiacSeg")}
        subprocess.run([sys.executable, "-c", code, str(folder)], env=environment, check=True, timeout=120)
        found, before = Job(folder), []

        def ended() -> bool:
            before.extend(found.poll())
            return found.state in job.ENDED

        until(ended, seconds=20)
        assert found.state == "stopped"
        pid = next(each["pid"] for each in before if each["event"] == "started")
        until(lambda: not exists(pid), seconds=30)  # Python takes its time to end on a busy machine
        steps = [each["step"] for each in before if "learning_rate" in each]
        assert (folder / "checkpoint.pt").exists()

        later = []
        assert Job.start(folder).wait(later.append) == "done"
        more = [each["step"] for each in later if "learning_rate" in each and not each.get("earlier")]
        assert more[-1] > more[0] >= steps[-1] > 0
        assert (folder / "model" / "model.safetensors").exists()
