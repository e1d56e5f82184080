"""What two processes make of the processors that one leaves idle: images a second of two over those of one, in one run.

    python Testing/bench/ranks.py [--rounds 10] [--steps 5]

Two processes of one thread each, connected by gloo, as torchrun would start them. In each round the first one trains
alone while the other waits, then both share the same batch, then both share one of twice the size; the median of the
ratios round by round is printed. By the wall, other programs on the machine lower the ratios; by the processor time of
the slower process, as if it had never waited for the other, they are those of a quiet machine.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from semicardiac.base.ranks import Rank, current_rank
from semicardiac.config import TrainConfig, make_config
from semicardiac.data import augment
from semicardiac.data.batches import Batch
from semicardiac.methods import registry
from semicardiac.methods.ema import Teacher
from semicardiac.methods.method import Facts
from semicardiac.models.compute import ComputePlan, keep_freed_memory
from semicardiac.models.networks import build_network
from semicardiac.training.ranks import ALONE, Ranks, joined
from semicardiac.training.step import Learner, Moment, train_step

CLASSES, CROP = 4, 112
PLAN = ComputePlan(device="cpu", name="processor", dtype="float32", channels_last=False, threads=1)
ROWS = {"one process": 1, "two processes, the same batch": 1, "two processes, twice the batch": 2}
"""What is compared, with the size of its batch over the default's."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=5)
    arguments = parser.parse_args()
    if "RANK" in os.environ:
        with joined(current_rank()) as ranks:
            compare(ranks, arguments.rounds, arguments.steps)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "OMP_NUM_THREADS": "1"}
    environments = [{**os.environ, **place, **numbers_of(Rank(number, 2, number))} for number in range(2)]
    processes = [subprocess.Popen([sys.executable, *sys.argv], env=each) for each in environments]
    sys.exit(max(process.wait() for process in processes))


def numbers_of(rank: Rank) -> dict[str, str]:
    """What torchrun would set."""
    return {"RANK": str(rank.number), "WORLD_SIZE": str(rank.count), "LOCAL_RANK": str(rank.local)}


def compare(ranks: Ranks, rounds: int, steps: int) -> None:
    """Prints the table, in the first process."""
    keep_freed_memory()
    config = make_config("default", {"preprocess": {"crop": CROP}})
    images = sum(config.optim.batch_mixed)
    alone, shared = learner_of(config, ALONE), learner_of(config, ranks)
    one, *two = ROWS
    work: dict[str, Callable[[], None]] = {
        one: lambda: ranks.by_first(lambda: train(alone, config, steps)),
        **{name: lambda times=ROWS[name]: train(shared, config, steps, times) for name in two},
    }
    wall: dict[str, list[float]] = {name: [] for name in ROWS}
    processor: dict[str, list[float]] = {name: [] for name in ROWS}
    for _ in range(rounds + 1):
        for name, run in work.items():
            ranks.agree()  # begin together
            start, cpu_start = time.perf_counter(), time.process_time()
            run()
            cpu = time.process_time() - cpu_start
            ranks.agree()
            wall[name].append((time.perf_counter() - start) / steps / ROWS[name])
            processor[name].append(slowest(cpu) / steps / ROWS[name])
    if ranks.rank.first:
        print(f"{images} images a batch, {torch.get_num_threads()} thread a process, {os.cpu_count()} processors, "
              f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
        for name in ROWS:
            speedups = (statistics.median(a / b for a, b in zip(of[one][1:], of[name][1:], strict=True))
                        for of in (wall, processor))  # fmt: skip
            rate = images / statistics.median(wall[name][1:])
            print(f"{name:32s} {rate:7.1f} images/s" + "".join(f"   {each:5.2f}" for each in speedups))


def slowest(seconds: float) -> float:
    """The most of all processes."""
    message = torch.tensor([seconds])
    torch.distributed.all_reduce(message, torch.distributed.ReduceOp.MAX)
    return float(message)


def train(learner: Learner, config: TrainConfig, steps: int, times: int = 1) -> None:
    """Steps as the loop does them, on one batch again and again."""
    for _ in range(steps):
        labeled, unlabeled = (batch_of(learner, config, times * count) for count in config.optim.batch_mixed)
        train_step(learner, config, PLAN, labeled, unlabeled, Moment(1.0))
        learner.ranks.agree(1.0, False)


def batch_of(learner: Learner, config: TrainConfig, count: int) -> Batch:
    """A process's part of a batch; the views are drawn for all of it."""
    size, share = CROP + 2 * config.preprocess.margin, learner.ranks.share(count)
    own = len(range(count)[share.cut]) if share else count
    image = torch.randn(own, 1, size, size, generator=torch.Generator().manual_seed(0))
    label = torch.randint(CLASSES, (own, 1, size, size)).float()
    view = augment.draw(config.augment, count, learner.generator)
    return Batch(image, label, torch.zeros(own, 2), (view.part(share.cut) if share else view,), share)


def learner_of(config: TrainConfig, ranks: Ranks) -> Learner:
    torch.manual_seed(0)
    student = build_network(config.network, CLASSES).train()
    optimizer = torch.optim.SGD(student.parameters(), 0.01, momentum=0.9, nesterov=True)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    method = registry.build(config, Facts(CLASSES, (CROP, CROP), lambda: build_network(config.network, CLASSES)))
    method.begin(1000)
    generator = torch.Generator().manual_seed(0)
    return Learner(student, Teacher(student, 0.99), method, optimizer, scaler, generator, ranks=ranks)


if __name__ == "__main__":
    main()
