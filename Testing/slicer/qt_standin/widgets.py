"""Stand-ins for the ctk and qMRML widgets of the panel: their properties, methods and signals that our code uses.

They look like plain Qt widgets, not like Slicer's.
"""

from __future__ import annotations

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from Testing.slicer.qt_standin import pythonqt  # noqa: F401 - changes PySide6 before any class is derived from it

_HEADER = 26
"""Height of the title of a collapsible section, in pixels."""


class _Collapsible(QtWidgets.QWidget):
    """A title that shows and hides what lies below it."""

    contentsCollapsed = QtCore.Signal(bool)
    SIGNALS = ("contentsCollapsed(bool)",)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._collapsed = False
        self._text = ""
        self.setContentsMargins(0, _HEADER, 0, 0)

    def _isCollapsed(self):
        return self._collapsed

    def setCollapsed(self, collapsed):
        self._collapsed = collapsed
        # The contents are cut off, not hidden: a child that the panel hides stays hidden.
        self.setMaximumHeight(_HEADER if collapsed else 16777215)
        self.updateGeometry()
        self.contentsCollapsed.emit(collapsed)

    def _getText(self):
        return self._text

    def _setText(self, text):
        self._text = text
        self.update()

    collapsed = QtCore.Property(bool, _isCollapsed, setCollapsed)
    text = QtCore.Property(str, _getText, _setText)

    def minimumSizeHint(self):
        hint = super().minimumSizeHint()
        return QtCore.QSize(hint.width(), _HEADER) if self._collapsed else hint

    def mousePressEvent(self, event):
        if event.position().y() < _HEADER:
            self.setCollapsed(not self._collapsed)

    def paintEvent(self, event):
        painter = QtWidgets.QStylePainter(self)
        header = QtCore.QRect(0, 0, self.width, _HEADER - 2)
        if self._filled:
            shade = self.palette.windowText().color()
            shade.setAlpha(28)
            painter.setPen(QtCore.Qt.PenStyle.NoPen)
            painter.setBrush(shade)
            painter.drawRoundedRect(header, 3, 3)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(6, 6, 12, 12)
        primitives = QtWidgets.QStyle.PrimitiveElement
        primitive = primitives.PE_IndicatorArrowRight if self._collapsed else primitives.PE_IndicatorArrowDown
        painter.drawPrimitive(primitive, arrow)
        group = QtGui.QPalette.ColorGroup.Active if self.enabled else QtGui.QPalette.ColorGroup.Disabled
        painter.setPen(self.palette.color(group, QtGui.QPalette.ColorRole.ButtonText))
        flags = QtCore.Qt.AlignmentFlag.AlignVCenter | QtCore.Qt.AlignmentFlag.AlignLeft
        painter.drawText(header.adjusted(24, 0, 0, 0), flags, self._text)


class ctkCollapsibleButton(_Collapsible):
    _filled = True


class ctkCollapsibleGroupBox(_Collapsible):
    _filled = False
    title = QtCore.Property(str, _Collapsible._getText, _Collapsible._setText)


class ctkComboBox(QtWidgets.QComboBox):
    """A combo box that can be made to leave the mouse wheel alone, and to elide what is too long for it."""

    NeverScroll, AlwaysScroll = range(2)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._wheel = self.AlwaysScroll
        self._elide = QtCore.Qt.TextElideMode.ElideNone

    scrollWheelEffect = QtCore.Property(
        int, lambda self: self._wheel, lambda self, value: self.__dict__.update(_wheel=value)
    )

    elideMode = QtCore.Property(
        QtCore.Qt.TextElideMode, lambda self: self._elide, lambda self, value: self.__dict__.update(_elide=value)
    )

    def shownText(self):
        """The part of the text that is drawn."""
        option = QtWidgets.QStyleOptionComboBox()
        self.initStyleOption(option)
        complexControl, field = QtWidgets.QStyle.ComplexControl, QtWidgets.QStyle.SubControl
        place = self.style().subControlRect(complexControl.CC_ComboBox, option, field.SC_ComboBoxEditField, self)
        return self.fontMetrics().elidedText(option.currentText, self._elide, place.width() - 4)

    def paintEvent(self, event):
        painter, option = QtWidgets.QStylePainter(self), QtWidgets.QStyleOptionComboBox()
        self.initStyleOption(option)
        option.currentText = self.shownText()
        painter.drawComplexControl(QtWidgets.QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_ComboBoxLabel, option)

    def wheelEvent(self, event):
        if self._wheel == self.NeverScroll:
            event.ignore()
        else:
            super().wheelEvent(event)


