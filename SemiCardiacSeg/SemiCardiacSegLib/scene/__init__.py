"""What is in the scene: volumes, segmentations, cines, views, and their structures."""
