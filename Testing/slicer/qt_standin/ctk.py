"""Stand-in for Slicer's module `ctk`: the widgets that our panel uses."""

from .widgets import CTK

globals().update({widgetClass.__name__: widgetClass for widgetClass in CTK})
