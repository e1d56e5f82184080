"""The life of the panel: made, entered and left; scenes closed and opened; settings kept."""

from __future__ import annotations

import pytest

from Testing.slicer.panel.support import line, photograph, settle, shown

pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")

from Testing.slicer.scenes import makeHeartSegmentation, makeVolume, saveAndReload

SECTIONS = ("data", "train", "segment", "measure", "improve", "models")


def test_a_new_panel_is_ready_and_says_how_to_begin(widget):
    assert line(widget, "setupText").startswith("Ready: PyTorch")
    assert not shown(widget, "setupButton")
    assert "No cases yet" in widget.ui.caseSummary.text
    assert shown(widget, "sampleDataButton")
    assert not shown(widget, "caseTable")
    assert [name for name in SECTIONS if not getattr(widget.ui, f"{name}Section").collapsed] == ["data"]
    assert not widget.ui.trainButton.enabled
    assert "No cases yet" in line(widget, "trainWhy")
    assert "No cases yet" in widget.ui.trainButton.toolTip
    assert "no model yet" in line(widget, "segmentWhy")
    assert all(not shown(widget, f"{name}Status") for name in ("train", "segment", "improve"))
    photograph(widget, "empty")


def test_settings_are_kept_in_the_scene(widget, scene, tmp_path):
    widget.ui.minutesBox.value = 25
    widget.ui.presetBox.currentIndex = 1
    widget.ui.flipsBox.checked = False
    widget.ui.inputSelector.setCurrentNode(makeVolume("patient01"))
    saveAndReload(tmp_path / "scene.mrb")
    settle()
    assert widget.ui.minutesBox.value == 25
    assert widget.ui.presetBox.currentText == "Labeled cases alone"
    assert not widget.ui.flipsBox.checked
    assert widget.ui.inputSelector.currentNode().GetName() == "patient01"


def test_closing_the_scene_empties_the_panel(widget, scene):
    volume = makeVolume("patient01")
    widget.dataSet.addVolume(volume, makeHeartSegmentation(volume))
    widget.ui.minutesBox.value = 25
    settle()
    assert widget.ui.caseTable.rowCount == 1
    scene.Clear(False)
    settle()
    assert widget.ui.caseTable.rowCount == 0
    assert widget.ui.minutesBox.value == 10
    widget.ui.minutesBox.value = 7
    assert widget.parameters.minutes == 7


def test_controls_are_disconnected_while_the_user_is_in_another_module(widget):
    node = widget.parameters.parameterNode
    widget.exit()
    widget.ui.minutesBox.value = 33
    assert node.GetParameter("minutes") != "33"
    widget.enter()
    assert widget.ui.minutesBox.value == 10


def test_another_visit_leaves_no_observers_behind(widget, monkeypatch):
    first = widget.parameters
    node, kind = first.parameterNode, type(first)
    alive, add = set(), kind.AddObserver

    def added(parameters, *arguments) -> int:
        alive.add(tag := add(parameters, *arguments))
        return tag

    monkeypatch.setattr(kind, "AddObserver", added)
    for visit in range(3):
        widget.exit()
        assert not [tag for tag in alive if node.GetCommand(tag) is not None], visit
        widget.enter()
        assert len([tag for tag in alive if node.GetCommand(tag) is not None]) == 1
    assert widget.parameters is first
    widget.ui.minutesBox.value = 33
    assert widget.parameters.parameterNode.GetParameter("minutes") == "33"


def test_a_change_is_shown_once_however_often_the_user_has_come_back(widget, monkeypatch):
    shows = []
    monkeypatch.setattr(type(widget.parameters), "_updateGui", lambda parameters: shows.append(parameters))
    for _visit in range(3):
        widget.exit()
        widget.enter()
    widget.parameters.minutes = 33
    assert len(shows) == 1


def test_what_was_chosen_stays_chosen_when_another_scene_is_added(widget, scene, tmp_path):
    import slicer

    volume = makeVolume("patient01")
    widget.ui.inputSelector.setCurrentNode(volume)
    other = slicer.vtkMRMLScene()
    other.AddNewNodeByClass("vtkMRMLTextNode", "added")
    other.Commit(str(tmp_path / "other.mrml"))
    scene.SetURL(str(tmp_path / "other.mrml"))
    scene.Import()
    settle()
    assert slicer.util.getNode("added")
    assert widget.parameters.inputNode is volume
    assert widget.ui.inputSelector.currentNode() is volume


