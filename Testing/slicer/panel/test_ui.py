"""The .ui file holds what the code names, in a form that Slicer loads."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter

from Testing.slicer.panel.support import MODULE, UI

ROOT = ElementTree.parse(UI).getroot()
WIDGETS = {widget.get("name"): widget for widget in ROOT.iter("widget")}
CODE = "\n".join(
    path.read_text(encoding="utf-8")
    for path in [MODULE / "SemiCardiacSegLib/widget.py", *sorted((MODULE / "SemiCardiacSegLib/panels").glob("*.py"))]
)
CONTROLS = {
    "QPushButton", "QComboBox", "QCheckBox", "QSpinBox", "QTableWidget", "QPlainTextEdit", "QProgressBar",
    "ctkPathLineEdit", "ctkCollapsibleButton", "ctkCollapsibleGroupBox", "qMRMLNodeComboBox",
    "qMRMLSegmentationShow3DButton",
}  # fmt: skip
INNER_NAMES = {"Slider", "SpinBox", "SegmentsTable", "FilterLineEdit", "gridLayout", "horizontalLayout"}


def properties(widget) -> dict[str, str]:
    return {entry.get("name"): "".join(entry.itertext()).strip() for entry in widget.findall("property")}


def test_names_are_unique_and_none_is_that_of_a_part_of_a_composite_widget():
    names = [element.get("name") for kind in ("widget", "layout", "spacer") for element in ROOT.iter(kind)]
    assert len(names) == len(set(names))
    assert not INNER_NAMES & set(names)


def test_every_widget_that_the_code_names_exists():
    named = set(re.findall(r"\bui\.([a-zA-Z0-9]+)", CODE)) | set(re.findall(r'message = "(\w+)"', CODE))
    assert len(named) > 50
    assert named <= set(WIDGETS)


def test_every_control_and_no_other_name_is_used_by_the_code_or_by_the_parameter_node():
    unused = [
        name
        for name, widget in WIDGETS.items()
        if widget.get("class") in CONTROLS - {"ctkCollapsibleButton", "ctkCollapsibleGroupBox"}
        and "SlicerParameterName" not in properties(widget)
        and name not in CODE
    ]
    assert unused == []


def test_every_control_has_a_tooltip_of_its_own_that_says_more_than_its_text():
    tips = {
        name: properties(widget).get("toolTip", "")
        for name, widget in WIDGETS.items()
        if widget.get("class") in CONTROLS
    }
    assert [
        name for name, tip in tips.items() if not tip or tip.rstrip(".") == properties(WIDGETS[name]).get("text")
    ] == []
    assert [tip for tip, count in Counter(tips.values()).items() if count > 1] == []


def test_nothing_advanced_is_open():
    open_ = [
        name
        for name, widget in WIDGETS.items()
        if widget.get("class") in ("ctkCollapsibleButton", "ctkCollapsibleGroupBox")
        and properties(widget)["collapsed"] == "false"
    ]
    assert open_ == ["dataSection"]


def test_custom_widgets_are_declared():
    declared = {entry.findtext("class"): entry for entry in ROOT.iter("customwidget")}
    used = {widget.get("class") for widget in WIDGETS.values() if widget.get("class").startswith(("ctk", "qMRML"))}
    assert used == set(declared)
    for name, entry in declared.items():
        assert entry.findtext("header") == f"{name}.h"
        holdsOthers = any(
            widget.find("layout") is not None for widget in WIDGETS.values() if widget.get("class") == name
        )
        assert (entry.findtext("container") == "1") == holdsOthers


def test_node_selectors_get_the_scene():
    selectors = {name for name, widget in WIDGETS.items() if widget.get("class") == "qMRMLNodeComboBox"}
    connected = set()
    for connection in ROOT.iter("connection"):
        told = {entry.tag: entry.text for entry in connection if entry.tag != "hints"}
        assert told["sender"] == ROOT.findtext("class") == ROOT.find("widget").get("name")
        assert (told["signal"], told["slot"]) == ("mrmlSceneChanged(vtkMRMLScene*)", "setMRMLScene(vtkMRMLScene*)")
        connected.add(told["receiver"])
    assert connected == selectors


def test_no_style_sheet_and_no_color_is_fixed():
    assert not [name for name, widget in WIDGETS.items() if {"styleSheet", "palette"} & set(properties(widget))]
    assert not re.search(r"setStyleSheet|setPalette|bgcolor|background-?color|color:", CODE)


def test_strings_are_translatable():
    """No text is built inside the call that looks its translation up."""
    assert not re.search(r"\b_\(\s*f[\"']", CODE)
    for call in re.findall(r"\b_\(([^()\"']*)\)", CODE):
        assert not call.strip(), f"_({call}) gives no literal text"


def test_parameters_have_widgets_that_exist_and_the_other_way_round(slicerQt):
    from SemiCardiacSegLib.parameters import Parameters

    named = {properties(widget).get("SlicerParameterName") for widget in WIDGETS.values()} - {None}
    assert named == set(Parameters.allParameters)


def test_the_panel_proposes_the_time_that_the_engine_takes_by_default(slicerQt):
    """Its packages may not be installed yet when the panel is made, so that the panel cannot ask the engine."""
    from semicardiac.base.defaults import MINUTES
    from SemiCardiacSegLib.parameters import Parameters

    assert Parameters.allParameters["minutes"].default == MINUTES


def test_parameters_that_the_code_names_exist(slicerQt):
    """Slicer would not say a word if another one were written."""
    from SemiCardiacSegLib.parameters import Parameters

    methods = {"parameterNode", "connectParametersToGui", "disconnectGui", "AddObserver"}
    assert set(re.findall(r"\bparameters\.([a-zA-Z]\w*)", CODE)) <= set(Parameters.allParameters) | methods


def test_selectors_offer_the_classes_of_their_parameters(slicerQt):
    from SemiCardiacSegLib.parameters import Parameters

    for widget in WIDGETS.values():
        if widget.get("class") == "qMRMLNodeComboBox":
            told = properties(widget)
            classes = [
                nodeClass.__name__ for nodeClass in Parameters.allParameters[told["SlicerParameterName"]].nodeClasses
            ]
            listed = widget.find("property[@name='nodeTypes']/stringlist")
            assert [entry.text for entry in listed] == classes


def test_the_panel_loads_and_fits_400_pixels_with_a_scroll_bar_and_wider_fonts(slicerQt):
    root = slicerQt.util.loadUI(str(UI))
    ui = slicerQt.util.childWidgetVariables(root)
    for name in WIDGETS:
        assert hasattr(ui, name)
        if WIDGETS[name].get("class").startswith("ctkCollapsible"):
            getattr(ui, name).collapsed = False
    assert root.minimumSizeHint().width() <= 340  # the application's own look took 60 more
