"""The method: pseudo-labels, losses and the teacher."""
