"""Streams of slices: each as often as any other, in an order that can be taken up again."""

from __future__ import annotations

from collections import Counter

import torch
from semicardiac.data.batches import Stream


def take(stream: Stream, sizes: list[int], seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return [index for size in sizes for index in stream.take(size, generator).tolist()]


def test_every_slice_comes_once_before_any_comes_twice():
    taken = take(Stream(10, 17), [3, 5, 2, 11, 7])  # 28 of 7, in batches that do not divide it
    for at in range(0, 28, 7):
        assert sorted(taken[at : at + 7]) == list(range(10, 17))


def test_a_batch_larger_than_the_range_repeats_slices():
    taken = take(Stream(0, 3), [8])
    assert len(taken) == 8
    assert set(Counter(taken).values()) == {2, 3}


def test_every_round_has_an_order_of_its_own():
    taken = take(Stream(0, 20), [20, 20])
    assert taken[:20] != taken[20:]
    assert taken != take(Stream(0, 20), [20, 20], seed=1)
    assert taken == take(Stream(0, 20), [20, 20])


def test_it_is_taken_up_where_it_was_left():
    stream, generator = Stream(5, 14), torch.Generator().manual_seed(0)
    stream.take(4, generator)
    left, numbers = stream.state().clone(), generator.get_state()
    expected = [stream.take(4, generator).tolist() for _ in range(5)]
    other, generator = Stream(5, 14), torch.Generator()
    other.restore(left)
    generator.set_state(numbers)
    assert [other.take(4, generator).tolist() for _ in range(5)] == expected


def test_its_length_is_that_of_the_range():
    assert len(Stream(3, 9)) == 6
    assert len(Stream(4, 4)) == 0
