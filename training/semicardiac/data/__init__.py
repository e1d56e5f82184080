"""From files to batches: cases, their checks, slices, augmentation."""
