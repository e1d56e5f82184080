"""Stand-in for `slicer.ScriptedLoadableModule`: the base classes, without the developer's buttons."""

from __future__ import annotations

import unittest
from pathlib import Path
from types import SimpleNamespace

import slicer
from PySide6 import QtWidgets

__all__ = [
    "ScriptedLoadableModule",
    "ScriptedLoadableModuleLogic",
    "ScriptedLoadableModuleTest",
    "ScriptedLoadableModuleWidget",
]


class ScriptedLoadableModule:
    def __init__(self, parent):
        self.parent = parent
        self.moduleName = type(self).__name__


class ScriptedLoadableModuleWidget:
    """Base of a module's widget.

    Args:
        parent: A widget with a layout and the attribute `isEntered`; `makeParent` gives one.
    """

    def __init__(self, parent=None):
        self.parent = parent
        self.layout = parent.layout()
        self.moduleName = type(self).__name__.removesuffix("Widget")

    def setup(self):
        pass

    def cleanup(self):
        pass

    def resourcePath(self, name: str) -> str:
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / name)


class _Parent(QtWidgets.QWidget):
    isEntered = property(lambda self: self._isEntered)


def makeParent() -> QtWidgets.QWidget:
    """The widget into which the application puts a module's panel."""
    parent = _Parent()
    parent._isEntered = True
    QtWidgets.QVBoxLayout(parent).setContentsMargins(4, 4, 4, 4)
    return parent


class ScriptedLoadableModuleLogic:
    """Base of a module's logic: the parameter node is a singleton of the scene."""

    def __init__(self, parent=None):
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self):
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(self.moduleName)
            node.SetModuleName(self.moduleName)
            node.SetName(self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    def delayDisplay(self, message: str, *arguments) -> None:
        print(message)


slicer.selfTests = SimpleNamespace()
