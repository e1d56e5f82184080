"""Translation of what the user reads: `from .i18n import tr as _`."""

from __future__ import annotations

try:
    from slicer.i18n import tr
except ImportError:  # slicer-core without Slicer's Python scripts

    def tr(text: str) -> str:
        """The text itself: there is no translator here."""
        return text


__all__ = ["tr"]
