"""Model packages: what is in them, whether they are whole, and how they are sent; all of it without PyTorch.

A package is a folder with these files, or a zip of them: the weights as safetensors, `config.json`, a card, the
licence, and checksums. A job folder stands for the package that the training left in it, `model`.

To list models: `open_package(path)` for each, then `name`, `labels`, `about` (provenance and metrics) and `settings`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Generator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, field_validator

from .. import __version__
from ..base.errors import UserError
from ..base.files import atomic_path, output_folder
from ..base.settings import parse
from ..base.swap import present
from ..config import TrainConfig, upgrade
from ..images.labels import LabelSet
from .container import AGAIN, chunks
from .tensor_file import Header, read_header

FORMAT = 2
"""Version of config.json. It rises when an older engine could not use a newer model."""
WEIGHTS, SETTINGS, CARD, LICENCE, CHECKSUMS = (
    "model.safetensors", "config.json", "README.md", "LICENSE.txt", "SHA256SUMS",
)  # fmt: skip
CONTENT = (SETTINGS, CARD, LICENCE, WEIGHTS)
"""What the checksums are of; the weights last, since they take longest to read."""
MODEL = "model"
"""The folder of the package in a job folder."""
LARGEST = {WEIGHTS: 1 << 30, SETTINGS: 1 << 18, CARD: 1 << 20, LICENCE: 1 << 20, CHECKSUMS: 1 << 16}
"""Bytes that a file of a package may have: hundreds of times what it usually has, and no danger to the memory."""

_NUMBERS = (
    "labeled_volumes", "unlabeled_volumes", "validation_volumes", "labeled_patients",
    "training_steps", "training_seconds", "validation_mean_dice",
)  # fmt: skip
"""Entries of `about` that programs reckon with."""
_TEXT_MAX, _NUMBER_MAX = 2000, 1e15

_Area = Annotated[StrictFloat | StrictInt, Field(ge=0, le=1e9)]


class Settings(BaseModel):
    """What config.json holds.

    Attributes:
        format: See `FORMAT`.
        version: Of the engine that wrote it.
        config: Of the training.
        labels: The structures that the model segments.
        locator: Whether the weights hold a locator.
        heart_area_mm2: Plausible areas of the heart when all slices are looked through, lowest and highest.
        about: Provenance and metrics: how many cases of which role, steps, seconds, device, validation Dice.
    """

    model_config = ConfigDict(frozen=True)

    format: StrictInt = Field(ge=1)
    version: str = Field(pattern=r"^[0-9A-Za-z.+-]{1,40}$")
    config: TrainConfig
    labels: LabelSet
    locator: StrictBool
    heart_area_mm2: tuple[_Area, _Area]
    about: dict[str, Any] = Field(max_length=200)

    @field_validator("heart_area_mm2")
    @classmethod
    def _ordered(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        if bounds[0] > bounds[1]:
            raise ValueError(f"the first of {bounds[0]:g} and {bounds[1]:g} must be the lower one")
        return bounds

    @field_validator("about")
    @classmethod
    def _plain(cls, about: dict[str, Any]) -> dict[str, Any]:
        for name, value in about.items():
            if isinstance(value, int | float):
                fits = abs(value) <= _NUMBER_MAX
            else:
                fits = value is None or (isinstance(value, str) and len(value) <= _TEXT_MAX and name not in _NUMBERS)
            if not fits or len(name) > _TEXT_MAX:
                wanted = "a number" if name in _NUMBERS else "a short text or a number"
                raise ValueError(f"{name[:60]!r} must be {wanted}")
        return about


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
        if present(self.place).is_dir():
            return (self.place.parent if self.place.name == MODEL else self.place).name
        return self.place.stem

    @cached_property
    def settings(self) -> Settings:
        """What config.json holds.

        Raises:
            UserError: If it cannot be read, a field is missing or wrong, or it was written by a newer version.
        """
        try:
            data = json.loads(self.read(SETTINGS))
        except UserError:
            raise
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise UserError(f"{SETTINGS} is not readable", where=self.place, hint=AGAIN)
        if isinstance(data.get("format"), int) and data["format"] > FORMAT:
            known = re.fullmatch(r"[0-9A-Za-z.+-]{1,40}", str(data.get("version")))
            what = f"this model was written by a newer version ({known[0] if known else '?'}; this is {__version__})"
            raise UserError(what, where=self.place, hint="Update SemiCardiacSeg")
        if missing := sorted(Settings.model_fields.keys() - data.keys()):
            raise UserError(f"{SETTINGS} tells no {', '.join(missing)}", where=self.place, hint=AGAIN)
        data = {**data, "config": upgrade(data["config"])}
        return parse(Settings, data, where=f"{self.place}: {SETTINGS}")

    @property
    def labels(self) -> LabelSet:
        """The structures that the model segments. Raises as `settings`."""
        return self.settings.labels

    @property
    def about(self) -> dict[str, Any]:
        """Provenance and metrics, see `Settings`. Raises as `settings`."""
        return self.settings.about

    def chunks(self, name: str, most: int | None = None) -> Generator[bytes, None, None]:
        """The content of one of the package's files, a megabyte at a time.

        Args:
            name: Of the file.
            most: Bytes that it may have, where that is known; `LARGEST` at any rate.

        Raises:
            UserError: If it is missing, larger than a package's file can be, or damaged.
        """
        largest = LARGEST[name] if most is None else min(most, LARGEST[name])
        return chunks(present(self.place), name, largest, SETTINGS)

    def read(self, name: str, most: int | None = None) -> bytes:
        """The whole content of one of the package's files; as `chunks`."""
        return b"".join(self.chunks(name, most))

    def tensors(self) -> Header:
        """What the weights' file tells of itself.

        Raises:
            UserError: As `chunks`, and if it holds no weights.
        """
        blocks = self.chunks(WEIGHTS)
        header = read_header(next(blocks, b""))
        blocks.close()
        if header is None:
            what = f"{WEIGHTS} is not what it was when the model was saved: it holds no weights"
            raise UserError(what, where=self.place, hint=AGAIN)
        return header

    def digests(self) -> dict[str, str]:
        """The SHA-256 that each file had when the model was saved."""
        lines = self.read(CHECKSUMS).decode("utf-8", "replace").splitlines()
        return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}

    def verify(self) -> dict[str, str]:
        """Compares every file with its checksum.

        Returns:
            The checksums, as `digests`.

        Raises:
            UserError: For the first file that is missing or is not what it was when the model was saved.
        """
        digests = self.digests()
        try:
            for name in CONTENT:
                digest = hashlib.sha256()
                for block in self.chunks(name, self.tensors().size if name == WEIGHTS else None):
                    digest.update(block)
                require_digest(self, name, digest.hexdigest(), digests)
        except UserError:
            if self.digests() == digests:
                raise
            return self.verify()  # a successor took its place meanwhile
        return digests


