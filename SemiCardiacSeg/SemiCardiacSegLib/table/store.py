"""Where the table of cases is kept: in the parameter node of the module, and so with the scene."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import slicer
import slicer.util

from .entries import emptyTable, parseTable

_PARAMETER = "dataSet"
_REFERENCE = "SemiCardiacSeg."
"""The roles of node references begin so."""


class TableStore:
    """Nodes as node references of a parameter node, everything else as JSON in one of its parameters."""

    def __init__(self, parameterNode) -> None:
        self.parameterNode = parameterNode
        self._text = ""
        self._state = emptyTable()
        self._unsaved: dict | None = None

    def keyOf(self, part: str, node) -> str | None:
        """The key of the row that has a node as this part."""
        entries = self.read()["rows"]
        return next((entry["key"] for entry in entries if self.node(part, entry["key"]) is node), None)

    def node(self, part: str, key: str):
        """The node that is this part of a row; None if it has none, or it was deleted."""
        return self.parameterNode.GetNodeReference(_reference(part, key))

    def refer(self, part: str, key: str, node) -> None:
        """Makes a node this part of a row; None takes it away."""
        self.parameterNode.SetNodeReferenceID(_reference(part, key), node.GetID() if node is not None else None)

    def _references(self) -> dict[str, str]:
        """The IDs of the nodes that rows refer to, by the role of the reference."""
        roles: list[str] = []
        self.parameterNode.GetNodeReferenceRoles(roles)
        return {role: self.parameterNode.GetNodeReferenceID(role) for role in roles if role.startswith(_REFERENCE)}

    def read(self) -> dict:
        """The state of the table; not to be changed."""
        if self._unsaved is not None:
            return self._unsaved
        text = self.parameterNode.GetParameter(_PARAMETER) or ""
        if text != self._text:
            self._state = parseTable(text)
            self._text = text
        return self._state

    @contextmanager
    def changed(self) -> Iterator[dict]:
        """Gives the state to change, and saves it if all goes well; observers of the node hear of it once."""
        if self._unsaved is not None:  # a part of a larger change
            yield self._unsaved
            return
        state = self._unsaved = parseTable(self.parameterNode.GetParameter(_PARAMETER) or "")
        references = self._references()
        with slicer.util.NodeModify(self.parameterNode):
            try:
                yield state
            except BaseException:
                for role in self._references() | references:
                    self.parameterNode.SetNodeReferenceID(role, references.get(role))
                raise
            finally:
                self._unsaved = None
            for entry in state["rows"]:  # a node that is deleted later is told by its last name
                node = self.node("volume", entry["key"]) or self.node("sequence", entry["key"])
                entry["name"] = node.GetName() if node is not None else entry["name"]
            self.parameterNode.SetParameter(_PARAMETER, json.dumps(state))


def _reference(part: str, key: str) -> str:
    return f"{_REFERENCE}{part}.{key}"
