"""Section 6: the models, and the lists of them in other sections."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer

from ..i18n import tr as _
from . import words
from .panel import Panel, fileToSave, lastFolder, rememberFolder, showLine

OTHER_FOLDER, OTHER_FILE = "other folder", "other file"
"""Entries of the list to segment with that ask for a model elsewhere."""


class ModelsPanel(Panel):
    """Lists the models of the output folder; imports, exports and deletes them."""

    message = "modelsMessage"

    def setup(self) -> None:
        self._models: list = []
        self._folder: Path | None = None
        self._choose: Path | None = None
        self._elsewhere: list[Path] = []
        self.onClick(self.ui.importButton, self._onImport, wait=False)
        self.onClick(self.ui.exportButton, self._onExport, wait=False)
        self.onClick(self.ui.deleteButton, self._onDelete, wait=False)
        self.onClick(self.ui.trainingButton, self._onShowTraining)
        self._boxes = {box: box.toolTip for box in (self.ui.modelBox, self.ui.startFromBox)}
        for box in self._boxes:
            box.elideMode = qt.Qt.ElideMiddle
            box.connect("currentIndexChanged(int)", self._showNames)
        table = self.ui.modelTable
        table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column in (1, 2):
            table.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        table.connect("itemSelectionChanged()", self._onSelection)

    def update(self) -> None:
        if self.widget.ready and self._folder != self.widget.train.folder():
            self.refresh()
        self._onSelection()

    def refresh(self, choose: Path | None = None) -> None:
        """Reads the list anew, from the disk; keeps what is chosen, or chooses a model by its path.

        While the user is in another module, this waits until they come back.
        """
        self._choose = choose or self._choose
        if not self.widget.ready or self.parameters is None:
            return
        self._folder = self.widget.train.folder()
        self._models = self.logic.models(self._folder)
        table = self.ui.modelTable
        table.setRowCount(len(self._models))
        for index, model in enumerate(self._models):
            for column, text in enumerate((model.name, _dice(model), f"{model.created:%Y-%m-%d %H:%M}")):
                table.setItem(index, column, qt.QTableWidgetItem(text))
            if model.problem:
                table.item(index, 0).setIcon(qt.QIcon(words.icon("error")))
                table.item(index, 0).setToolTip(model.problem)
        usable = [(_inOneLine(model), str(model.path)) for model in self._models if not model.problem]
        elsewhere = [(path.name, str(path)) for path in self._elsewhere]
        asking = [(_("Other folder…"), OTHER_FOLDER), (_("Other .zip…"), OTHER_FILE)]
        _fill(self.ui.modelBox, [*usable, *elsewhere, *asking], str(self._choose) if self._choose else None)
        if not usable and not elsewhere:
            self.ui.modelBox.setCurrentIndex(-1)
        self._choose = None
        _fill(self.ui.startFromBox, [(_("a new model"), ""), *usable])
        self._showNames()

    def _showNames(self) -> None:
        """Has the tooltips of the lists begin with what is chosen: long names do not fit into a narrow panel."""
        for box, tip in self._boxes.items():
            box.setToolTip("\n".join(filter(None, (box.currentText, tip))))

    def chosen(self) -> Path | None:
        """The folder of the model to segment with."""
        path = self.ui.modelBox.itemData(self.ui.modelBox.currentIndex)
        return Path(path) if path and path not in (OTHER_FOLDER, OTHER_FILE) else None

    def take(self, path: Path) -> None:
        """Chooses a model that lies elsewhere, for as long as Slicer runs.

        Raises:
            ValueError: If there is no model, or a damaged one.
        """
        self.logic.checkModel(path)
        if path not in self._elsewhere:
            self._elsewhere.append(path)
        self.refresh(choose=path)

    def whyKept(self) -> str:
        """Why no model can be deleted now: it may be the one that is at work."""
        if self.widget.training:
            return _("A training runs; delete when it has ended.")
        return _("A segmentation runs; delete when it has ended.") if self.widget.segmenting else ""

    def _selected(self):
        rows = self.ui.modelTable.selectionModel().selectedRows()
        return self._models[rows[0].row()] if rows and rows[0].row() < len(self._models) else None

    def _onSelection(self) -> None:
        model = self._selected()
        why = "" if model else _("Select a model of the list.")
        self.enable(self.ui.exportButton, why or model.problem)
        self.enable(self.ui.deleteButton, why or self.whyKept())
        self.enable(self.ui.trainingButton, why or self._whyNoTraining(model))
        showLine(self.ui.modelDetails, _details(model) if model else "", "error" if model and model.problem else "")
        self.ui.modelTable.setVisible(bool(self._models))

    def _whyNoTraining(self, model) -> str:
        """Why the curves and previews of a model's training cannot be shown."""
        if not self.logic.isTraining(model.path):
            return _("This model came without its training.")
        return _("A training runs; look at another one when it has ended.") if self.widget.training else ""

    def _onShowTraining(self) -> None:
        self.widget.train.show(self._selected().path)
        self.ui.trainSection.collapsed = False

    def _onImport(self) -> None:
        filters = _("Model packages") + " (*.zip)"
        path = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), _("Import a model"), lastFolder(), filters)
        if path:
            rememberFolder(path)
            model = self.logic.importModel(path, self._folder)
            self.refresh(choose=model.path)
            self.say(_("Imported: {name}").format(name=model.name), "ready")

    def _onExport(self) -> None:
        model = self._selected()
        path = fileToSave(_("Export the model"), model.name, _("Model packages"), ".zip")
        if path:
            self.say(_("Saved: {path}").format(path=self.logic.exportModel(model.path, path)), "ready")

    def _onDelete(self) -> None:
        model = self._selected()
        text = _("Delete the model {name} from the disk? It cannot be brought back.")
        if slicer.util.confirmOkCancelDisplay(text.format(name=model.name)):
            self.logic.deleteModel(model.path)
            self.refresh()


def _fill(box, entries: list[tuple[str, str]], choose: str | None = None) -> None:
    """Fills a list with texts and their values; keeps the value that was chosen, if it is still there."""
    before = choose if choose is not None else box.itemData(box.currentIndex)
    box.blockSignals(True)
    box.clear()
    for text, value in entries:
        box.addItem(text, value)
    box.setCurrentIndex(max(0, box.findData(before)) if entries else -1)
    box.blockSignals(False)


def _dice(model) -> str:
    return words.number(model.about.get("validation_mean_dice"), 2)


def _inOneLine(model) -> str:
    parts = [model.name]
    if model.about.get("validation_mean_dice") is not None:
        parts.append(_("{value} Dice").format(value=_dice(model)))
    if model.about.get("training_seconds") is not None:
        parts.append(words.duration(model.about["training_seconds"]))
    return ", ".join(parts)


def _details(model) -> str:
    if model.problem:
        return model.problem
    about = model.about
    lines = [_("Structures: {names}").format(names=", ".join(model.labels.names))]
    if about.get("labeled_volumes") is not None:
        text = _("Learned from {labeled} labeled volumes of {patients} patients and {unlabeled} unlabeled ones.")
        lines.append(text.format(
            labeled=words.number(about["labeled_volumes"]),
            patients=words.number(about.get("labeled_patients")),
            unlabeled=words.number(about.get("unlabeled_volumes")),
        ))  # fmt: skip
    if about.get("training_seconds") is not None:
        lines.append(_("Trained for {time}, {steps} steps.").format(
            time=words.duration(about["training_seconds"]), steps=words.number(about.get("training_steps"))
        ))  # fmt: skip
    lines.append(str(model.path))
    return "\n".join(lines)
