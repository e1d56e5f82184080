"""The check of the cases, some at a time: what was found is remembered for as long as a case stays as it is."""

from __future__ import annotations

import os.path
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import NamedTuple

from ..scene.structures import mappingOf
from .problems import Problem, contentState, problemsOfRow
from .rows import PARTS, Row

_NODES = [f"{part}Node" for part in PARTS]
_PLAIN = [field.name for field in fields(Row) if field.name not in _NODES]
"""What of a row is no node: nodes may be deleted, and are not kept."""


class Findings(NamedTuple):
    """What a check has found."""

    problems: list[Problem]
    unchecked: set[str]
    """Keys of the rows for which there was no time."""


class Checks:
    """What is wrong with each row, found anew where the row, its nodes or its files have changed."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[tuple, list[Problem]]] = {}

    def problems(self, row: Row, said: Mapping[str, str] | None, labelSet) -> list[Problem]:
        """What is wrong with a row.

        Args:
            row: A row of the data set.
            said: Names of structures by segment ID, as far as the user said which is which.
            labelSet: What the labels mean.
        """
        return self._problems(row, _stateOf(row, said, labelSet))

    def check(self, rows: Sequence[Row], said: Mapping[str, Mapping | None], labelSet, seconds: float) -> Findings:
        """What is wrong with several rows, each named in the text.

        Args:
            rows: Of the data set.
            said: What the user said of the segments of each, by its key.
            labelSet: What the labels mean.
            seconds: After so long, rows that are new or have changed are left unchecked; one is always checked.
        """
        end = None
        findings = Findings([], set())
        for row in rows:
            state = _stateOf(row, said[row.key], labelSet)
            if not self._isKnown(row, state):
                if end is not None and time.monotonic() > end:
                    findings.unchecked.add(row.key)
                    continue
                end = end or time.monotonic() + seconds
            findings.problems.extend(
                replace(each, text=f"{row.name}: {each.text}") for each in self._problems(row, state)
            )
        return findings

    def _problems(self, row: Row, state: tuple) -> list[Problem]:
        if not self._isKnown(row, state):
            said, labelSet, *_rest = state
            mapping = mappingOf(row.segmentationNode, said, labelSet)
            self._found[row.key] = (state, problemsOfRow(row, mapping, labelSet))
        return list(self._found[row.key][1])

    def _isKnown(self, row: Row, state: tuple) -> bool:
        return row.key in self._found and self._found[row.key][0] == state


def _stateOf(row: Row, said: Mapping[str, str] | None, labelSet) -> tuple:
    """All that the problems of a row depend on, to be compared."""
    paths = [path is None or os.path.exists(path) for path in (row.imagePath, row.labelsPath)]
    content = contentState(*(getattr(row, name) for name in _NODES))
    return (said, labelSet, *(getattr(row, name) for name in _PLAIN), *paths, *content)
