"""Two processes that train together: what each of them checks, see two_ranks.py."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest
import torch
from semicardiac.base.errors import UserError
from semicardiac.base.ranks import Rank
from semicardiac.training.ranks import ALONE, Ranks

from Testing.engine.networks import CPU
from Testing.engine.support import NO_TORCHRUN, NO_TORCHRUN_REASON, engine_environment, rank_environment
from Testing.engine.training.two_ranks import CHECKS


@pytest.fixture(scope="module")
def failed() -> list[dict[str, str]]:
    """What failed in each of two processes, by the name of the check."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "Testing.engine.training.two_ranks"], stdout=subprocess.PIPE, encoding="utf-8",
            env=rank_environment(RANK=str(rank), LOCAL_RANK=str(rank), **place),
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        return [json.loads(process.communicate(timeout=240)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.mark.skipif(NO_TORCHRUN, reason=NO_TORCHRUN_REASON)
@pytest.mark.parametrize("check", CHECKS)
def test_two_processes(failed: list[dict[str, str]], check: str):
    for rank in range(2):
        assert check not in failed[rank], failed[rank][check]


class TestAlone:
    def test_nothing_of_torch_distributed_is_imported(self):
        code = (
            "import sys, torch; known = set(sys.modules)\n"
            "from semicardiac.base.ranks import Rank; from semicardiac.jobs import train\n"
            "from semicardiac.training.ranks import joined\n"
            "with joined(Rank()) as ranks: assert ranks.by_first(lambda: 3) == 3 and ranks.share(4) is None\n"
            "print([name for name in set(sys.modules) - known if name.startswith('torch.distributed')])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env=engine_environment(), capture_output=True, encoding="utf-8", check=True
        )
        assert done.stdout.strip() == "[]"

    def test_its_plan_is_the_plan(self):
        assert ALONE.place(CPU) is CPU


class TestPlaces:
    def test_without_a_device_for_each_process_none_computes(self):
        with pytest.raises(UserError, match="no CUDA device for process 1000") as caught:
            Ranks(Rank(999, 1000, 999)).own_device("cuda")
        assert "--nproc-per-node" in caught.value.hint

    def test_a_gpu_of_apple_is_not_shared(self):
        with pytest.raises(UserError, match="mps"):
            Ranks(Rank(0, 2, 0)).own_device("mps")

    def test_each_process_computes_on_its_own_cuda_device(self, monkeypatch: pytest.MonkeyPatch):
        taken: list[int] = []
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
        monkeypatch.setattr(torch.cuda, "set_device", taken.append)
        plan = CPU.model_copy(update={"device": "cuda", "threads": 64})
        placed = Ranks(Rank(number=6, count=8, local=2)).place(plan)
        assert (placed.device, placed.threads) == ("cuda:2", torch.get_num_threads())
        assert taken == [2]

    def test_each_process_needs_a_slice_of_each_kind(self):
        ranks = Ranks(Rank(0, 3, 0))
        ranks.require_slices(6, 3, 4)
        with pytest.raises(UserError, match="3 processes cannot share a batch with 2 slices") as caught:
            ranks.require_slices(6, 2, 4)
        assert "optim.batch_mixed" in caught.value.hint
