"""A question before Slicer closes while a training runs."""

from __future__ import annotations

from collections.abc import Callable

import qt
import slicer

from ..i18n import tr as _


class QuitGuard(qt.QObject):
    """Watches the main window from `install` to `remove`.

    Args:
        isTraining: Whether a training runs now.
    """

    def __init__(self, isTraining: Callable[[], bool]) -> None:
        qt.QObject.__init__(self)
        self._isTraining = isTraining

    def install(self) -> None:
        """Begins to watch the main window, where there is one."""
        if (window := slicer.util.mainWindow()) is not None:
            window.installEventFilter(self)

    def remove(self) -> None:
        """Watches it no more."""
        if (window := slicer.util.mainWindow()) is not None:
            window.removeEventFilter(self)

    def eventFilter(self, watched, event) -> bool:
        """Keeps the window open if the user prefers that to a training that pauses."""
        if event.type() != qt.QEvent.Close or not self._isTraining():
            return False
        text = _(
            "A training is running. If Slicer closes, it saves its state and stops. Nothing is lost: "
            '"Resume last run" continues it.\n\nClose Slicer?'
        )
        if slicer.util.confirmOkCancelDisplay(text):
            return False
        event.ignore()
        return True
