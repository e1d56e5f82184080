"""Reading ahead: in order, one item ahead, and what goes wrong is told in its turn."""

from __future__ import annotations

import threading
import weakref

import pytest
from semicardiac.jobs.read_ahead import read_ahead


def test_each_item_comes_with_its_content_in_order():
    assert [(item, content.result()) for item, content in read_ahead("abc", str.upper)] == [
        ("a", "A"), ("b", "B"), ("c", "C"),
    ]  # fmt: skip
    assert list(read_ahead("", str.upper)) == []


def test_the_next_is_read_meanwhile_and_no_further():
    begun = {item: threading.Event() for item in "abc"}
    for item, content in read_ahead("abc", lambda item: begun[item].set()):
        content.result()
        if item == "a":
            assert begun["b"].wait(10)
            assert not begun["c"].is_set()


def test_an_error_is_raised_where_the_content_is_asked_for():
    def read(item: str) -> str:
        if item == "b":
            raise ValueError(item)
        return item

    found = []
    for item, content in read_ahead("abc", read):
        if item == "b":
            with pytest.raises(ValueError, match="b"):
                content.result()
        else:
            found.append(content.result())
    assert found == ["a", "c"]


class Content:
    """Something that can be seen to be gone."""


def test_content_that_was_taken_is_not_held():
    alive: list[weakref.ref[Content]] = []
    for _, reading in read_ahead(range(4), lambda _: Content()):
        content = reading.result()
        del reading
        assert [each() for each in alive] == [None] * len(alive)
        alive.append(weakref.ref(content))
        del content
