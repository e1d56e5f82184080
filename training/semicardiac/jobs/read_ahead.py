"""Reading ahead: the next file is unpacked in a thread, while the network works on the one before it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Content = TypeVar("Content")


def read_ahead(items: Iterable[Item], read: Callable[[Item], Content]) -> Iterator[tuple[Item, Future[Content]]]:
    """Each item with what is read of it; meanwhile the one behind it is read, and no further one.

    An error of `read` is raised where its result is asked for.
    """
    with ThreadPoolExecutor(1, "reader") as reader:
        waiting: list[tuple[Item, Future[Content]]] = []
        for item in items:
            waiting.append((item, reader.submit(read, item)))
            if len(waiting) == 2:
                yield waiting.pop(0)  # and nothing here holds its content any more
        yield from waiting
