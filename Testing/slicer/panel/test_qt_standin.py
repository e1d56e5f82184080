"""The stand-in for Slicer's Qt side fails where PythonQt would."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import pytest


@pytest.fixture
def qt(slicerQt):
    return slicerQt.qt


def test_properties_are_no_methods(qt):
    button, table = qt.QPushButton("text"), qt.QTableWidget(2, 3)
    assert (button.text, button.enabled, table.rowCount, table.currentRow()) == ("text", True, 2, -1)
    for value in (button.text, button.checked, table.rowCount):
        with pytest.raises(TypeError):
            value()
    button.text = "other"
    button.setEnabled(False)
    assert (button.text, button.isEnabled()) == ("other", False)


def test_a_misspelt_property_cannot_be_set(qt):
    with pytest.raises(AttributeError, match="does not exist on QPushButton"):
        qt.QPushButton().tooltip = "text"


def test_signals_are_connected_by_their_signature(qt):
    button, got = qt.QPushButton(), []
    button.setCheckable(True)
    assert not button.connect("clicked", got.append)
    assert not button.connect("nosuch()", got.append)
    assert button.connect("clicked(bool)", got.append)
    assert button.connect("clicked(bool)", lambda: got.append("cut"))
    button.click()
    assert got == [True, "cut"]
    assert button.disconnect("clicked(bool)", got.append)
    button.click()
    assert got == [True, "cut", "cut"]


def test_what_a_slot_raises_stops_nothing_and_is_kept(qt, capsys):
    from Testing.slicer.qt_standin import pythonqt

    button, got = qt.QPushButton(), []
    button.connect("clicked()", lambda: 1 / 0)
    button.connect("clicked()", lambda: got.append(1))
    button.click()
    assert got == [1]
    assert "ZeroDivisionError" in pythonqt.slotErrors.pop()
    assert "ZeroDivisionError" in capsys.readouterr().err


class Color(enum.Enum):
    RED = "r"
    BLUE = "b"

    def label(self) -> str:
        return self.name.title()


@pytest.fixture
def parameters(slicerQt):
    from Testing.slicer.qt_standin.parameter_node_wrapper import WithinRange, parameterNodeWrapper

    hints = {
        "number": Annotated[int, WithinRange(1, 9)],
        "color": Color,
        "folder": Path,
        "volume": slicerQt.vtkMRMLScalarVolumeNode,
    }
    declared = type("Declared", (), {"__annotations__": hints, "number": 5, "color": Color.BLUE})
    return parameterNodeWrapper(declared)(slicerQt.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))


def test_parameters_have_types_and_bounds(parameters):
    assert (parameters.number, parameters.color, str(parameters.folder), parameters.volume) == (
        5,
        Color.BLUE,
        ".",
        None,
    )
    with pytest.raises(ValueError, match="within range"):
        parameters.number = 10
    with pytest.raises(TypeError):
        parameters.folder = "/some/folder"
    parameters.color = Color.RED
    assert parameters.parameterNode.GetParameter("color") == "RED"


def test_parameters_and_widgets_follow_each_other_until_disconnected(parameters, qt):
    spin, combo = qt.QSpinBox(), qt.QComboBox()
    tag = parameters.connectParametersToGui({"number": spin, "color": combo})
    assert (spin.value, spin.maximum, combo.currentText) == (5, 9, "Blue")
    spin.value = 7
    parameters.color = Color.RED
    assert (parameters.number, combo.currentText) == (7, "Red")
    parameters.disconnectGui(tag)
    spin.value = 2
    assert parameters.number == 7


def test_a_widget_without_a_connector_is_refused(parameters, qt):
    with pytest.raises(RuntimeError, match="Unable to create GUI connector"):
        parameters.connectParametersToGui({"number": qt.QPlainTextEdit()})
