"""Images and labels of cases for several consumers, one after the other: most files are read and unpacked once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..base.errors import UserError
from ..images.image_files import DETACHED, Stamp, stamp_of
from ..images.labels import LabelSet
from ..images.seg_nrrd import SUFFIX as SEGMENTATION_SUFFIX
from ..images.volumes import Volume, pick_frame, read_labels, read_series
from .cases import Case
from .splits import Role

ROOM = 1 << 26
"""Bytes of voxels that are kept at most: those of some twenty labeled volumes of ACDC. A larger pool takes no more."""


Key = tuple[object, ...]
"""What was read, and how."""


class _Read(NamedTuple):
    """What was read, and by what one sees that its files have changed since."""

    stamp: Stamp
    frames: Sequence[Volume]

    @property
    def size(self) -> int:
        """Bytes of its voxels."""
        return sum(frame.array.nbytes for frame in self.frames)


class _Own(threading.local):
    """What belongs to a thread."""

    last: tuple[Key, _Read] | None = None
    """The file that it has read last, if that is not kept."""


class CaseReader:
    """Reads cases, for several threads if need be, and keeps what it has read while there is room and no file changes.

    What is kept stays, since consumers go through all cases in one order: in a pool larger than the room, what was
    read longest ago is what comes next. Unlabeled images, of which there may be thousands, take half of the room at
    most. Beyond that each thread keeps the file that it read last: many cases may be frames of it.

    Args:
        room: Bytes of voxels to keep at most.

    Attributes:
        kept: Bytes of voxels that are kept, but for the files that were read last.
    """

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._kept: dict[Key, _Read] = {}
        self.kept = 0
        self._keeping = threading.Lock()
        self._own = _Own()

    def image(self, case: Case) -> Volume:
        """The image of a case, whose array is not to be changed.

        Raises:
            UserError: As `volumes.read_volume`.
        """
        path = case.image
        key, stamp = (path,), _stamp(path)
        if (known := self._known(key, stamp)) is None:
            self._own.last = None  # its memory is free before the next file is read
            known = _Read(stamp, read_series(path))
            if not self._keep(key, known, path, case.role):
                self._own.last = key, known
        return pick_frame(known.frames, case.frame, path)

    def labels(self, case: Case, label_set: LabelSet) -> Volume:
        """The training labels of a case that has labels; the array is not to be changed.

        Raises:
            UserError: If it has none, or as `volumes.read_labels`.
        """
        path = case.labels
        if path is None:
            raise UserError("this case has no labels", where=case.name, hint="Name its label file")
        grid = self.image(case) if path.name.lower().endswith(SEGMENTATION_SUFFIX) else None
        key, stamp = (path, case.frame, case.image, label_set), _stamp(path)
        if (known := self._known(key, stamp)) is None:
            known = _Read(stamp, [read_labels(path, label_set, frame=case.frame, grid=grid)])
            self._keep(key, known, path, case.role)
        return known.frames[0]

    def clear(self) -> None:
        """Frees the memory."""
        self._kept.clear()
        self.kept = 0
        self._own.last = None

    def _known(self, key: Key, stamp: Stamp) -> _Read | None:
        """What was read before, if the files are still the same."""
        last = self._own.last
        known = last[1] if last is not None and last[0] == key else self._kept.get(key)
        return known if known is not None and known.stamp == stamp else None

    def _keep(self, key: Key, new: _Read, path: Path, role: Role) -> bool:
        """Keeps what was read, if there is room for it and a change of its files would be seen."""
        for frame in new.frames:
            frame.array.flags.writeable = False
        room = self._room // 2 if role == "unlabeled" else self._room
        with self._keeping:
            if (old := self._kept.pop(key, None)) is not None:
                self.kept -= old.size
            fits = path.suffix.lower() not in DETACHED and self.kept + new.size <= room
            if fits:
                self._kept[key] = new
                self.kept += new.size
        return fits


def _stamp(path: Path) -> Stamp:
    try:
        return stamp_of(path)
    except OSError:  # reading it says what is wrong
        return ()
