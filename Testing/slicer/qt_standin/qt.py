"""Stand-in for Slicer's module `qt`: the names of QtCore, QtGui and QtWidgets in one."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ElementTree

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from Testing.slicer.qt_standin import pythonqt, widgets


def __getattr__(name: str):
    for module in (QtWidgets, QtGui, QtCore):
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(f"module 'qt' has no attribute '{name}'")


class QUiLoader:
    """Loads a .ui file with the stand-in's widgets; makes its connections, which in C++ need no Python."""

    def load(self, file):
        tree = ElementTree.parse(io.BytesIO(bytes(file.readAll())))
        root = tree.getroot()
        connections = list(root.iter("connection"))
        for section in root.findall("connections"):
            root.remove(section)
        for parent in root.iter():  # enumerations of ctk and qMRML classes are unknown here
            for entry in [child for child in parent if child.tag == "property" and _foreign(child)]:
                parent.remove(entry)

        loader = QtUiTools.QUiLoader()
        for widgetClass in (*widgets.CTK, *widgets.QMRML):
            loader.registerCustomWidget(widgetClass)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        pythonqt.loading = True
        widget = loader.load(buffer)
        pythonqt.loading = False
        for connection in connections:
            sender, signal, receiver, slot = (
                connection.findtext(tag) for tag in ("sender", "signal", "receiver", "slot")
            )
            target = getattr(_child(widget, receiver), slot.partition("(")[0])
            if not _child(widget, sender).connect(signal, target):
                raise RuntimeError(f"{sender} has no signal {signal}")
        return widget


def _foreign(entry) -> bool:
    return any((value.text or "").startswith(("ctk", "qMRML")) for value in entry if value.tag in ("set", "enum"))


def _child(widget, name: str):
    return widget if widget.objectName == name else widget.findChild(QtCore.QObject, name)
