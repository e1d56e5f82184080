"""A training from its cases to its model: stages, steps, checkpoints."""
