"""The engine seen from Slicer: its processes, its jobs, and what it needs to run."""
