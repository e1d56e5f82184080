"""A training that is prolonged and killed at a write: the model before it or its own is there, and the result is equal.

The kill is a true one, in a child process that an audit hook ends at the file operation of a given number.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from semicardiac.base.temporaries import is_temporary
from semicardiac.config import TrainConfig
from semicardiac.data.cases import Case
from semicardiac.models.model import load_model
from torch import Tensor

from Testing.engine.networks import same_weights
from Testing.engine.training.support import config_of, history, run, weights

BEFORE, AFTER = 3, 5
"""Steps of the training, and of the one that it is prolonged to."""
POINTS = 10
"""At how many of its operations it is killed; at those that move the model, always."""


def config(steps: int) -> TrainConfig:
    tiny = {"network": {"widths": (2, 4)}, "locate": {"widths": (2, 4), "steps_max": 2}}
    return config_of(schedule={"steps": steps, "checkpoint_s": 0.0}, **tiny)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, validated: tuple[Case, ...]) -> Path:
    """A training that has come to its end, before it is prolonged."""
    folder = tmp_path_factory.mktemp("finished") / "job"
    run(folder, validated, config(BEFORE))
    return folder


def prolong(folder: Path, cases: tuple[Case, ...], *, killed_at: int | None = None) -> list[tuple[str, str]]:
    """Prolongs the training in a child process; gives its operations on files, or [] if it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with open(reading, encoding="utf-8") as pipe:
            told = pipe.read()
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) if killed_at else status == 0, told
        return [tuple(each) for each in json.loads(told)] if told else []
    seen: list[tuple[str, str]] = []

    def note(event: str, arguments: tuple) -> None:
        changes = event.removeprefix("os.") in ("rename", "remove", "rmdir", "mkdir", "link", "truncate")
        if changes or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            place = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | Path) else ""
            if place.startswith(str(folder)):
                seen.append((event, os.path.relpath(place, folder)))
                if len(seen) == killed_at:
                    os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(note)
        run(folder, cases, config(AFTER))
        os.write(writing, json.dumps(seen).encode())
        os._exit(0)
    except BaseException as error:
        os.write(writing, repr(error).encode())
        os._exit(1)


def telling(operations: list[tuple[str, str]]) -> list[int]:
    """The numbers of operations that are worth a kill: writing temporary files differs in nothing but leftovers."""
    numbered = list(enumerate(operations, start=1))
    moves = [at for at, (event, place) in numbered if event == "os.rename" and "model" in Path(place).name]
    others = [at for at, (event, place) in numbered if event != "open" or not is_temporary(Path(place))]
    return sorted({*moves, *others[:: max(1, len(others) // POINTS)]})


def of_network(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in tensors.items() if key.startswith("network.")}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the kills are those of forked processes")
def test_a_kill_at_any_write_costs_no_model_and_changes_no_result(
    tmp_path: Path, validated: tuple[Case, ...], finished: Path
):
    straight = shutil.copytree(finished, tmp_path / "straight")
    operations = prolong(straight, validated)
    before, after = weights(finished), weights(straight)
    assert not same_weights(before, after)
    points = telling(operations)
    assert len(points) >= POINTS
    for at in points:
        folder, where = shutil.copytree(finished, tmp_path / "killed"), operations[at - 1]
        prolong(folder, validated, killed_at=at)
        there = {f"network.{key}": value for key, value in load_model(folder).network.state_dict().items()}
        assert same_weights(there, of_network(before)) or same_weights(there, of_network(after)), where
        run(folder, validated, config(AFTER))
        assert same_weights(weights(folder), after), where
        assert [row["step"] for row in history(folder)] == [row["step"] for row in history(straight)]
        assert [*folder.rglob(".*"), *(path for path in folder.glob("work/*") if path.is_dir())] == [], where
        shutil.rmtree(folder)
