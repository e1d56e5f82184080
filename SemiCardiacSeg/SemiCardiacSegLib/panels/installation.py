"""The line on top: what is installed, and the button that installs the rest."""

from __future__ import annotations

import qt
import slicer

from ..engine import installation
from ..i18n import tr as _
from .panel import Panel
from .words import icon


class SetupPanel(Panel):
    """Checks on entering what is installed; asks a process of its own for the device."""

    message = "setupMessage"

    def setup(self) -> None:
        self.status = None
        self.work = None
        self._installing = False
        self._device = ""
        self.onClick(self.ui.setupButton, self._onSetup, wait=False)
        self.check()

    @property
    def ready(self) -> bool:
        """Whether the engine can run."""
        return self.status is not None and self.status.ready

    def check(self) -> None:
        """Looks what is installed, and once asks for the device."""
        self.status = installation.status()
        if self.status.ready and not self._device and self.work is None:
            self.work = installation.probeDevice()

    def update(self) -> None:
        busy = self.work is not None
        if self.status is None:
            level, text = "unknown", _("Not checked yet")
        elif self._installing:
            level, text = "running", _("Installing; Slicer stays usable")
        elif self.status.ready:
            level, text = "ready", _("Ready: {what}").format(what=self._device or self.status.text)
        else:
            level = "warning"
            text = _("{status}\nThe sections below open when it is installed.").format(status=self.status.text)
        self.ui.setupIcon.setPixmap(qt.QIcon(icon(level)).pixmap(16, 16))
        self.ui.setupText.setText(text)
        self.ui.setupText.setToolTip(text)
        self.ui.setupProgress.setVisible(self._installing)
        self.ui.setupProgress.setRange(0, 0)
        self.ui.setupButton.setVisible(not self.ready or self._installing)
        self.ui.setupButton.setText(_("Cancel") if self._installing else _("Set up…"))
        self.enable(self.ui.setupButton, _("It is being looked which device there is.") if busy and self.ready else "")

    def poll(self) -> None:
        if self.work is None:
            return
        lines = self.work.poll()
        if self._installing and lines:
            self.say(lines[-1], "info")
        if self.work.state == "running":
            return
        work, self.work = self.work, None
        if self._installing:
            self._installing = False
            self.say(work.text, "info" if work.state == "done" else "error")
            self.check()
        elif work.state == "done":
            self._device = work.text
        else:
            self._device = self.status.text
            self.say(work.text, "warning")
        self.widget.update()

    def cleanup(self) -> None:
        if self.work is not None:
            self.work.stop()

    def _onSetup(self) -> None:
        if self._installing:
            self.work.stop()
            return
        self.check()
        if self.ready:
            return
        text = _(
            "These packages will be downloaded and installed into Slicer:\n\n{names}\n\nThis can take some minutes."
        )
        if slicer.util.confirmOkCancelDisplay(text.format(names="\n".join(self.status.missing))):
            self.work, self._installing = installation.install(), True
