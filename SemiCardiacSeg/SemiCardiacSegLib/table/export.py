"""From the case table to the cases of a job: nodes are written as files, files stay where they are."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..engine import process
from ..scene.nodes import arrayAndMatrix
from ..scene.segmentations import getLabels
from .case_table import DataSet, Row

FOLDER = "data"
"""Of the job folder: what was written."""

_LONGEST_NAME = 60
_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))}
"""No file may be called so on Windows."""


def writeCases(dataSet: DataSet, jobFolder: Path) -> tuple:
    """Writes the volumes, frames and labels of a data set that lie in the scene into a job folder.

    Volumes become <job>/data/<name>.nrrd, labels <name>_labels.nrrd with the source values of the label set, each whole
    or not at all. The scene stays as it is. Cases to be ignored are left out.

    Returns:
        The `semicardiac.data.cases.Case`s of the job, with unique names of ASCII letters, digits, `-`, `_` and `.`.

    Raises:
        ValueError: If the data set has an error, or the folder cannot be written; then nothing stays in it.
    """
    dataSet.requireSound()
    writer = _Writer(dataSet, Path(jobFolder).absolute() / FOLDER)
    try:
        return tuple(case for row in dataSet.rows() if row.role != "ignore" for case in writer.cases(row))
    except BaseException:
        writer.undo()
        raise


class SafeNames:
    """Makes file names, each another one, of whatever nodes are called."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def __call__(self, name: str) -> str:
        """A name of ASCII letters, digits, `-`, `_` and `.`, of which no other one's files and labels have theirs."""
        letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        plain = re.sub(r"[^0-9A-Za-z.-]+", "_", letters).strip("._-")[:_LONGEST_NAME].rstrip("._-") or "case"
        if plain.split(".")[0].upper() in _RESERVED:
            plain = f"case_{plain}"
        candidates = itertools.chain([plain], (f"{plain}_{number}" for number in itertools.count(2)))
        chosen = next(candidate for candidate in candidates if not self._files(candidate) & self._taken)
        self._taken |= self._files(chosen)
        return chosen

    @staticmethod
    def _files(name: str) -> set[str]:
        return {name.lower(), f"{name}_labels".lower()}  # some file systems do not tell upper from lower case


class _Writer:
    """Makes the cases of rows, and knows what it has written."""

    def __init__(self, dataSet: DataSet, folder: Path) -> None:
        self._dataSet = dataSet
        self._labelSet = dataSet.labelSet()
        self._accepted = dataSet.acceptedKeys()
        self._folder = folder
        self._written: list[Path] = []
        self._safeName = SafeNames()

    def cases(self, row: Row) -> Iterator:
        """The cases of a row; its nodes are written on the way."""
        process.addToPath()
        from semicardiac.data.cases import Case

        about = {"patient": row.patient, "role": row.role, "phase": row.phase or None}
        if row.kind == "volume":
            name = self._safeName(row.name)
            image, labels = self._writeVolume(name, row.volumeNode), None
            if row.role in ("labeled", "validation"):
                labels = self._writeLabels(name, row)
            yield Case(name=name, image=image, labels=labels, **about)
        elif row.kind == "sequence":
            for index in range(row.sequenceNode.GetNumberOfDataNodes()):
                if f"{row.key}/{index}" in self._accepted:
                    continue
                name = self._safeName(f"{row.name}_frame{index + 1:02d}")
                yield Case(name=name, image=self._writeVolume(name, row.sequenceNode.GetNthDataNode(index)), **about)
        else:
            for index, file in enumerate(self._dataSet.files(row.key)):
                if f"{row.key}/{index}" in self._accepted:
                    continue
                yield Case.model_validate({**about, **file, "name": self._safeName(file["name"])})

    def undo(self) -> None:
        """Removes what was written."""
        for path in self._written:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # it was never made, or holds something else
            self._folder.rmdir()

    def _writeVolume(self, name: str, volumeNode) -> Path:
        from semicardiac.images.volumes import Volume, write_volume

        path = self._newFile(f"{name}.nrrd")
        write_volume(path, Volume(*arrayAndMatrix(volumeNode)))
        return path

    def _writeLabels(self, name: str, row: Row) -> Path:
        from semicardiac.images.volumes import Volume, write_labels

        mapping = self._dataSet.mapping(row.key)
        labels = getLabels(row.segmentationNode, row.volumeNode, mapping, self._labelSet)
        path = self._newFile(f"{name}_labels.nrrd")
        write_labels(path, Volume(labels, arrayAndMatrix(row.volumeNode)[1]), self._labelSet)
        return path

    def _newFile(self, name: str) -> Path:
        self._written.append(self._folder / name)
        return self._written[-1]
