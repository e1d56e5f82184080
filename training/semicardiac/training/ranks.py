"""The processes that train together, and what they tell each other.

Every process holds the whole state, draws the same batch with the same random numbers, and computes its own slices of
it (`data.share`). What the optimizer sees is the sum of all gradients, so that the states stay the same without being
compared. DistributedDataParallel would wrap the student alone, once a step: methods run it several times and hold
networks of their own, and the lean networks here have gradients of a few megabytes, which one message adds up in less
time than overlapping it with the backward pass could save.

The first process alone prepares, decides by its clock, writes and validates, while the others wait. What it decides
goes through messages between processors, which no device waits for. torch.distributed is imported only where there
are several processes: it is not part of every PyTorch.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from platform import node
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from ..base.errors import Stopped, UserError
from ..base.ranks import LostRankError, Rank
from ..data.share import Share
from ..models.compute import ComputePlan

Result = TypeVar("Result")
_ONLY = Rank()
_WAIT_STEP, _WAIT_FIRST = timedelta(minutes=30), timedelta(days=30)
"""For the part of another process in a step, and for what the first process does alone."""
_POLL_S = 0.05
_SEEN_S = 60
"""After which a file that another machine has written is not there."""
_GO_ON = "Run the job again, to continue from its last checkpoint; torchrun --max-restarts 3 does so by itself"


class Ranks:
    """The processes of a training, as one of them sees them; a process alone has nothing to tell or to wait for.

    Args:
        rank: This process.
        messages: Connects the processors; None for one process.
    """

    def __init__(self, rank: Rank = _ONLY, messages: Any = None) -> None:
        self.rank, self._messages = rank, messages

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.rank.count == 1

    def own_device(self, device: str) -> str:
        """The device of this process, where the first one has `device`; CUDA devices are counted on each machine.

        Raises:
            UserError: If there is none for it.
        """
        kind = torch.device(device).type
        if self.alone or kind == "cpu":
            return device
        if kind != "cuda":
            raise UserError(f"several processes cannot share the device {kind}", where="device", hint="Start one")
        if self.rank.local >= (there := torch.cuda.device_count()):
            hint = f"Start {there} on this machine (torchrun --nproc-per-node {there}), or compute on the CPU"
            raise UserError(f"there is no CUDA device for process {self.rank.local + 1}", where="device", hint=hint)
        torch.cuda.set_device(self.rank.local)
        return f"cuda:{self.rank.local}"

    def place(self, plan: ComputePlan) -> ComputePlan:
        """The plan of the first process, on the device and the threads that this one was started with."""
        if self.alone:
            return plan
        own = {"device": self.own_device(plan.device), "threads": torch.get_num_threads()}
        return plan.model_copy(update=own)

    def require_slices(self, *sizes: int) -> None:
        """Raises UserError if batches of these sizes have no slice for each process: each has to know every loss."""
        fewest = min(sizes)
        if fewest < self.rank.count:
            what = f"{self.rank.count} processes cannot share a batch with {fewest} slices of a kind"
            hint = "Start fewer processes, or give a new training larger optim.batch_labeled and optim.batch_mixed"
            raise UserError(what, where="optim", hint=hint)

    # ----- within a step

    def share(self, slices: int) -> Share | None:
        """What this process has of a batch of so many slices; None if that is all."""
        return None if self.alone else Share(slices, self.rank.number, self.rank.count, self.add_up)

    def add_up(self, tensor: Tensor) -> None:
        """Puts the sum over all processes into a tensor."""
        with self._reaching() as distributed:
            distributed.all_reduce(tensor)

    def add_up_step(self, parameters: Iterable[nn.Parameter], numbers: dict[str, Tensor]) -> dict[str, Tensor]:
        """Puts the sums over all processes into the gradients, and gives those of some numbers, in one message."""
        if self.alone:
            return numbers
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        parts = [*gradients, *numbers.values()]
        flat = torch.cat([part.flatten().float() for part in parts])
        self.add_up(flat)
        sums = [each.view(part.shape) for part, each in zip(parts, flat.split([p.numel() for p in parts]), strict=True)]
        torch._foreach_copy_(gradients, sums[: len(gradients)])
        return dict(zip(numbers, sums[len(gradients) :], strict=True))

    # ----- between steps

    def agree(self, *numbers: float, asked: bool = False) -> tuple[list[float], bool]:
        """The first process's numbers, for all; and whether any process asks for something."""
        if self.alone:
            return list(numbers), asked
        own = numbers if self.rank.first else [float("-inf")] * len(numbers)
        message = torch.tensor([*own, float(asked)], dtype=torch.float64)
        with self._reaching() as distributed:
            distributed.all_reduce(message, distributed.ReduceOp.MAX, group=self._messages)
        *agreed, wanted = message.tolist()
        return agreed, bool(wanted)

    def by_first(self, work: Callable[[], Result]) -> Result:
        """What the first process makes while the others wait, however long, for all of them.

        Raises:
            Stopped: In the others, if it came to nothing; in the first, whatever the work raises.
        """
        if self.alone:
            return work()
        made: list[Any] = [None]
        if self.rank.first:
            try:
                made = [(work(),)]
            except BaseException:
                with suppress(LostRankError):
                    self._tell(made)
                raise
        self._tell(made)
        if made[0] is None:
            raise Stopped
        return cast(Result, made[0][0])

    def in_turn(self, work: Callable[[], Result]) -> Result:
        """Work that the first process does while the others wait, and then they, who find what it has left."""
        done: list[Result] = []
        self.by_first(lambda: done.append(work()))
        return done[0] if done else work()

    def require_seen(self, path: Path) -> None:
        """Raises UserError if a file of the first process is not to be seen from here; a network may need a moment."""
        for _ in range(_SEEN_S):
            if self.rank.first or path.exists():
                return
            time.sleep(1)
        where = f"{path}, process {self.rank.number + 1} on {node()}"
        raise UserError(
            "what the first process has prepared is not to be seen here", where=where,
            hint="Put the job folder and the data where all machines see them by the same path",
        )  # fmt: skip

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Puts what the first process has in these tensors into those of all."""
        if self.alone:
            return
        for tensor in tensors:
            with self._reaching() as distributed:
                distributed.broadcast(tensor.detach(), src=0)

    def _tell(self, made: list[Any]) -> None:
        with self._reaching() as distributed:
            distributed.broadcast_object_list(made, src=0, group=self._messages)

    @contextmanager
    def _reaching(self) -> Iterator[Any]:
        """Gives torch.distributed; where the others are not reached, says what that means."""
        from torch import distributed

        try:
            yield distributed
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            where = f"process {self.rank.number + 1} of {self.rank.count}"
            raise LostRankError(
                "the other processes of this training are no longer reached", where=where, hint=_GO_ON
            ) from error


ALONE = Ranks()


@contextmanager
def joined(rank: Rank) -> Iterator[Ranks]:
    """Meets the other processes of a training, for as long as the block runs.

    Raises:
        UserError: If they cannot be met.
    """
    if rank.count == 1:
        yield ALONE
        return
    from torch import distributed

    if not distributed.is_available():
        what = "this build of PyTorch cannot train in several processes"
        raise UserError(what, where="torchrun", hint="Start one process, or install another build of PyTorch")
    devices = torch.cuda.is_available() and distributed.is_nccl_available()
    try:
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if devices else "gloo", store=_fresh_store(rank), rank=rank.number,
            world_size=rank.count, timeout=_WAIT_STEP,
        )  # fmt: skip
        messages = distributed.new_group(backend="gloo", timeout=_WAIT_FIRST)
    except (RuntimeError, ValueError) as error:
        what = f"the {rank.count} processes of this training do not reach one another ({error})"
        hint = "Start them with torchrun, and on several machines with the same --rdzv-endpoint"
        raise UserError(what, where=f"process {rank.number + 1}", hint=hint) from error
    yield Ranks(rank, messages)
    distributed.destroy_process_group()  # not after an error: what others wait for would hold it up


def _fresh_store(rank: Rank) -> Any:
    """What the processes find one another by, with nothing in it of those before.

    torchrun keeps its store when it starts processes again, where the addresses of the lost ones would be taken for
    those of the present ones. So these first agree on a word that is new: the first process answers each other that
    repeats its word, and none that follows an older word gets an answer.
    """
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://", rank.number, rank.count, timeout=_WAIT_STEP))
    word = own = secrets.token_hex(8)
    if rank.first:
        store.set("word", word)
        for other in range(1, rank.count):
            while not (call := store.get(f"call {other}").decode()).startswith(word):
                time.sleep(_POLL_S)
            store.set(f"answer to {call}", "")
    else:
        while not store.check([f"answer to {word} {own}"]):
            word = store.get("word").decode()
            store.set(f"call {rank.number}", f"{word} {own}")
            time.sleep(_POLL_S)
    return distributed.PrefixStore(word, store)  # type: ignore[attr-defined]  # exported, but not by name
