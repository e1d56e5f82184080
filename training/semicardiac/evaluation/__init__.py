"""Segmentations compared with a reference, and clinical measures."""
