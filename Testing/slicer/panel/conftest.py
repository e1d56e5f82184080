"""The module's panel on the stand-in for Slicer's Qt side, new for each test."""

from __future__ import annotations

import pytest

from Testing.slicer.panel.support import settle
from Testing.slicer.panel.trainings import Training


@pytest.fixture
def slicerQt(scene, tmp_path):
    """`slicer` with its Qt side: a main window, settings and documents of the test alone."""
    pytest.importorskip("PySide6", reason="needs PySide6-Essentials")
    import slicer

    from Testing.slicer import qt_standin

    qt_standin.install()
    from Testing.slicer.qt_standin import application, pythonqt

    application.application(tmp_path / "settings")
    window = application.addMainWindow()
    pythonqt.slotErrors.clear()
    yield slicer
    while (
        popup := slicer.qt.QApplication.activePopupWidget()
    ) is not None:  # a menu that was left open takes all events
        popup.close()
    window.close()
    assert not pythonqt.slotErrors, pythonqt.slotErrors[0]


class KnownDevice:
    """The answer of `installation.probeDevice` without the process that asks PyTorch, which takes seconds."""

    state = "done"
    text = "PyTorch 2.13, CPU, 16 cores"

    def poll(self):
        return []

    def stop(self):
        pass


@pytest.fixture
def makeWidget(slicerQt, tmp_path, monkeypatch):
    """Makes the module's widget as Slicer does when the module is first shown; cleans up after the test."""
    from SemiCardiacSegLib.engine import installation
    from SemiCardiacSegLib.panels.train import FOLDER
    from SemiCardiacSegLib.widget import SemiCardiacSegWidget

    monkeypatch.setattr(installation, "probeDevice", KnownDevice)
    slicerQt.qt.QSettings().setValue(FOLDER, str(tmp_path / "trainings"))
    made = []

    def make():
        widget = SemiCardiacSegWidget(slicerQt.ScriptedLoadableModule.makeParent())
        made.append(widget)
        widget.setup()
        widget.enter()
        settle()
        return widget

    yield make
    for widget in made:
        widget.cleanup()
        widget.parent.deleteLater()
    settle()


@pytest.fixture
def widget(makeWidget):
    """The module's widget."""
    return makeWidget()


@pytest.fixture
def withModel(widget):
    """The widget, with a package in its output folder: of a small network that knows nothing yet."""
    from Testing.slicer.engine_jobs import workingPackage
    from Testing.slicer.results import ABOUT

    workingPackage(widget.train.folder() / "training-1", ABOUT)
    widget.models.refresh()
    widget.update()
    return widget


@pytest.fixture
def study(widget, scene):
    """Four volumes, the first two with a segmentation, in the table."""
    from Testing.slicer.scenes import makeHeartSegmentation, makeVolume

    volumes = [makeVolume(f"patient{number:02}_ED", seed=number) for number in range(4)]
    for volume in volumes[:2]:
        makeHeartSegmentation(volume, f"{volume.GetName()} heart")
    widget.ui.addSceneButton.click()
    settle()
    return volumes


@pytest.fixture
def training(slicerQt, tmp_path):
    """A training that the user started last, in an earlier Slicer."""
    from SemiCardiacSegLib.panels.train import LAST

    made = Training(tmp_path / "trainings" / "training-1")
    slicerQt.qt.QSettings().setValue(LAST, str(made.folder))
    yield made
    made.end()
