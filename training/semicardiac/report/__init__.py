"""A page that shows a training, its results or a segmentation."""
