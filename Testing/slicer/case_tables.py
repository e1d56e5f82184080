"""What the case table of the panel shows, and how a user works in it."""

from __future__ import annotations

CASE, SEGMENTATION, ROLE, SPACING, STATUS = range(5)


def texts(widget, column: int) -> list[str]:
    table = widget.ui.caseTable
    return [table.item(row, column).text() for row in range(table.rowCount)]


def roles(widget) -> list[str]:
    table = widget.ui.caseTable
    return [table.cellWidget(row, ROLE).currentText for row in range(table.rowCount)]


def why(widget, row: int) -> str:
    return widget.ui.caseTable.item(row, STATUS).toolTip()


def choose(widget, *rows: int) -> None:
    import qt

    table = widget.ui.caseTable
    table.clearSelection()
    for row in rows:
        flags = qt.QItemSelectionModel.Select | qt.QItemSelectionModel.Rows
        table.selectionModel().select(table.model().index(row, 0), flags)


def menu(panel) -> dict:
    """The actions of the menu that is open, by their texts."""
    return {action.text: action for action in panel._menu.actions()}
