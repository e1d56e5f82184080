"""Real jobs of the engine: stopped, gone on with, outliving nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from SemiCardiacSegLib.engine import job
from SemiCardiacSegLib.engine.job import Job

from Testing.slicer.engine.support import posix
from Testing.slicer.engine_jobs import ROOT, evaluationJob, exists, trainingJob, until


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
            "import os, sys, time; from SemiCardiacSegLib.engine.job import Job\n"
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
