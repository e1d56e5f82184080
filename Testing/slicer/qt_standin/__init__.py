"""A stand-in for the Qt side of Slicer, on PySide6: just enough of it to run this module's panel in tests.

Slicer's user interface is reached through PythonQt, and its widgets (ctk, qMRML) are written in C++; neither can be
had outside the application. Here PySide6 is made to answer as PythonQt does (`pythonqt`), the few ctk and qMRML widgets
of our panel are written anew in a few lines each (`widgets`), and so are the parameter node wrapper and the base
classes of scripted modules. `slicer.util` is Slicer's own.

What it does not show: the look of Slicer's own widgets and style, Segment Editor, views and their layout, renderings,
the order in which the application calls a module, PythonQt's conversions beyond the named ones, Qt 5.
"""

from __future__ import annotations

import os
import sys

import slicer
import slicer.util


def install() -> None:
    """Makes `import qt`, `import ctk` and Slicer's Python modules of the Qt side find the stand-in."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from Testing.slicer.qt_standin import ctk, parameter_node_wrapper, qt, scripted_module, widgets

    sys.modules["qt"] = slicer.qt = qt
    sys.modules["ctk"] = slicer.ctk = ctk
    sys.modules["slicer.parameterNodeWrapper"] = slicer.parameterNodeWrapper = parameter_node_wrapper
    sys.modules["slicer.ScriptedLoadableModule"] = slicer.ScriptedLoadableModule = scripted_module
    for widgetClass in widgets.QMRML:
        setattr(slicer, widgetClass.__name__, widgetClass)
