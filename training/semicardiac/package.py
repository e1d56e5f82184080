"""Model packages: what is in them, whether they are whole, and how they are sent; all of it without PyTorch.

A package is a folder with these files, or a zip of them: the weights as safetensors, `config.json`, a card, the
licence, and checksums. A job folder stands for the package that the training left in it, `model`.

To list models: `open_package(path)` for each, then `name`, `labels`, `about` (provenance and metrics) and `settings`.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from . import __version__
from .config import parse
from .errors import UserError
from .files import atomic_path, output_folder, read_json
from .labels import LabelSet

FORMAT = 1
"""Version of config.json. It rises when an older engine could not use a newer model."""
WEIGHTS, SETTINGS, CARD, LICENCE, CHECKSUMS = (
    "model.safetensors", "config.json", "README.md", "LICENSE.txt", "SHA256SUMS",
)  # fmt: skip
CONTENT = (WEIGHTS, SETTINGS, CARD, LICENCE)
"""What the checksums are of."""
MODEL = "model"
"""The folder of the package in a job folder."""

_KEYS = {"format", "version", "config", "labels", "locator", "heart_area_mm2", "about"}
_FILE_MAX = 4 << 30
"""Bytes that no file of a package has; a zip that promises more is no model."""


@dataclass(frozen=True)
class Package:
    """A package that is there; whether it is whole, `verify` says.

    Attributes:
        place: The folder or the zip.
    """

    place: Path

    @property
    def name(self) -> str:
        """That of the zip or the folder; for the model in a job, that of the job."""
        if self.place.is_dir():
            return (self.place.parent if self.place.name == MODEL else self.place).name
        return self.place.stem

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What config.json holds: format, version, config, labels, locator, heart_area_mm2 and about.

        Raises:
            UserError: If it cannot be read, lacks something, or was written by a newer version.
        """
        try:
            settings = json.loads(self.read(SETTINGS))
        except ValueError:
            settings = None
        if not isinstance(settings, dict):
            raise UserError(f"{SETTINGS} is not readable", where=self.place, hint="Get the package again")
        if settings.get("format", 0) > FORMAT:
            what = f"this model was written by a newer version ({settings.get('version')}; this is {__version__})"
            raise UserError(what, where=self.place, hint="Update SemiCardiacSeg")
        if missing := sorted(_KEYS - settings.keys()):
            what = f"{SETTINGS} tells no {', '.join(missing)}"
            raise UserError(what, where=self.place, hint="Get the package again")
        return settings

    @cached_property
    def labels(self) -> LabelSet:
        """The structures that the model segments.

        Raises:
            UserError: As `settings`, and if the label set is not valid.
        """
        return parse(LabelSet, self.settings["labels"], where=f"{self.place}: {SETTINGS}: labels")

    @property
    def about(self) -> dict[str, Any]:
        """Provenance and metrics: how many cases of which role, steps, seconds, device, validation Dice.

        Raises:
            UserError: As `settings`.
        """
        return self.settings["about"]

    def read(self, name: str) -> bytes:
        """The content of one of the package's files.

        Raises:
            UserError: If it is missing, or the zip is damaged.
        """
        try:
            if self.place.is_dir():
                return (self.place / name).read_bytes()
            with zipfile.ZipFile(self.place) as archive:
                # Who zips a folder by hand gets the folder's name before that of each file.
                members = [item for item in archive.infolist() if item.filename.rpartition("/")[2] == name]
                member = min(members, key=lambda item: len(item.filename))
                if member.file_size > _FILE_MAX:
                    raise ValueError
                return archive.read(member)
        except (KeyError, ValueError, RuntimeError, EOFError, OSError, zipfile.BadZipFile, zlib.error):
            what = f"{name} is missing from the model package or damaged"
            raise UserError(what, where=self.place, hint="Get the package again") from None

    def verify(self) -> None:
        """Compares every file with its checksum.

        Raises:
            UserError: For the first file that is missing or is not what it was when the model was saved.
        """
        lines = self.read(CHECKSUMS).decode("utf-8", "replace").splitlines()
        digests = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        for name in CONTENT:
            if hashlib.sha256(self.read(name)).hexdigest() != digests.get(name):
                what = f"{name} is not what it was when the model was saved"
                raise UserError(what, where=self.place, hint="The package is damaged or was edited; get it again")


def open_package(path: Path) -> Package:
    """The package at a path: a package folder, a zip of one, or the folder of a finished job.

    Raises:
        UserError: If it is none of these.
    """
    path = Path(path)
    hint = "Name a job folder or a model package (folder or zip)"
    if path.is_dir():
        for folder in (path / MODEL, path):
            if (folder / SETTINGS).exists():
                return Package(folder)
        if (path / "job.json").exists():
            is_training = read_json(path / "job.json").get("kind") == "train"
            hint = "This training has not finished; resume it first" if is_training else "This job is not a training"
        raise UserError("there is no model here", where=path, hint=hint)
    if not path.exists():
        raise UserError("there is no such model", where=path, hint=hint)
    if not zipfile.is_zipfile(path) or path.suffix == ".pt":  # a checkpoint is a zip file, too
        raise UserError("this is not a model package", where=path, hint=hint)
    return Package(path)


def write_zip(package: Package, path: Path) -> None:
    """Packs a package into one file to send, whole or not at all; a file of this name is replaced.

    Raises:
        UserError: If the package is not whole, the disk is full or the place is not writable.
    """
    package.verify()
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (*CONTENT, CHECKSUMS):
            archive.writestr(name, package.read(name))


def import_package(package: Package, folder: Path) -> Package:
    """Copies a package, such as a zip from somebody else, into a new or empty folder.

    Only the files of a package are taken, under their own names: whatever else a zip holds, and wherever it says that
    its files belong, nothing is written elsewhere.

    Raises:
        UserError: If the package is not whole or from a newer version, or the folder holds anything or is not writable.
    """
    package.verify()
    _ = package.settings  # or an error
    output_folder(folder)
    for name in (*CONTENT, CHECKSUMS):  # the checksums last: without them a folder is no whole package
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(package.read(name))
    return Package(Path(folder))
