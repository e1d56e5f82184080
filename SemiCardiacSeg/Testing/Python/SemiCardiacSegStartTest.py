"""What must be there as soon as Slicer has started with the module, before anything is installed for it."""

import re
import unittest

import slicer
from SemiCardiacSegLib.engine import process
from SemiCardiacSegLib.scene import terminology


class SemiCardiacSegStartTest(unittest.TestCase):
    def test_thePanelOpens(self):
        assert slicer.util.getModuleWidget("SemiCardiacSeg") is not None

    def test_theLogicIsFound(self):
        assert hasattr(slicer.util.getModuleLogic("SemiCardiacSeg"), "startTraining")

    def test_theEngineIsBesideTheModule(self):
        assert (process.packageFolder() / "pyproject.toml").is_file()
        assert re.fullmatch(r"\d+\.\d+\.\d+", process.version())

    def test_theTerminologyHasTheMyocardium(self):
        context = terminology.loadTerminology()
        entry = slicer.vtkSlicerTerminologyEntry()
        logic = slicer.modules.terminologies.logic()
        assert logic.FindTypeInTerminologyBy3dSlicerLabel(context, "LV myocardium", entry)
        assert entry.GetTypeObject().GetCodeValue() == "74281007"