def test_a_scene_of_a_newer_version_that_was_there_before_the_panel(makeWidget, slicerQt, tmp_path):
    from SemiCardiacSegLib.logic import SemiCardiacSegLogic
    from SemiCardiacSegLib.panels.train import LAST

    (tmp_path / "training").mkdir()
    slicerQt.qt.QSettings().setValue(LAST, str(tmp_path / "training"))
    SemiCardiacSegLogic().getParameterNode().SetParameter("dataSet", '{"format": 99, "rows": []}')
    widget = makeWidget()
    assert "newer version" in line(widget, "dataMessage")
    assert widget._pollTimer.active


def test_settings_of_another_version_are_reset_and_the_cases_stay(widget, scene, tmp_path):
    widget.dataSet.addVolume(makeVolume("patient01"))
    widget.ui.minutesBox.value = 33
    node = widget.parameters.parameterNode
    widget.exit()
    node.SetParameter("preset", "UNHEARD_OF")
    saveAndReload(tmp_path / "scene.mrb")
    settle()
    assert "the settings were reset" in line(widget, "setupMessage")
    assert widget.ui.minutesBox.value == 10
    assert widget.ui.presetBox.currentIndex == 0
    assert widget.ui.caseTable.rowCount == 1


def test_the_clock_goes_on_after_exit_and_stops_at_the_end(widget):
    widget.exit()
    assert widget._pollTimer.active
    widget.cleanup()
    assert not widget._pollTimer.active


def test_the_folder_of_a_scene_is_not_taken_for_the_users(widget, scene, tmp_path):
    import slicer

    assert widget.ui.folderEdit.currentPath == str(tmp_path / "trainings")
    widget.ui.folderEdit.setCurrentPath(str(tmp_path / "a colleague's"))
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"), {})
    widget.ui.folderEdit.setCurrentPath(str(tmp_path / "trainings"))
    scene.Clear(False)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"), {})
    assert widget.train.folder() == tmp_path / "a colleague's"
    scene.Clear(False)
    assert widget.ui.folderEdit.currentPath == str(tmp_path / "trainings")


def test_a_scene_of_a_newer_version_is_said_and_the_next_scene_is_shown_again(widget, scene):
    widget.dataSet.addVolume(makeVolume("patient01"))
    settle()
    node = widget.parameters.parameterNode
    node.SetParameter("dataSet", node.GetParameter("dataSet").replace('"format": 1', '"format": 99'))
    settle()
    assert "newer version" in line(widget, "dataMessage")
    assert widget.ui.caseTable.rowCount == 0
    assert not widget.ui.addSceneButton.enabled
    assert "newer version" in widget.ui.addSceneButton.toolTip
    assert not widget.ui.trainButton.enabled
    assert "newer version" in line(widget, "trainWhy")
    assert widget.dataSet.unsegmentedNodes() == []
    assert '"format": 99' in node.GetParameter("dataSet")
    scene.Clear(False)
    settle()
    assert line(widget, "dataMessage") == ""
    assert widget.ui.addSceneButton.enabled
    widget.dataSet.addVolume(makeVolume("patient02"))
    settle()
    assert widget.ui.caseTable.rowCount == 1


def test_an_update_that_fails_does_not_keep_the_next_one_from_happening(widget, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(widget.dataSet, "check", lambda rows, seconds: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            widget.update()
    widget.dataSet.addVolume(makeVolume("patient01"))
    settle()
    assert widget.ui.caseTable.rowCount == 1


def test_what_goes_wrong_in_a_slot_is_a_line_of_its_section(widget, monkeypatch):
    def fail():
        raise ValueError("The volume <b> is no volume.")

    monkeypatch.setattr(widget.logic, "addSampleData", fail)
    widget.ui.sampleDataButton.click()
    assert line(widget, "dataMessage") == "The volume <b> is no volume."
    monkeypatch.setattr(widget.logic, "addSampleData", lambda: 1 / 0)
    widget.ui.sampleDataButton.click()
    assert "should not have happened: ZeroDivisionError" in line(widget, "dataMessage")
