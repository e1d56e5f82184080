"""Section 1: the case table."""

from __future__ import annotations

import ctk
import qt
import slicer

from ..i18n import tr as _
from ..scene.structures import proposedMapping
from ..table.rows import ROLES
from ..table.scene_cases import findSequences, findVolumes
from ..tasks.file_nodes import FileNodes
from . import display, words
from .case_dialog import CaseDialog
from .mapping_dialog import MappingDialog
from .match_dialog import MatchDialog
from .panel import Panel, ignoreWheel, lastFolder, rememberFolder
from .structures_dialog import StructuresDialog

CASE, SEGMENTATION, ROLE, SPACING, STATUS = range(5)
"""Columns of the table."""
_AT_ONCE = 10
"""So many new rows of the table are filled before other events are handled: each has a list of its own."""


class DataPanel(Panel):
    """Fills the table, shows its problems, and offers to fix them."""

    message = "dataMessage"

    drawing = False
    """Whether sample data are being made."""

    def setup(self) -> None:
        ui = self.ui
        self._keys: list[str] = []
        self._filled: dict[str, tuple] = {}
        self._rows: dict = {}
        self._problems: dict[str, list] = {}
        self._dialog = None
        self._unreadable = ""
        self._files: FileNodes | None = None
        for button in (ui.addSceneButton, ui.addFilesButton, ui.addFolderButton, ui.addSequenceButton):
            button.setIcon(qt.QIcon(str(words.ICONS / "add.svg")))
        self.onClick(ui.addSceneButton, self._onAddScene)
        self.onClick(ui.addFilesButton, self._onAddFiles, wait=False)
        self.onClick(ui.addFolderButton, self._onAddFolder, wait=False)
        self.onClick(ui.addSequenceButton, self._onAddSequence)
        self.onClick(ui.removeButton, self._onRemove)
        self.onClick(ui.sampleDataButton, self._onSampleData)
        self.onClick(ui.fixButton, self._onFix)
        self.onClick(ui.matchButton, self._onMatch, wait=False)
        self.onClick(ui.labelSetButton, self._onEditStructures)
        ui.labelSetBox.connect("activated(int)", self._onLabelSet)
        ignoreWheel(ui.labelSetBox)

        table = ui.caseTable
        header = table.horizontalHeader()
        for column in (CASE, SEGMENTATION):
            header.setSectionResizeMode(column, qt.QHeaderView.Stretch)
        for column, width in ((ROLE, 100), (SPACING, 44), (STATUS, 26)):
            header.setSectionResizeMode(column, qt.QHeaderView.Fixed)
            table.setColumnWidth(column, width)
        table.verticalHeader().setDefaultSectionSize(26)
        table.setContextMenuPolicy(qt.Qt.CustomContextMenu)
        table.connect("customContextMenuRequested(QPoint)", self._onContextMenu)
        table.connect("cellClicked(int,int)", self._onCellClicked)
        table.connect("cellDoubleClicked(int,int)", self._onDoubleClick)
        table.connect("itemSelectionChanged()", self._onSelection)

    def update(self) -> None:
        dataSet = self.dataSet if self.widget.ready else None
        rows = self.widget.rows
        self._rows = {row.key: row for row in rows}
        self._problems = {row.key: [] for row in rows}
        for problem in self.widget.problems:
            if problem.key:
                self._problems[problem.key].append(problem)
        self._fillTable(rows)
        self.ui.caseTable.setVisible(bool(rows))
        self.ui.sampleDataButton.setVisible(not rows)
        self.ui.removeButton.setVisible(bool(rows))
        self.ui.fixButton.setVisible(bool(self._fixable()))
        self.ui.matchButton.setVisible(bool(dataSet and dataSet.unmatchedSegmentations(rows)))
        self.ui.caseSummary.setText(dataSet.summary(rows) if dataSet else "")
        self._fillLabelSets(dataSet)
        self._showUnreadable()
        self._onSelection()

    def forget(self) -> None:
        self._files = None
        self.cleanup()

    def cleanup(self) -> None:
        if self._dialog is not None:
            self._dialog.reject()

    def _showUnreadable(self) -> None:
        """Closes the section to the user while the table of the scene cannot be read."""
        ui, why = self.ui, self.widget.unreadable
        for control in (
            ui.addSceneButton, ui.addFilesButton, ui.addFolderButton, ui.addSequenceButton, ui.sampleDataButton,
            ui.labelSetBox, ui.labelSetButton,
        ):  # fmt: skip
            self.enable(control, why)
        if why != self._unreadable:
            self._unreadable = why
            self.say(why, "error")

    # ----- the table

    def _fillTable(self, rows) -> None:
        """Shows the rows: fills those that are new, a few at a time, and those that have changed."""
        table = self.ui.caseTable
        keys = [row.key for row in rows]
        for index in reversed(range(len(self._keys))):
            if self._keys[index] not in self._rows:
                table.removeRow(index)  # which may ask for the keys of the selected rows
                self._filled.pop(self._keys.pop(index), None)
        if self._keys != keys[: len(self._keys)]:
            self._keys, self._filled = [], {}
            table.setRowCount(0)
        new = keys[len(self._keys) :][:_AT_ONCE]
        for key in new:
            index = len(self._keys)
            self._keys.append(key)
            table.insertRow(index)
            for column in (CASE, SEGMENTATION, SPACING, STATUS):
                table.setItem(index, column, qt.QTableWidgetItem())
            table.setCellWidget(index, ROLE, self._roleBox(key))
        for index, row in enumerate(rows[: len(self._keys)]):
            shown = (row, *self._status(row.key))
            if self._filled.get(row.key) != shown:
                self._filled[row.key] = shown
                self._fillRow(index, *shown)
        if len(self._keys) < len(keys):
            self.widget.updateSoon()

    def _fillRow(self, index: int, row, level: str, why: str) -> None:
        table = self.ui.caseTable
        segmentation = _segmentationOf(row)
        ending = _(" segmentation")  # the column's title says so already
        shownName = segmentation.removesuffix(ending) or segmentation
        name = f"{row.name} {row.phase}" if row.phase and row.phase not in row.name else row.name
        tip = "\n".join(
            filter(None, (name, _("Patient {name}").format(name=row.patient), row.sizeText, row.spacingText))
        )
        for column, text in ((CASE, name), (SEGMENTATION, shownName), (SPACING, row.spacingText.split(" ")[0])):
            table.item(index, column).setText(text)
            table.item(index, column).setToolTip(tip if column != SEGMENTATION else segmentation)
        table.item(index, SPACING).setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
        table.item(index, STATUS).setIcon(qt.QIcon(words.icon(level)))
        table.item(index, STATUS).setToolTip(why)
        box = table.cellWidget(index, ROLE)
        box.blockSignals(True)
        box.setCurrentIndex(ROLES.index(row.role))
        box.blockSignals(False)

    def _roleBox(self, key: str):
        box = ctk.ctkComboBox()
        ignoreWheel(box)
        box.setFrame(False)
        box.addItems([words.role(role) for role in ROLES])
        box.setToolTip(_("What the case is for. With several rows selected, all of them change."))
        box.connect("currentIndexChanged(int)", lambda index, key=key: self._onRole(key, ROLES[index]))
        return box

    def _status(self, key: str) -> tuple[str, str]:
        """The level of a case's icon, and the reason in words."""
        if key in self.widget.unchecked:
            return "unknown", _("This case has not been checked yet.")
        problems = self._problems[key]
        if not problems:
            return "ready", _("Nothing is wrong with this case.")
        level = "error" if any(problem.level == "error" for problem in problems) else "warning"
        hint = "\n" + _("Click to fix it.") if any(problem.fix for problem in problems) else ""
        return level, "\n".join(problem.text for problem in problems) + hint

    def _selectedKeys(self) -> list[str]:
        rows = {index.row() for index in self.ui.caseTable.selectionModel().selectedRows()}
        return [self._keys[row] for row in sorted(rows)]

    def _onSelection(self) -> None:
        none = _("Select the cases in the table that are to be removed.")
        self.enable(self.ui.removeButton, "" if self._selectedKeys() else none)

    def _onRole(self, key: str, role: str) -> None:
        selected = self._selectedKeys()
        self._filled.pop(key, None)  # shows the role that it has, also where it cannot be changed
        with self.attempt():
            self.dataSet.setRole(selected if key in selected else [key], role)

    def _onCellClicked(self, index: int, column: int) -> None:
        if column == STATUS and self._problems[self._keys[index]]:
            self.popup(self.ui.caseTable, self._fixActions(self._keys[index]))

    def _onDoubleClick(self, index: int, column: int) -> None:
        with self.attempt():
            self._show(self._rows[self._keys[index]])

    def _onContextMenu(self, position) -> None:
        index = self.ui.caseTable.rowAt(position.y())
        if index < 0:
            return
        key = self._keys[index]
        keys = self._selectedKeys() if key in self._selectedKeys() else [key]
        row = self._rows[key]
        actions = [(_("Show in the slice views"), lambda: self._show(row)), *self._fixActions(key)]
        if row.kind != "pool":
            actions.append((_("Patient, phase, segmentation…"), lambda: self._openDetails(row)))
        if row.segmentationNode is not None and row.segmentationNode.IsA("vtkMRMLSegmentationNode"):
            actions.append((_("Choose the structures…"), lambda: self._map(row)))
        remove = _("Remove from the table ({count})").format(count=len(keys))
        self.popup(self.ui.caseTable, [*actions, (remove, lambda: self.dataSet.remove(keys))])

    def _open(self, dialog) -> None:
        """Opens a dialog over the window, which lives until it is answered."""
        self._dialog = dialog

        def onFinished(result: int) -> None:
            dialog.dialog.deleteLater()
            if self._dialog is dialog:
                self._dialog = None

        dialog.dialog.connect("finished(int)", onFinished)
        dialog.open()

    def _openDetails(self, row) -> None:
        self._open(CaseDialog(slicer.util.mainWindow(), self.dataSet, row, self.widget.update))

    def _show(self, row) -> None:
        if row.volumeNode is not None:
            self.widget.views.showVolume(row.volumeNode, row.segmentationNode)
        elif row.sequenceNode is not None:
            self.widget.views.showSequence(row.sequenceNode)
        elif row.kind == "file":
            if self._files is None:
                self._files = FileNodes(self.dataSet)
            self.widget.views.showVolume(*self._files.of(row))
        else:
            self.say(_("{name} cannot be shown: add its files to the scene first.").format(name=row.name))

    # ----- fixing

    def _fixActions(self, key: str) -> list:
        texts = {"harden": _("Harden a copy"), "resample": _("Resample the labels"), "map": _("Choose the structures…")}
        return [
            (f"{texts[problem.fix]}: {problem.text}", lambda problem=problem: self._fix(key, problem))
            for problem in self._problems[key]
            if problem.fix
        ]

    def _fixable(self) -> list:
        """The errors that can be fixed, each with the key of its case."""
        pairs = [(key, problem) for key, problems in self._problems.items() for problem in problems]
        return [(key, problem) for key, problem in pairs if problem.fix and problem.level == "error"]

    def _fix(self, key: str, problem) -> None:
        if problem.fix == "map":
            self._map(self._rows[key])
        else:
            self.dataSet.fix(key, problem)

    def _onFix(self) -> None:
        """Fixes all that needs no answer; asks for the structures of the first case that needs one."""
        found = self._fixable()
        for key, problem in found:
            if problem.fix != "map":
                self.dataSet.fix(key, problem)
        unmapped = next((key for key, problem in found if problem.fix == "map"), None)
        if unmapped is not None:
            self._map(self._rows[unmapped])

    def _map(self, row) -> None:
        def onAccept(mapping, forAll: bool) -> None:
            with self.attempt():
                (self.dataSet.setMappingOfAlike if forAll else self.dataSet.setMapping)(row.key, mapping)

        labelSet, node = self.dataSet.labelSet(), row.segmentationNode
        mapping = self.dataSet.mapping(row.key) or proposedMapping(node, labelSet)
        alike = len(self.dataSet.alike(row.key))
        self._open(MappingDialog(slicer.util.mainWindow(), node, labelSet, mapping, alike, onAccept))

    # ----- structures

    def _fillLabelSets(self, dataSet) -> None:
        box = self.ui.labelSetBox
        box.clear()
        if dataSet is None:
            return
        box.addItem(_("ACDC: RV, myocardium, LV"), "acdc")
        box.addItem(_("MM-WHS: whole heart, 7 structures"), "mmwhs")
        labelSet = dataSet.labelSet()
        if box.findData(labelSet.name) < 0:
            box.addItem(f"{labelSet.name}: {', '.join(labelSet.names)}", labelSet.name)
        box.setCurrentIndex(box.findData(labelSet.name))

    def _onLabelSet(self, index: int) -> None:
        name = self.ui.labelSetBox.itemData(index)
        with self.attempt():
            if name != self.dataSet.labelSet().name:
                self.dataSet.setLabelSet(name)

    def _onEditStructures(self) -> None:
        self._open(StructuresDialog(slicer.util.mainWindow(), self.dataSet.labelSet(), self._onStructuresChanged))

    def _onStructuresChanged(self, labelSet) -> None:
        self.dataSet.setLabelSet(labelSet)
        self.widget.update()

    # ----- adding and removing

    def _onAddScene(self) -> None:
        added = self.dataSet.addScene()
        volumes, refused = findVolumes()
        if refused:
            more = _("{count} others were left out, too.").format(count=len(refused) - 1) if refused[1:] else ""
            self.say(f"{refused[0]} {more}".strip(), "warning")
        elif not volumes and not findSequences():
            self.say(_("There is no volume in the scene. Load some, or add files or a folder."))
        else:
            self._sayIfNothing(added, _("All volumes of the scene are in the table already."))
        if unmatched := self.dataSet.unmatchedSegmentations():
            names = ", ".join(node.GetName() for node in unmatched[:3]) + (", …" if unmatched[3:] else "")
            text = _("Segmentations that belong to no case: {count} ({names}). Click Match… to say whose they are.")
            self.say(text.format(count=len(unmatched), names=names), "warning")

    def _onMatch(self) -> None:
        """Asks which cases the segmentations belong to that were matched with none."""

        def onAccept(chosen: dict) -> None:
            with self.attempt(), self.dataSet.atOnce():
                for node, key in chosen.items():
                    self.dataSet.setSegmentation(key, node)

        rows = [row for row in self.dataSet.rows() if row.volumeNode is not None and row.segmentationNode is None]
        unmatched = self.dataSet.unmatchedSegmentations()
        self._open(MatchDialog(slicer.util.mainWindow(), unmatched, rows, onAccept))

    def _onAddFiles(self) -> None:
        filters = _("Volumes") + " (*.nii *.nii.gz *.nrrd *.nhdr *.mha *.mhd);;" + _("All files") + " (*)"
        window = slicer.util.mainWindow()
        self._addPaths(qt.QFileDialog.getOpenFileNames(window, _("Add volumes"), lastFolder(), filters))

    def _onAddFolder(self) -> None:
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Add a data set"), lastFolder())
        self._addPaths([folder] if folder else [])

    def _addPaths(self, paths) -> None:
        if paths:
            rememberFolder(paths[0])
            self._sayIfNothing(self.dataSet.addPaths(list(paths)), _("These are in the table already."))

    def _onAddSequence(self) -> None:
        found, known = findSequences(), {row.sequenceNode for row in self.dataSet.rows()}
        nodes = [node for node in found if node not in known]
        if not found:
            raise ValueError(_("There is no sequence of volumes in the scene. Load a cine first."))
        if not nodes:
            self.say(_("All sequences of the scene are in the table already."))
        elif len(nodes) == 1:
            self.dataSet.addSequence(nodes[0])
        else:
            actions = [(node.GetName(), lambda node=node: self.dataSet.addSequence(node)) for node in nodes]
            self.popup(self.ui.caseTable, actions)

    def _onSampleData(self) -> None:
        self.say(_("Drawing phantom hearts…"), "running")
        self.drawing = True  # Slicer stays usable for half a minute: nothing else must begin
        self.widget.update()
        try:
            first = self.logic.addSampleData()[0]
        finally:
            self.drawing = False
        if self.parameters is not None:  # else the user has gone to another module, whose views these are now
            for cine in findSequences()[-1:]:
                display.chooseBrowser(cine)
            self.widget.views.showVolume(first.volumeNode, first.segmentationNode)
            self.parameters.minutes = 2
        self.say(_("Sample data are in the table. Open the next section and click Train: two minutes are enough."))
        self.ui.trainSection.collapsed = False

    def _onRemove(self) -> None:
        self.dataSet.remove(self._selectedKeys())

    def _sayIfNothing(self, added, nothing: str) -> None:
        if not added:
            self.say(nothing)


def _segmentationOf(row) -> str:
    """What the table shows of a case's labels."""
    if row.segmentationNode is not None:
        return row.segmentationNode.GetName()
    return row.labelsPath.name if row.labelsPath else row.segmentationName or words.DASH
