"""Fixtures of the tests of loop and trainer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from semicardiac.base import files
from semicardiac.data.cases import Case
from semicardiac.training import loop

from Testing.engine.networks import write_cases
from Testing.engine.training.support import STEPS, config_of, run


@pytest.fixture(scope="module", autouse=True)
def _restored() -> Iterator[None]:
    """Deterministic trainings switch PyTorch as a whole."""
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _plain_previews(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longer than a whole training here; only the job below draws them."""
    monkeypatch.setattr(loop, "write_preview", lambda path, *rest: files.write_text(path, ""))


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, ...]:
    """Two labeled and two unlabeled patients, and one for validation."""
    return write_cases(tmp_path_factory.mktemp("study"), validation=1)


@pytest.fixture(scope="module")
def cases(validated: tuple[Case, ...]) -> tuple[Case, ...]:
    """The same without validation."""
    return validated[:-1]


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, cases: tuple[Case, ...]) -> Path:
    """A job that ran through without interruption."""
    folder = tmp_path_factory.mktemp("job")
    summary = run(folder, cases, config_of(schedule={"steps": STEPS, "preview_every": 0.5}))
    assert summary["steps"] == STEPS
    return folder