class ctkPathLineEdit(QtWidgets.QWidget):
    """A line for a path, and a button that opens a dialog in Slicer."""

    currentPathChanged = QtCore.Signal(str)
    SIGNALS = ("currentPathChanged(QString)",)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._line, button = QtWidgets.QLineEdit(), QtWidgets.QToolButton()
        button.setText("…")
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._line)
        layout.addWidget(button)
        self._line.textChanged.connect(self.currentPathChanged)

    def _getPath(self):
        return self._line.text

    def setCurrentPath(self, path):
        self._line.setText(path)

    currentPath = QtCore.Property(str, _getPath, setCurrentPath)


class qMRMLWidget(QtWidgets.QWidget):
    mrmlSceneChanged = QtCore.Signal(object)
    SIGNALS = ("mrmlSceneChanged(vtkMRMLScene*)",)

    def setMRMLScene(self, scene):
        self.mrmlSceneChanged.emit(scene)


class qMRMLNodeComboBox(QtWidgets.QWidget):
    """A list of the scene's nodes of some classes."""

    currentNodeChanged = QtCore.Signal(object)
    SIGNALS = ("currentNodeChanged(vtkMRMLNode*)",)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._combo = QtWidgets.QComboBox()
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Fixed)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self._scene, self._types, self._none, self._observers = None, (), False, []
        self._combo.currentIndexChanged.connect(lambda: self.currentNodeChanged.emit(self.currentNode()))

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        for tag in self._observers:
            self._scene.RemoveObserver(tag)
        self._scene = scene
        events = (
            slicer.vtkMRMLScene.NodeAddedEvent,
            slicer.vtkMRMLScene.NodeRemovedEvent,
            vtk.vtkCommand.ModifiedEvent,
        )
        events += (slicer.vtkMRMLScene.EndCloseEvent,)
        self._observers = [scene.AddObserver(event, lambda caller, name: self._fill()) for event in events]
        self._observers.append(scene.AddObserver(slicer.vtkMRMLScene.EndImportEvent, lambda *_: self._fillAnew()))
        self._fill()

    def _fillAnew(self):
        """Slicer's loses its node when a scene is imported: its list is emptied, and filled again."""
        self.setCurrentNode(None)
        self._fill()

    def _fill(self):
        before = self.currentNodeID
        self._combo.blockSignals(True)
        self._combo.clear()
        if self._none:
            self._combo.addItem("None", "")
        for name in self._types:
            for node in slicer.util.getNodesByClass(name):
                if not node.GetHideFromEditors():
                    self._combo.addItem(node.GetName(), node.GetID())
        at = self._combo.findData(before)
        self._combo.setCurrentIndex(max(at, 0))
        self._combo.blockSignals(False)
        if self.currentNodeID != before:
            self.currentNodeChanged.emit(self.currentNode())

    def currentNode(self):
        return self._scene.GetNodeByID(self.currentNodeID) if self._scene and self.currentNodeID else None

    def setCurrentNode(self, node):
        if node is not None and not isinstance(node, vtk.vtkObject):
            raise TypeError("method requires a VTK object")
        self.setCurrentNodeID(node.GetID() if node else "")

    def setCurrentNodeID(self, nodeID):
        self._fill()  # names may have changed
        self._combo.setCurrentIndex(self._combo.findData(nodeID or ""))

    def nodeCount(self):
        return self._combo.count - bool(self._none)

    def _getTypes(self):
        return tuple(self._types)

    def _setTypes(self, types):
        self._types = tuple(types)
        if self._scene:
            self._fill()

    currentNodeID = property(lambda self: self._combo.itemData(self._combo.currentIndex) or "")
    nodeTypes = QtCore.Property("QStringList", _getTypes, _setTypes)
    noneEnabled = QtCore.Property(bool, lambda self: self._none, lambda self, value: self.__dict__.update(_none=value))
    noneDisplay = QtCore.Property(str, lambda self: "", lambda self, value: None)
    addEnabled = QtCore.Property(bool, lambda self: False, lambda self, value: None)
    removeEnabled = QtCore.Property(bool, lambda self: False, lambda self, value: None)
    renameEnabled = QtCore.Property(bool, lambda self: False, lambda self, value: None)


class qMRMLSegmentationShow3DButton(QtWidgets.QPushButton):
    """Makes the closed surfaces of a segmentation when it is pressed down."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._node = None
        self.setText("Show 3D")
        self.setCheckable(True)
        self.setEnabled(False)
        self.toggled.connect(self._show)

    def setSegmentationNode(self, node):
        self._node = node
        self.setEnabled(node is not None)

    def segmentationNode(self):
        return self._node

    def _show(self, on):
        if self._node and on:
            self._node.CreateClosedSurfaceRepresentation()
        if self._node and self._node.GetDisplayNode():
            self._node.GetDisplayNode().SetVisibility3D(on)


CTK = (ctkCollapsibleButton, ctkCollapsibleGroupBox, ctkComboBox, ctkPathLineEdit)
QMRML = (qMRMLWidget, qMRMLNodeComboBox, qMRMLSegmentationShow3DButton)