def require_digest(package: Package, name: str, digest: str, digests: dict[str, str]) -> None:
    """Makes sure that a file of a package is what it was when the model was saved.

    Raises:
        UserError: If it is not.
    """
    if digest != digests.get(name):
        what = f"{name} is not what it was when the model was saved"
        raise UserError(what, where=package.place, hint="The package is damaged or was edited; get it again")


def open_package(path: Path) -> Package:
    """The package at a path: a package folder, a zip of one, or the folder of a finished job.

    Raises:
        UserError: If it is none of these.
    """
    path = Path(path)
    hint = "Name a job folder or a model package (folder or zip)"
    if os.path.isdir(present(path)):
        for folder in (path / MODEL, path):
            if os.path.lexists(present(folder) / SETTINGS):
                return Package(folder)
        if (kind := _kind_of_job(path)) is not None:
            unfinished = "This training has not finished; resume it first"
            hint = unfinished if kind == "train" else "This job is not a training"
        raise UserError("there is no model here", where=path, hint=hint)
    if not os.path.exists(path):
        raise UserError("there is no such model", where=path, hint=hint)
    is_zip = path.is_file() and zipfile.is_zipfile(path)  # in this order: a fifo would be waited for
    if not is_zip or path.suffix == ".pt":  # a checkpoint is a zip file, too
        raise UserError("this is not a model package", where=path, hint=hint)
    return Package(path)


def _kind_of_job(folder: Path) -> str | None:
    """What the job in a folder does; None if there is none, or nobody can tell."""
    try:
        job = json.loads(b"".join(chunks(folder, "job.json", 64 << 20, "job.json")))
    except (ValueError, RecursionError):
        return None
    return str(job.get("kind")) if isinstance(job, dict) else None


def write_zip(package: Package, path: Path) -> None:
    """Packs a package into one new file to send, whole or not at all.

    Raises:
        UserError: If there is a file of this name, the package is not whole, the disk is full or the place is not
            writable.
    """
    if os.path.lexists(path):
        raise UserError("there is a file of this name already", where=path, hint="Name a new file")
    package.verify()
    with (
        atomic_path(path, replace=False) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in (*CONTENT, CHECKSUMS):
            with archive.open(name, "w") as member:
                for block in package.chunks(name):
                    member.write(block)


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
        with atomic_path(folder / name) as temporary, open(temporary, "wb") as file:
            for block in package.chunks(name):
                file.write(block)
    return Package(Path(folder))
