"""Draws batches from a pool of slices; prints own memory at its peak in MB, seconds a batch, and resident memory in MB.

python -m semicardiac.bench.drawing SLICES FOLDER
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from ..config import AugmentConfig
from ..data import augment
from ..data.batches import DeviceBank, Stream
from ..data.slice_bank import SliceBank, mapped

SIDE = 192
"""Of the squares of a default training."""
BATCH, BATCHES = 4, 500
LOOK_EVERY = 50
"""Batches between two looks at the memory."""


def main(slices: int, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "images"
        with open(path, "wb") as file:
            file.truncate(slices * SIDE**2 * 2)  # of zeros, which take no room on the disk
        images = mapped(path, np.float16, (SIDE, SIDE))
        bank = DeviceBank(SliceBank(images, np.zeros((0, SIDE, SIDE), np.uint8), {}, {}, SIDE), "cpu")
        stream, generator, config = Stream(0, slices), torch.Generator().manual_seed(0), AugmentConfig()
        peak, start = [0.0, 0.0], time.process_time()
        for number in range(BATCHES):
            views = (augment.draw(config, BATCH, generator),)
            bank.batch(stream.take(BATCH, generator), views, labeled=False)
            if number % LOOK_EVERY:
                continue
            peak = [max(before, now) for before, now in zip(peak, _memory_mb(), strict=True)]
        seconds = time.process_time() - start
        print(peak[0], seconds / BATCHES, peak[1])
        del images, bank  # an open file cannot be removed everywhere


def _memory_mb() -> tuple[float, float]:
    """The process's own memory, and that with what is mapped of files, in MB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = {name: value for name, _, value in (line.partition(":") for line in status.splitlines())}
    own, resident = (float(found[name].split()[0]) / 1024 for name in ("RssAnon", "VmRSS"))
    return own, resident


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
