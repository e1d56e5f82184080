"""Volumes in patient coordinates, read from and written to files, and what their labels mean."""
