"""Which of several processes this is, where torchrun has started some for one job."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import UserError


class LostRankError(UserError):
    """Another process of the job is no longer reached, which knows the reason if anyone does."""


@dataclass(frozen=True)
class Rank:
    """One of the processes of a job; a job that torchrun has not started has one."""

    number: int = 0
    """Among the processes of all machines, from 0."""
    count: int = 1
    """How many processes there are, on all machines."""
    local: int = 0
    """Among those of this machine, from 0: the number of its CUDA device."""

    @property
    def first(self) -> bool:
        """Whether it is the one that holds the job's lock, and writes."""
        return self.number == 0


def current_rank(environment: Mapping[str, str] = os.environ) -> Rank:
    """The rank of this process, as torchrun tells it.

    Args:
        environment: Variables RANK, WORLD_SIZE and LOCAL_RANK, all of them or none.

    Raises:
        UserError: If they are no numbers, or do not go together.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    texts = [environment[name] for name in names if name in environment]
    if "RANK" not in environment:  # some clusters set WORLD_SIZE alone
        return Rank()
    told = ", ".join(f"{name}={environment.get(name, '')}" for name in names)
    hint = "Start several processes with torchrun, which sets all three, or unset them to start one"
    if len(texts) < len(names) or not all(text.isascii() and text.isdecimal() for text in texts):
        raise UserError(f"these do not number a process: {told}", where="environment", hint=hint)
    number, count, local = map(int, texts)
    if not local <= number < count:
        raise UserError(f"these do not number a process: {told}", where="environment", hint=hint)
    return Rank(number, count, local)
