"""Stand-in for Slicer's module `ctk`: the widgets that our panel uses."""

from Testing.slicer.qt_standin.widgets import CTK

globals().update({widgetClass.__name__: widgetClass for widgetClass in CTK})
