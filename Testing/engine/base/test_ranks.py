"""Which process of several this is."""

from __future__ import annotations

import pytest
from semicardiac.base.errors import UserError
from semicardiac.base.ranks import Rank, current_rank


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "4"}, {"LOCAL_RANK": "1"}])
def test_without_torchrun_there_is_one_process(environment: dict[str, str]):
    rank = current_rank(environment)
    assert rank == Rank(number=0, count=1, local=0)
    assert rank.first


def test_torchrun_numbers_the_processes():
    rank = current_rank({"RANK": "9", "WORLD_SIZE": "16", "LOCAL_RANK": "1"})
    assert rank == Rank(number=9, count=16, local=1)
    assert not rank.first


@pytest.mark.parametrize(
    ("number", "count", "local"),
    [("4", "4", "0"), ("0", "0", "0"), ("1", "4", "2"), ("-1", "4", "0"), ("x", "4", "0"), ("1", None, "0")],
)
def test_numbers_that_cannot_be_are_told(number: str, count: str | None, local: str):
    environment = {"RANK": number, "LOCAL_RANK": local} | ({} if count is None else {"WORLD_SIZE": count})
    with pytest.raises(UserError, match=f"RANK={number}") as caught:
        current_rank(environment)
    assert "torchrun" in caught.value.hint
