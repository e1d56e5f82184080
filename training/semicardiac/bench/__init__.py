"""What the engine costs, as figures of one run that can be compared between machines and versions."""
