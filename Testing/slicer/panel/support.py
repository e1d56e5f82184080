"""The panel of the module, driven on the stand-in for Slicer's Qt side."""

from __future__ import annotations

import os
import time
from pathlib import Path

MODULE = Path(__file__).resolve().parents[3] / "SemiCardiacSeg"
UI = MODULE / "Resources/UI/SemiCardiacSeg.ui"
PICTURES = os.environ.get("SEMICARDIAC_PICTURES")
"""A folder; where it is named, tests leave pictures of the panel in it."""


def settle() -> None:
    """Lets pending events of Qt happen, the delayed update of the panel among them."""
    from Testing.slicer.qt_standin.application import settle

    settle()
    time.sleep(0.06)
    settle()


def follow(widget, condition, seconds: float = 120.0) -> None:
    """Lets the panel's clock tick until something has happened."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it has not happened in time"
        settle()


def shown(widget, name: str) -> bool:
    """Whether a control would be seen if its section were open."""
    return not getattr(widget.ui, name).isHidden()


def line(widget, name: str) -> str:
    """The text of a label without its markup; empty if it is hidden."""
    import qt

    label = getattr(widget.ui, name)
    if label.isHidden():
        return ""
    document = qt.QTextDocument()
    document.setHtml(label.text)
    return document.toPlainText().replace("\ufffc", "").strip()


def answerSaveDialog(monkeypatch, path) -> None:
    """Has the next dialogs for a file to write answered with a path."""
    import qt

    def accept(dialog):
        dialog.selectFile(str(path))
        return True

    monkeypatch.setattr(qt.QFileDialog, "exec_", accept)


def photograph(widget, name: str) -> None:
    """Leaves pictures of the panel, light and dark, where the environment variable SEMICARDIAC_PICTURES says."""
    if not PICTURES:
        return
    from Testing.slicer.qt_standin import application

    for theme in ("light", "dark"):
        application.setTheme(theme == "dark")
        application.picture(widget.parent, Path(PICTURES) / f"panel_{name}_{theme}.png")
    application.setTheme(False)
