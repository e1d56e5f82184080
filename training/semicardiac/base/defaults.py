"""Defaults that the help of the command line names, which must not wait for the libraries of `config`."""

from __future__ import annotations

MINUTES = 10.0
"""How long a training takes if neither minutes nor steps are given."""
