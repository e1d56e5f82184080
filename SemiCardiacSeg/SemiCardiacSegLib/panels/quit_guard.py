"""A question before Slicer closes while a training runs."""

from __future__ import annotations

from collections.abc import Callable

import qt
import slicer

from ..i18n import tr as _


class QuitGuard(qt.QObject):
    """Watches the main window from `install` to `remove`, and asks once for each attempt to quit.

    On macOS an attempt may close the window twice: by its own event and by that of the application, which also Slicer
    itself has to expect. The second event comes either in the same turn of the event loop, or when the window that the
    first one has closed is hidden already; what comes while the question is open is part of the attempt, too.

    Args:
        isTraining: Whether a training runs now.
    """

    def __init__(self, isTraining: Callable[[], bool]) -> None:
        qt.QObject.__init__(self)
        self._isTraining = isTraining
        self._mayClose: bool | None = None
        self._agreed = False

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
        isClosed = self._agreed and not watched.visible
        if not isClosed and self._mayClose is None:
            self._ask()
        if isClosed or self._mayClose:
            return False
        event.ignore()
        return True

    def _ask(self) -> None:
        """Asks whether to quit; the answer holds until the event loop goes around."""
        text = _(
            "A training is running. If Slicer closes, it saves its state and stops. Nothing is lost: "
            '"Resume last run" continues it.\n\nClose Slicer?'
        )
        self._mayClose = False  # while the question is open
        self._mayClose = self._agreed = bool(slicer.util.confirmOkCancelDisplay(text))
        qt.QTimer.singleShot(0, self._forget)

    def _forget(self) -> None:
        self._mayClose = None
