"""The terminology that the extension ships, since those of Slicer have no myocardium."""

from __future__ import annotations

import json
from pathlib import Path

import slicer
import vtk

from ..i18n import tr as _

FILE = Path(__file__).resolve().parents[2] / "Resources/SegmentationCategoryTypeModifier-SemiCardiacSeg.term.json"


def loadTerminology() -> str:
    """Makes our terminology known to Slicer, unless it is already; returns its context name.

    Raises:
        RuntimeError: If Slicer cannot read it.
    """
    context = json.loads(FILE.read_text(encoding="utf-8"))["SegmentationCategoryTypeContextName"]
    logic = slicer.modules.terminologies.logic()
    names = vtk.vtkStringArray()
    logic.GetLoadedTerminologyNames(names)
    loaded = [names.GetValue(index) for index in range(names.GetNumberOfValues())]
    if context not in loaded and logic.LoadTerminologyFromFile(str(FILE)) != context:
        raise RuntimeError(_("The extension is not whole: Slicer cannot read {file}").format(file=FILE))
    return context
