"""The module as 3D Slicer finds it. What it does is in SemiCardiacSegLib, what it computes in the engine."""

import logging
import sys
import tempfile
import unittest
from pathlib import Path

import slicer
from SemiCardiacSegLib.engine import installation
from SemiCardiacSegLib.logic import SemiCardiacSegLogic as Logic
from SemiCardiacSegLib.scene.terminology import loadTerminology
from SemiCardiacSegLib.tasks.sample_data import registerSampleData
from SemiCardiacSegLib.widget import SemiCardiacSegWidget as Widget
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
)

HOMEPAGE = "https://github.com/SemiCardiacSeg/SlicerSemiCardiacSeg"


class SemiCardiacSeg(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = "SemiCardiacSeg"
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation"), _("Cardiac")]
        parent.dependencies = [
            "Plots",
            "Segmentations",
            "Sequences",
            "SubjectHierarchy",
            "Tables",
            "Terminologies",
            "Volumes",
        ]
        parent.contributors = ["The SemiCardiacSeg contributors"]
        parent.helpText = _(
            "Segments the heart in MRI and CT. Label a few volumes, add those that nobody had the time to label, train"
            " a model on this computer, and segment and measure other volumes and cines with it."
            '<p>The <a href="{homepage}#tutorial">tutorial</a> begins with sample data: you need none of yours.'
            "<p>Nothing is sent anywhere. Research software, not for clinical use."
        ).format(homepage=HOMEPAGE)
        parent.acknowledgementText = _(
            "The method is that of Mi et al., <i>Dynamic thresholding and robust contrastive techniques for enhanced"
            " semi-supervised cardiac segmentation</i>, PLOS ONE 21(4): e0342567 (2026),"
            ' <a href="{method}">doi:10.1371/journal.pone.0342567</a>. It was developed and measured on the ACDC data'
            ' of Bernard et al., IEEE TMI 37(11) (2018), <a href="{data}">doi:10.1109/TMI.2018.2837502</a>.'
            " Cite the first where you publish results, and the second where you train on ACDC."
        ).format(method="https://doi.org/10.1371/journal.pone.0342567", data="https://doi.org/10.1109/TMI.2018.2837502")
        slicer.app.connect("startupCompleted()", onStartupCompleted)


def onStartupCompleted() -> None:
    """Terminology and sample data, now that all modules are there. A failure is logged; Slicer starts all the same."""
    try:
        loadTerminology()
    except Exception:
        logging.exception("SemiCardiacSeg: the terminology is not available")
    try:
        registerSampleData(Path(__file__).parent / "Resources" / "Icons")
    except Exception:
        logging.exception("SemiCardiacSeg: the sample data are not available")


class SemiCardiacSegWidget(Widget):
    """The panel."""

    def onReload(self) -> None:
        """Developer mode: Slicer reloads this file; what it imports of the library is then read anew as well."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "SemiCardiacSegLib"]:
            del sys.modules[name]
        super().onReload()


class SemiCardiacSegLogic(Logic, ScriptedLoadableModuleLogic):
    """All that the panel does, from the Python console or a script."""


SMALL = (
    "network.widths=[4,8,8]", "locate.widths=[4,8]", "locate.steps_max=20", "preprocess.crop=64",
    "schedule.preview_every=1",
)  # fmt: skip
"""Settings of a training that takes seconds, and learns little."""


class SemiCardiacSegTest(ScriptedLoadableModuleTest):
    """The whole way on the sample data, in the real application."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        """What "Reload and Test" does."""
        self.setUp()
        try:
            self.test_sampleData()
        except unittest.SkipTest as reason:
            self.delayDisplay(str(reason))

    def test_sampleData(self):
        """Trains for a few steps, segments a volume, and measures the segmentation."""
        status = installation.status()
        if not status.ready:  # tests install nothing
            self.skipTest(f"Training and segmentation are not tested: {status.text}")
        logic = SemiCardiacSegLogic()
        self.delayDisplay("Drawing phantom hearts")
        rows = logic.addSampleData()
        assert not [problem for problem in logic.dataSet().allProblems() if problem.level == "error"]
        labeled = next(row for row in rows if row.role == "labeled")
        with tempfile.TemporaryDirectory() as folder:
            self.delayDisplay("Training for a few steps")
            model = logic.train(f"{folder}/training", steps=10, device="cpu", settings=SMALL)
            self.delayDisplay("Segmenting")
            segmentation = logic.segment(model, labeled.volumeNode, device="cpu", flips=False)
        structures = logic.dataSet().labelSet().names
        segments = segmentation.GetSegmentation()
        names = [segments.GetNthSegment(index).GetName() for index in range(segments.GetNumberOfSegments())]
        assert names == structures
        self.delayDisplay("Measuring")
        assert logic.volumesTable([segmentation]).GetNumberOfRows() == 1
        comparison = logic.compare(segmentation, labeled.segmentationNode, labeled.volumeNode)
        assert comparison.GetNumberOfRows() == len(structures)
        self.delayDisplay("Test passed")
