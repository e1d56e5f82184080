"""Synthetic hearts with exact labels, to try everything without a patient's data."""
