"""Supervised training on the labeled slices alone: what every method is compared with."""

from __future__ import annotations

from .method import Method


class Supervised(Method):
    """Never leaves the warm-up."""
