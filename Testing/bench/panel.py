"""How long the module's panel keeps the window waiting, on the stand-in for Slicer's Qt side.

    python Testing/bench/panel.py [--rows 1000] [--checkout DIR]

Measured are an update of a long case table and the longest pauses, in which no event is handled, while sample data,
the segmented frames of a cine, and many new cases with their check come: in processor time, so that other programs do
not count. Slicer's own views, which take their time besides, are not there.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
FRAMES = 20
SEGMENTED = "phantom cine SemiCardiacSeg"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--checkout", type=Path, default=ROOT, help="the sources to measure")
    arguments = parser.parse_args()
    places = (".", "training", "SemiCardiacSeg")
    sys.path[:0] = [str(arguments.checkout.resolve() / place) for place in places]
    with tempfile.TemporaryDirectory() as folder:
        _measure(Path(folder), arguments.rows)


def _measure(folder: Path, rows: int) -> None:
    widget, beat = _panel(folder), Heartbeat()
    gc.collect()
    gc.freeze()  # PyTorch is in this process to make the model, not in Slicer's
    from SemiCardiacSegLib.tasks import sample_data

    sample_data.drawStudy()
    beat.restart()
    widget.ui.sampleDataButton.click()
    beat.wait(lambda: widget.ui.caseTable.rowCount)
    print(f"sample data: longest pause {beat.longest * 1000:.0f} ms")

    _segment_cine(folder, widget, beat)
    print(f"reading back {FRAMES} frames: longest pause {beat.longest * 1000:.0f} ms")

    _add_rows(widget, rows)
    beat.restart()
    beat.wait(lambda: widget.ui.caseTable.rowCount > rows and not widget.unchecked)
    print(f"{rows:,} more cases come into the table and are checked: longest pause {beat.longest * 1000:.0f} ms")
    again = statistics.median(_seconds(widget.update) for _ in range(5))
    print(f"an update in which nothing has changed: {again * 1000:.0f} ms")
    roles = ["unlabeled", "ignore"] * 2
    changed = statistics.median(_seconds(lambda role=role: _change_role(widget, role)) for role in roles)
    print(f"an update after one role was changed: {changed * 1000:.0f} ms")


class Heartbeat:
    """A timer by which the longest time is known in which no event was handled."""

    def __init__(self) -> None:
        import qt

        self._handle = qt.QApplication.processEvents
        self._timer = qt.QTimer()
        self._timer.setInterval(1)
        self._timer.connect("timeout()", self._beat)
        self._timer.start()
        self.restart()

    def restart(self) -> None:
        self.longest, self._last = 0.0, time.process_time()

    def wait(self, condition: Callable[[], object]) -> None:
        """Handles events until something has happened, and once more."""
        while not condition():
            self._handle()
        self._handle()
        time.sleep(0.002)
        self._handle()

    def _beat(self) -> None:
        now = time.process_time()
        self.longest, self._last = max(self.longest, now - self._last), now


def _panel(folder: Path):
    """The module's widget in a window of the stand-in, with a model of a small network in its output folder."""
    from Testing.slicer.boot import boot

    boot().temporaryPath = str(folder)
    import slicer

    from Testing.slicer import qt_standin

    qt_standin.install()
    from Testing.slicer.qt_standin import application

    application.application(folder / "settings")
    slicer.app.window = application.addMainWindow()
    slicer.app.processEvents = slicer.qt.QApplication.processEvents
    from SemiCardiacSegLib.panels.train import FOLDER
    from SemiCardiacSegLib.widget import SemiCardiacSegWidget

    from Testing.slicer.engine_jobs import workingPackage

    slicer.qt.QSettings().setValue(FOLDER, str(folder / "trainings"))
    workingPackage(folder / "trainings" / "model", {})
    widget = SemiCardiacSegWidget(slicer.ScriptedLoadableModule.makeParent())
    widget.setup()
    widget.enter()
    widget.parent.show()
    return widget


def _segment_cine(folder: Path, widget, beat: Heartbeat) -> None:
    """Segments the cine of the sample data; `beat` then knows of the time since the engine has ended."""
    import slicer

    widget.ui.inputSelector.setCurrentNode(slicer.mrmlScene.GetFirstNodeByName("phantom cine"))
    widget.ui.flipsBox.checked = False
    beat.wait(lambda: widget.ui.segmentButton.enabled)
    widget.ui.segmentButton.click()
    job = widget.segment.view.job
    while job.isAlive():
        time.sleep(0.1)
    beat.restart()
    beat.wait(lambda: slicer.mrmlScene.GetFirstNodeByName(SEGMENTED) and not widget.segmenting)


def _add_rows(widget, count: int) -> None:
    """Adds cases to the table, of which every tenth one has a segmentation."""
    from Testing.slicer.scenes import SHAPE, makeHeartSegmentation, makeVolume

    with widget.dataSet.atOnce():
        for number in range(count):
            volume = makeVolume(f"case{number:04}", np.zeros(SHAPE, np.int16))
            widget.dataSet.addVolume(volume, makeHeartSegmentation(volume) if number % 10 == 0 else None)


def _change_role(widget, role: str) -> None:
    widget.dataSet.setRole([widget.dataSet.rows()[-1].key], role)
    widget.update()


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
