"""What the sections of the panel share."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from pathlib import Path

import ctk
import qt
import slicer

from ..i18n import tr as _
from .words import richText


class Panel:
    """A section of the panel.

    `setup` connects its controls, once; `update` shows what is; `poll` looks, twice a second, at what runs in the
    background; `forget` drops what belongs to a scene that closes; `cleanup` ends what would outlive the panel.

    Args:
        widget: The module's widget, which has the `ui`, the `logic`, the `parameters`, and the other sections.
    """

    message: str
    """Name of the label that tells what went wrong in this section."""

    def __init__(self, widget) -> None:
        self.widget = widget
        self.ui = widget.ui
        self.logic = widget.logic
        self._tips: dict[str, str] = {}
        self._menu = None

    @property
    def parameters(self):
        """The wrapped parameter node; None while the scene closes."""
        return self.widget.parameters

    @property
    def dataSet(self):
        """The case table of the scene."""
        return self.widget.dataSet

    def setup(self) -> None:
        pass

    def update(self) -> None:
        pass

    def poll(self) -> None:
        pass

    def forget(self) -> None:
        pass

    def cleanup(self) -> None:
        pass

    def say(self, text: str, level: str = "info") -> None:
        """Shows a line in this section; an empty one hides it."""
        showLine(getattr(self.ui, self.message), text, level)

    def onClick(self, button, action, *, wait: bool = True) -> None:
        """Runs `action` when a button is clicked; without the hourglass if it asks the user something."""

        def onClicked() -> None:
            with self.attempt(wait=wait):
                action()

        button.connect("clicked()", onClicked)

    @contextmanager
    def attempt(self, *, wait: bool = True):
        """For what a control does: what goes wrong is told in a line of this section, not in a dialog."""
        self.say("")
        if wait:
            qt.QApplication.setOverrideCursor(qt.QCursor(qt.Qt.WaitCursor))
        try:
            yield
        except (ValueError, RuntimeError, OSError) as error:
            self.say(str(error), "error")
        except Exception as error:
            logging.exception("SemiCardiacSeg")
            text = _("This should not have happened: {error}. The Python console shows more.")
            self.say(text.format(error=f"{type(error).__name__}: {error}"), "error")
        finally:
            if wait:
                qt.QApplication.restoreOverrideCursor()
        self.widget.update()

    def popup(self, parent, actions) -> None:
        """Shows a menu of texts and what each does."""
        if self._menu is not None:
            self._menu.deleteLater()
        self._menu = qt.QMenu(parent)
        for text, function in actions:
            self._onTrigger(self._menu.addAction(text), function)
        self._menu.popup(qt.QCursor.pos())

    def _onTrigger(self, action, function) -> None:
        """Runs `function` when an action of a menu is chosen."""

        def onTriggered() -> None:
            with self.attempt():
                function()

        action.connect("triggered()", onTriggered)

    def discard(self, view) -> None:
        """Deletes the files of a view's job if they are temporary: copies of patients' images are among them."""
        if (job := view.release()) is not None:
            self.logic.discardResults(job)

    def enable(self, button, why: str = "", line=None) -> None:
        """Enables a button, or disables it and says why, in its tooltip and in a line."""
        tip = self._tips.setdefault(button.objectName, button.toolTip)
        button.setEnabled(not why)
        button.setToolTip(why or tip)
        if line is not None:
            showLine(line, why, "unknown")


FOLDER_SETTING = "SemiCardiacSeg/lastFolder"
"""The user's setting with the folder of the last file that was opened or saved."""


def lastFolder() -> str:
    """Where dialogs for files begin; an empty text before the first."""
    return slicer.util.settingsValue(FOLDER_SETTING, "")


def rememberFolder(path: str) -> None:
    """Has the next dialog begin where a file or folder was chosen."""
    qt.QSettings().setValue(FOLDER_SETTING, str(Path(path).parent))


def fileToSave(title: str, name: str, kind: str, suffix: str) -> str:
    """Asks for a file to write, whose name then ends as it should; an empty text if the user wants none.

    The dialog does not offer to replace a file: none is ever overwritten, as whoever writes it then says.
    """
    dialog = qt.QFileDialog(slicer.util.mainWindow(), title, lastFolder(), f"{kind} (*{suffix})")
    dialog.setAcceptMode(qt.QFileDialog.AcceptSave)
    dialog.setOption(qt.QFileDialog.DontConfirmOverwrite, True)
    dialog.selectFile(f"{name}{suffix}")
    path = dialog.selectedFiles()[0] if dialog.exec_() else ""
    dialog.deleteLater()
    if path:
        rememberFolder(path)
    return path if not path or path.lower().endswith(suffix) else f"{path}{suffix}"


def ignoreWheel(box) -> None:
    """Keeps the mouse wheel, with which the user moves through the panel, from choosing something in a ctkComboBox."""
    box.scrollWheelEffect = ctk.ctkComboBox.NeverScroll


def showLine(label, text: str, level: str = "info") -> None:
    """Shows a text with the icon of its level; an empty one hides the label."""
    label.setText(richText(text, level) if text else "")
    label.setVisible(bool(text))
