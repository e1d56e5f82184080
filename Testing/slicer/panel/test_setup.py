"""The line on top of the panel: what is installed, and the button that installs the rest."""

from __future__ import annotations

import pytest

from Testing.slicer.panel.support import follow, line, photograph, shown

SECTIONS = ("data", "train", "segment", "measure", "improve", "models")


@pytest.fixture
def incomplete(slicerQt, monkeypatch):
    """A Slicer without PyTorch; the installation prints two lines and waits until the test lets it end."""
    from SemiCardiacSegLib.engine import installation

    class Installation(installation.Polled):
        wanted = "go on"

        def _work(self):
            self._lines.append("Collecting torch")
            while self.wanted == "go on":
                yield
            if self.wanted == "fail":
                raise ValueError("There is no network. Connect the computer, and set up again.")
            if self.wanted == "surprise":
                raise KeyError(self.wanted)
            monkeypatch.setattr(installation, "status", lambda: installation.Status(True, [], "2.13", "PyTorch 2.13"))

    missing = installation.Status(False, ["torch>=2.5"], None, "Not installed: torch>=2.5")
    monkeypatch.setattr(installation, "status", lambda: missing)
    monkeypatch.setattr(installation, "install", Installation)
    monkeypatch.setattr(slicerQt.util, "confirmOkCancelDisplay", lambda text: True)
    return Installation


def test_without_pytorch_all_else_is_closed_to_the_user(incomplete, makeWidget):
    widget = makeWidget()
    assert line(widget, "setupText").startswith("Not installed: torch>=2.5")
    assert widget.ui.setupButton.text == "Set up…"
    assert not any(getattr(widget.ui, f"{name}Section").enabled for name in SECTIONS)
    photograph(widget, "incomplete")


def test_nothing_is_installed_without_a_question(incomplete, makeWidget, slicerQt, monkeypatch):
    widget = makeWidget()
    asked = []
    monkeypatch.setattr(slicerQt.util, "confirmOkCancelDisplay", lambda text: asked.append(text))
    widget.ui.setupButton.click()
    assert "torch>=2.5" in asked[0]
    assert widget.setupLine.work is None


def test_installing_shows_what_happens_and_ends_ready(incomplete, makeWidget):
    widget = makeWidget()
    widget.ui.setupButton.click()
    follow(widget, lambda: line(widget, "setupMessage") == "Collecting torch")
    assert widget.ui.setupButton.text == "Cancel"
    assert shown(widget, "setupProgress")
    incomplete.wanted = "end"
    follow(widget, lambda: line(widget, "setupText").startswith("Ready"))
    assert all(getattr(widget.ui, f"{name}Section").enabled for name in SECTIONS)
    assert not shown(widget, "setupButton")
    assert line(widget, "setupMessage") == ""  # the line above says what is there


def test_a_failed_installation_says_what_to_do(incomplete, makeWidget):
    widget = makeWidget()
    incomplete.wanted = "fail"
    widget.ui.setupButton.click()
    follow(widget, lambda: "no network" in line(widget, "setupMessage"))
    assert widget.ui.setupButton.text == "Set up…"
    assert widget.ui.setupButton.enabled


def test_an_unexpected_error_while_it_installs_is_a_failure_that_is_told(incomplete, makeWidget):
    widget = makeWidget()
    incomplete.wanted = "surprise"
    widget.ui.setupButton.click()
    follow(widget, lambda: widget.setupLine.work is None)
    assert line(widget, "setupMessage") == "KeyError: 'surprise'"
    assert line(widget, "setupText").startswith("Not installed")


def test_cancel_gives_the_installation_up(incomplete, makeWidget):
    widget = makeWidget()
    widget.ui.setupButton.click()
    widget.ui.setupButton.click()
    follow(widget, lambda: widget.setupLine.work is None)
    assert line(widget, "setupMessage") == "Stopped"
    assert widget.ui.setupButton.text == "Set up…"


def test_the_device_is_shown_when_it_is_known(widget):
    follow(widget, lambda: line(widget, "setupText") == "Ready: PyTorch 2.13, CPU, 16 cores")
