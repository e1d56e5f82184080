"""The sections of the panel, a class for each: they connect controls and show states, and hold no logic."""
