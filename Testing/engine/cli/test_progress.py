"""What a person sees of a job, and what a program reads of it."""

from __future__ import annotations

import errno
import io
import os
import shlex
from pathlib import Path

import pytest
from semicardiac.base.events import (
    Device,
    Done,
    Failed,
    Progress,
    Result,
    Stage,
    Started,
    StoppedEvent,
    Validation,
    Warned,
    parse_line,
)
from semicardiac.base.printable import LOOKALIKE
from semicardiac.cli.progress import Console, Lines


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def progress(step: int, stage: Stage = "supervised", total: int = 4, seed: int | None = None) -> Progress:
    return Progress(stage=stage, seed=seed, step=step, total=total, eta_s=75.0, loss=0.25)


class TestConsole:
    def test_a_terminal_shows_a_bar_that_moves(self):
        stream = Terminal()
        with Console(stream) as console:
            console(progress(1))
            console(progress(3))
        assert "25 %" in stream.getvalue()
        assert "75 %, 1:15 left, loss 0.250" in stream.getvalue()

    def test_the_total_of_a_bar_may_change(self):
        stream = Terminal()
        with Console(stream) as console:
            console(progress(4, total=8))
            console(progress(4, total=5))
        assert "50 %" in stream.getvalue()
        assert "80 %" in stream.getvalue()

    def test_of_several_seeds_each_has_its_lines(self):
        stream = io.StringIO()
        with Console(stream) as console:
            for seed in (3, 4):
                console(progress(1, seed=seed))
                console(progress(2, seed=seed))
        lines = [line.partition(",")[0] for line in stream.getvalue().splitlines()]
        assert lines == [
            "seed 3: supervised: 1 of 4",
            "seed 4: supervised: 1 of 4",
        ]

    def test_elsewhere_each_stage_gets_a_line_but_not_each_step(self):
        stream = io.StringIO()
        with Console(stream) as console:
            for stage in ("checking inputs", "supervised"):
                for step in range(1, 5):
                    console(progress(step, stage))
        assert stream.getvalue().splitlines() == [
            "checking inputs: 1 of 4, 1:15 left, loss 0.250",
            "supervised: 1 of 4, 1:15 left, loss 0.250",
        ]

    def test_says_what_matters_in_a_line_each(self):
        stream = io.StringIO()
        console = Console(stream)
        console(Warned(warning="this is odd", where="scan.nrrd", hint="Look at it"))
        console(Validation(step=7, dice={"LV cavity": 0.91234, "RV cavity": None}, mean_dice=0.91234))
        console(Failed(what="this is wrong", where="scan.nrrd"))
        console(Done(seconds=3725, cpu_seconds=1, summary={"table": "a table"}))
        assert stream.getvalue().splitlines() == [
            "warning: scan.nrrd: this is odd. Look at it.",
            "validation at step 7: Dice 0.912 (LV cavity 0.912, RV cavity -)",
            "error: scan.nrrd: this is wrong.",
            "a table",
            "done in 1:02:05",
        ]

    @pytest.mark.parametrize(
        ("device", "name", "threads", "said"),
        [
            ("cpu", "cpu", 1, "computing on cpu (float32, contiguous, 1 thread)"),
            ("cuda:0", "NVIDIA X", 8, "computing on NVIDIA X (cuda:0, float32, contiguous, 8 threads)"),
        ],
    )
    def test_says_where_it_computes(self, device: str, name: str, threads: int, said: str):
        stream = io.StringIO()
        event = Device(device=device, name=name, dtype="float32", channels_last=False, threads=threads)
        Console(stream)(event)
        assert stream.getvalue() == f"{said}\n"

    def test_a_name_does_not_steer_the_terminal(self):
        stream, terminal = io.StringIO(), Terminal()
        name = "a\x1b]0;b\x07\x9b2J\u202e.nrrd"
        Console(stream)(Warned(warning="this is odd", where=name))
        with Console(terminal) as console:
            console(progress(1).model_copy(update={"case": name}))
        assert r"a\x1b]0;b\x07\x9b2J\u202e.nrrd" in stream.getvalue()
        assert r"a\x1b" in terminal.getvalue()
        assert not set(stream.getvalue() + terminal.getvalue()) & set("\x1b\x07\x9b\u202e")

    @pytest.mark.parametrize("terminal", [True, False])
    @pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.EIO, "gone"), ValueError("closed file")])
    def test_a_terminal_that_vanishes_does_not_end_the_job(self, terminal: bool, error: Exception):
        class Gone(Terminal if terminal else io.StringIO):
            def write(self, text: str) -> int:
                raise error

        with Console(Gone()) as console:
            console(progress(1))
            console(Warned(warning="this is odd"))
            console(progress(2))
            console(Done(seconds=1, cpu_seconds=1))

    def test_results_are_told_from_where_the_user_stands(self):
        stream = io.StringIO()
        console = Console(stream, folder=Path("results/segment-job"))
        for path in ("../scan.nii.gz", "overlays", os.path.abspath("elsewhere.nrrd")):
            console(Result(kind="segmentation", path=path))
        assert stream.getvalue().splitlines() == [
            f"wrote {Path('results/scan.nii.gz')}",
            f"wrote {Path('results/segment-job/overlays')}",
            f"wrote {os.path.abspath('elsewhere.nrrd')}",
        ]

    def test_what_was_stopped_says_how_to_continue(self):
        stream = io.StringIO()
        Console(stream, folder=Path("runs/Jörg's run"))(StoppedEvent())
        command = stream.getvalue().rstrip().removeprefix("stopped; to continue:   ")
        assert shlex.split(command) == ["semicardiac", "run", "runs/Jörg's run"]

    def test_a_run_that_had_nothing_to_do_says_so(self):
        start, done = Started(kind="train", version="1", pid=1, resumed=True), Done(seconds=0, cpu_seconds=0)
        device = Device(device="cpu", name="cpu", dtype="float32", channels_last=False, threads=1)
        for between, told in (([], "nothing was left to do"), ([device], "done in 0:00")):
            stream = io.StringIO()
            console = Console(stream)
            for event in (start, *between, done):
                console(event)
            assert stream.getvalue().splitlines()[-1] == told


@pytest.mark.parametrize(
    ("text", "encoding", "written"),
    [
        ("0.872 ± 0.051 • 2×3", "ascii", b"0.872 +/- 0.051 * 2x3"),
        ("0.872 ± 0.051 ─", "cp1252", b"0.872 \xb1 0.051 ?"),
        ("é … λ", "ascii", b"e ... ?"),
        ("M\udcc3\udcbcller", "ascii", "Müller".encode()),  # a file's name in a locale that does not know it
    ],
)
def test_what_a_terminal_cannot_show_becomes_what_looks_like_it(text: str, encoding: str, written: bytes):
    assert text.encode(encoding, LOOKALIKE) == written


class TestLines:
    def test_one_event_a_line(self):
        stream = io.StringIO()
        lines = Lines(stream)
        sent = [progress(1), progress(2)]
        for event in sent:
            lines(event)
        assert [parse_line(line) for line in stream.getvalue().splitlines()] == sent

    def test_a_reader_that_is_gone_does_not_end_the_job(self):
        class Broken(io.StringIO):
            writes = 0

            def write(self, text: str) -> int:
                Broken.writes += 1
                raise BrokenPipeError

        lines = Lines(Broken())
        lines(progress(1))
        lines(progress(2))
        assert Broken.writes == 1
