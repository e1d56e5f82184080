"""Section 6: models are described, shared and deleted."""

from __future__ import annotations

import json
import shutil

import pytest
from semicardiac.models.package import SETTINGS

from Testing.engine.jobs.support import sign
from Testing.slicer.panel.support import answerSaveDialog, line, photograph, settle

pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")

from Testing.slicer.results import select


class TestModels:
    def test_details_export_import_delete(self, withModel, monkeypatch, tmp_path, slicerQt):
        import qt

        widget = withModel
        table = widget.ui.modelTable
        assert table.item(0, 0).text() == "training-1"
        assert not widget.ui.exportButton.enabled
        assert "Select a model" in widget.ui.exportButton.toolTip
        select(table, 0)
        assert "RV cavity, LV myocardium, LV cavity" in line(widget, "modelDetails")
        packed = tmp_path / "shared.zip"
        answerSaveDialog(monkeypatch, tmp_path / "shared")
        widget.ui.exportButton.click()
        assert packed.is_file()
        monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *arguments: str(packed))
        widget.ui.importButton.click()
        assert line(widget, "modelsMessage") == "Imported: shared"
        assert widget.models.chosen().name == "shared"
        assert table.rowCount == 2
        widget.ui.segmentSection.collapsed = widget.ui.dataSection.collapsed = True
        widget.ui.modelsSection.collapsed = False
        select(table, 0)
        photograph(widget, "models")
        row = next(row for row in range(2) if table.item(row, 0).text() == "shared")
        select(table, row)
        monkeypatch.setattr(slicerQt.util, "confirmOkCancelDisplay", lambda text: False)
        widget.ui.deleteButton.click()
        assert table.rowCount == 2
        monkeypatch.setattr(slicerQt.util, "confirmOkCancelDisplay", lambda text: True)
        select(table, row)
        widget.ui.deleteButton.click()
        assert table.rowCount == 1
        assert not (widget.train.folder() / "shared").exists()

    def test_dialogs_begin_where_the_last_file_was_saved(self, withModel, monkeypatch, tmp_path):
        import qt

        widget, begun = withModel, []
        select(widget.ui.modelTable, 0)
        answerSaveDialog(monkeypatch, tmp_path / "shared")
        widget.ui.exportButton.click()
        monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *arguments: begun.append(arguments[2]) or "")
        monkeypatch.setattr(qt.QFileDialog, "exec_", lambda dialog: begun.append(dialog.directory().absolutePath()))
        widget.ui.importButton.click()
        widget.ui.exportButton.click()
        assert begun == [str(tmp_path)] * 2

    def test_the_training_of_a_model_is_shown_with_its_curves(self, withModel):
        widget = withModel
        assert not widget.ui.trainingButton.enabled
        select(widget.ui.modelTable, 0)
        assert "without its training" in widget.ui.trainingButton.toolTip
        folder = widget.train.folder() / "training-1"
        progress = {"event": "progress", "stage": "supervised", "total": 40}
        steps = [progress | {"step": step, "losses": {"supervised": 1 / step}} for step in (20, 40)]
        started = {"event": "started", "kind": "train", "version": "1", "pid": 1}
        events = [started, *steps, {"event": "done", "seconds": 9}]
        lines = "".join(json.dumps({"time": 1.0, **event}) + "\n" for event in events)
        (folder / "events.jsonl").write_text(lines, encoding="ascii")
        (folder / "job.json").write_text("{}", encoding="ascii")
        widget.update()
        widget.ui.trainingButton.click()
        assert line(widget, "modelsMessage") == ""
        assert not widget.ui.trainSection.collapsed
        assert line(widget, "trainState") == "Finished in 9 s"
        assert len(widget.train.curves.losses.rows) == 2

    def test_a_damaged_package_is_said_and_cannot_be_chosen(self, withModel, slicerQt, monkeypatch, tmp_path):
        import qt

        widget = withModel
        weights = widget.train.folder() / "training-1/model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-10])
        widget.models.refresh()
        widget.update()
        assert widget.models.chosen() is None
        assert "no model yet" in line(widget, "segmentWhy")
        select(widget.ui.modelTable, 0)
        assert not widget.ui.exportButton.enabled
        assert "model.safetensors" in line(widget, "modelDetails")
        (tmp_path / "no.zip").write_text("no zip", encoding="utf-8")
        monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *arguments: str(tmp_path / "no.zip"))
        widget.ui.importButton.click()
        assert "not a model package" in line(widget, "modelsMessage")

    def test_bad_packages_are_lines_beside_the_others(self, withModel):
        widget = withModel
        folder = widget.train.folder()
        for name, change in {
            "a-list": {"about": []},
            "a-text": {"format": "1"},
            "nothing-known": {"about": {"validation_mean_dice": None, "training_seconds": None}},
        }.items():
            shutil.copytree(folder / "training-1", folder / name)
            settings = json.loads((folder / name / SETTINGS).read_text(encoding="utf-8"))
            (folder / name / SETTINGS).write_text(json.dumps({**settings, **change}), encoding="utf-8")
            sign(folder / name)
        widget.models.refresh()
        widget.update()
        table = widget.ui.modelTable
        rows = {table.item(row, 0).text(): row for row in range(table.rowCount)}
        assert rows.keys() == {"training-1", "a-list", "a-text", "nothing-known"}
        for name, told in (("a-list", "config.json: about: got []"), ("a-text", "config.json: format: got '1'")):
            select(table, rows[name])
            assert told in line(widget, "modelDetails")
            assert told in table.item(rows[name], 0).toolTip()
            assert not widget.ui.exportButton.enabled
        select(table, rows["nothing-known"])
        assert "RV cavity" in line(widget, "modelDetails")
        box = widget.ui.modelBox
        offered = [box.itemText(index) for index in range(box.count)]
        assert "nothing-known" in offered
        assert not any(text.startswith("a-") for text in offered)


def test_a_long_name_is_elided_and_the_tooltip_has_all_of_it(withModel, tmp_path):
    widget, box = withModel, withModel.ui.modelBox
    name = "training of the heart center with every case of the last ten years and the best settings"
    (widget.train.folder() / "training-1").rename(widget.train.folder() / name)
    widget.models.refresh()
    widget.ui.segmentSection.collapsed = False
    photograph(widget, "long_name")
    widget.parent.resize(400, 900)
    widget.parent.show()
    settle()
    assert box.currentText.startswith(name)
    start, _ellipsis, end = box.shownText().partition("…")
    assert box.currentText.startswith(start)
    assert box.currentText.endswith(end)
    assert len(start) > 5 < len(end)
    assert name in box.toolTip
    assert "The model to segment with" in box.toolTip
    box.setCurrentIndex(box.findText("Other folder…"))
    assert name not in box.toolTip
