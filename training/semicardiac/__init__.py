"""SemiCardiacSeg's engine: semi-supervised cardiac segmentation from few labeled volumes.

The method is that of Mi et al., PLOS ONE 2026, 10.1371/journal.pone.0342567: a mean-teacher U-Net with
a dynamic pseudo-label threshold map, robust entropy minimization and contrastive consistency.
Importing this package imports neither torch nor anything else heavy.
"""

__version__ = "0.1.0"
