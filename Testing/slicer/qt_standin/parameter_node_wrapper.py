"""Stand-in for `slicer.parameterNodeWrapper`: typed attributes of a parameter node, and their connection to widgets.

For the types and widgets of our panel: bool, int, str, enumerations, paths and nodes. Values are kept as texts and node
references, as in Slicer; nothing is cached.
"""

from __future__ import annotations

import enum
import pathlib
import typing
from dataclasses import dataclass

import slicer
import vtk
from PySide6 import QtWidgets

from Testing.slicer.qt_standin import widgets


@dataclass
class WithinRange:
    minimum: float
    maximum: float

    def check(self, value) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within range [{self.minimum}, {self.maximum}], is {value}")


class _Parameter:
    """One typed attribute."""

    def __init__(self, name: str, hint, default):
        self.name = name
        self.checks = getattr(hint, "__metadata__", ())
        hint = typing.get_args(hint)[0] if self.checks else hint
        options = typing.get_args(hint) or (hint,)
        self.nodeClasses = tuple(one for one in options if issubclass(one, slicer.vtkMRMLNode))
        self.takesNone = len(options) == 1 or type(None) in options
        self.type = self.nodeClasses or hint
        self.default = default if default is not None or self.nodeClasses else hint()

    def __get__(self, wrapper, owner=None):
        if wrapper is None:
            return self
        node = wrapper.parameterNode
        if self.nodeClasses:
            return node.GetNodeReference(self.name)
        if not node.GetParameterNames() or self.name not in node.GetParameterNames():
            return self.default
        text = node.GetParameter(self.name)
        if issubclass(self.type, enum.Enum):
            if text not in self.type.__members__:
                raise ValueError(f"Could not find enum of type {self.type} with name {text}")
            return self.type[text]
        return text == "True" if self.type is bool else self.type(text)

    def __set__(self, wrapper, value):
        kind = pathlib.PurePath if self.type is pathlib.Path else self.type
        if value is None and self.nodeClasses and not self.takesNone:
            raise TypeError("Unable to write value 'None' of type '<class 'NoneType'>'")
        if not (isinstance(value, kind) or (self.nodeClasses and value is None)):
            raise TypeError(f"Value must be of type '{self.type}', is type '{type(value)}' value '{value}'")
        for check in self.checks:
            check.check(value)
        node = wrapper.parameterNode
        if self.nodeClasses:
            node.SetNodeReferenceID(self.name, value.GetID() if value else None)
        else:
            node.SetParameter(self.name, value.name if isinstance(value, enum.Enum) else str(value))


class _Connector:
    """A widget and the value it shows."""

    def __init__(self, widget, parameter: _Parameter):
        self.widget, kind, parameterType = widget, type(widget), parameter.type
        if kind is QtWidgets.QCheckBox and parameterType is bool:
            self.signal, self.read, self.write = "toggled(bool)", lambda: widget.checked, widget.setChecked
        elif kind is QtWidgets.QSpinBox and parameterType is int:
            for check in parameter.checks:
                widget.setRange(check.minimum, check.maximum)
            self.signal, self.read, self.write = "valueChanged(int)", lambda: widget.value, widget.setValue
        elif kind is QtWidgets.QComboBox and issubclass(parameterType, enum.Enum):
            members = list(parameterType)
            widget.clear()
            widget.addItems([member.label() for member in members])
            self.signal, self.read = "currentIndexChanged(int)", lambda: members[widget.currentIndex]
            self.write = lambda value: widget.setCurrentIndex(members.index(value))
        elif kind is widgets.ctkPathLineEdit and parameterType is pathlib.Path:
            self.signal, self.read = "currentPathChanged(QString)", lambda: pathlib.Path(widget.currentPath)
            self.write = lambda value: widget.setCurrentPath(str(value))
        elif kind is widgets.qMRMLNodeComboBox and parameter.nodeClasses:
            widget.nodeTypes = [nodeClass.__name__ for nodeClass in parameter.nodeClasses]
            self.signal, self.read, self.write = (
                "currentNodeChanged(vtkMRMLNode*)", widget.currentNode, widget.setCurrentNode,
            )  # fmt: skip
        else:
            what = f"datatype '{parameterType}' to widget type '{kind}'"
            raise RuntimeError(f"Unable to create GUI connector from {what}")


class _Wrapper:
    """What a class becomes that is decorated with `parameterNodeWrapper`."""

    def __init__(self, parameterNode):
        self.parameterNode = parameterNode
        self._guis, self._updating = {}, False
        names = parameterNode.GetParameterNames() or ()
        for name, parameter in self.allParameters.items():  # Slicer writes every default
            if name not in names and not parameterNode.GetNodeReference(name):
                setattr(self, name, parameter.default)
            getattr(self, name)  # Slicer reads every value
        parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: None)  # for its cache, for good

    def connectParametersToGui(self, mapping) -> int:
        connectors = []
        for name, widget in mapping.items():
            if name not in self.allParameters:
                raise ValueError(f"Cannot find a param with the given name: {name}")
            connector = _Connector(widget, self.allParameters[name])
            connector.write(getattr(self, name))
            connector.slot = self._reader(name, connector)
            widget.connect(connector.signal, connector.slot)
            connectors.append((name, connector))
        # Slicer 5.10 does so, and never takes it back.
        self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._updateGui())
        tag = len(self._guis)
        self._guis[tag] = connectors
        return tag

    def disconnectGui(self, tag: int) -> None:
        for _, connector in self._guis.pop(tag):
            connector.widget.disconnect(connector.signal, connector.slot)

    def AddObserver(self, event, callback, priority=0.0):
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag):
        self.parameterNode.RemoveObserver(tag)

    def _reader(self, name, connector):
        def read():
            if not self._updating:
                setattr(self, name, connector.read())

        return read

    def _updateGui(self):
        if self._updating:
            return
        self._updating = True
        try:
            for connectors in list(self._guis.values()):
                for name, connector in connectors:
                    connector.write(getattr(self, name))
        finally:
            self._updating = False


def parameterNodeWrapper(declaration):
    """Makes a class of typed attributes the wrapper of a parameter node."""
    hints = typing.get_type_hints(declaration, include_extras=True)
    parameters = {name: _Parameter(name, hint, getattr(declaration, name, None)) for name, hint in hints.items()}
    members = {"allParameters": parameters, "__doc__": declaration.__doc__, **parameters}
    return type(declaration.__name__, (_Wrapper,), members)
