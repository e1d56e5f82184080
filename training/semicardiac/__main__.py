"""`python -m semicardiac`, or this file by its path: the same as the command `semicardiac`."""

import sys
from pathlib import Path

if not __package__:  # started by its path, as Slicer does: the folder above holds the package
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from semicardiac.cli import main

if __name__ == "__main__":
    sys.exit(main())
