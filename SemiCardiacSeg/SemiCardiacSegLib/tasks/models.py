"""Trained models on disk: listed with their details, sent and received as a zip, deleted. Without PyTorch."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from ..engine import process
from ..i18n import tr as _

if TYPE_CHECKING:
    from semicardiac.images.labels import LabelSet
    from semicardiac.models.package import Package


@dataclass(frozen=True)
class Model:
    """A model package, or the finished job that holds one.

    Attributes:
        path: The folder; the engine segments with it.
        name: As a list shows it.
        labels: The structures that it segments; None of a damaged one.
        about: How it was trained and how well it does, as its card tells; empty of a damaged one.
        created: When the package was written, in local time.
        problem: Why it cannot be used; empty if it can.
    """

    path: Path
    name: str
    labels: LabelSet | None
    about: dict[str, Any]
    created: datetime
    problem: str = ""


def findModels(folder: Path | str) -> list[Model]:
    """The packages and the finished jobs in a folder, damaged ones too, newest first; none if there is no folder."""
    folder = Path(folder)
    try:
        places = sorted(folder.iterdir())
    except OSError:  # there is none, or it is another user's
        places = []
    # What begins with a dot is what a killed training left of a model that it was about to replace.
    found = [place for place in places if not place.name.startswith(".") and _packageFolder(place) is not None]
    models = [describeModel(place) for place in found]
    return sorted(models, key=lambda model: model.created, reverse=True)


def describeModel(path: Path | str) -> Model:
    """The details of a package or of a finished job.

    Raises:
        ValueError: If it is neither.
    """
    package = _package(Path(path))
    stamps = _stamps(package)
    labels, about, problem = _contents(package, tuple((stamp.st_size, stamp.st_mtime_ns) for stamp in stamps))
    return Model(
        path=Path(path),
        name=package.name,
        labels=labels,
        about=about,
        created=datetime.fromtimestamp(max((stamp.st_mtime for stamp in stamps), default=0)),
        problem=problem,
    )


def checkModel(path: Path) -> Package:
    """The package at a path: that of a finished job, a package folder or a zip.

    Raises:
        ValueError: If there is none, or it is damaged or from a newer version.
    """
    process.addToPath()
    from semicardiac.models.package import open_package

    package = open_package(path)
    package.verify()
    _ = package.labels
    return package


def requireModel(path: Path | str, labelSet: LabelSet) -> None:
    """Makes sure that a model can be used for the structures of a label set.

    Raises:
        ValueError: If there is no model at the path, it is damaged, or it is for other structures.
    """
    package = checkModel(Path(path))
    if package.labels.names != labelSet.names:
        message = _("The model segments {known}, and the table is about {wanted}. Choose another model.")
        raise ValueError(message.format(known=", ".join(package.labels.names), wanted=", ".join(labelSet.names)))


def exportModel(path: Path | str, file: Path | str) -> Path:
    """Packs a model into a zip to send.

    Returns:
        The zip, whose name ends in .zip.

    Raises:
        ValueError: If there is a file of this name, the model is damaged, or the place cannot be written to.
    """
    file = Path(file)
    if file.suffix.lower() != ".zip":
        file = file.with_name(f"{file.name}.zip")
    if file.exists():
        raise ValueError(_("There is a file {path} already. Choose another name.").format(path=file))
    package = _package(Path(path))
    from semicardiac.models.package import write_zip

    write_zip(package, file)
    return file


def importModel(file: Path | str, folder: Path | str) -> Model:
    """Unpacks a model that somebody sent into a new folder inside `folder`, named after the zip.

    Raises:
        ValueError: If the zip is no model package, damaged, reaches outside of its folder, or is of a newer version.
    """
    process.addToPath()
    from semicardiac.jobs.job import subfolder
    from semicardiac.models.package import import_package, open_package

    package = open_package(Path(file))
    if package.place.is_file():
        _refuseOutsiders(package.place)
    place = subfolder(Path(folder), package.name)
    try:
        import_package(package, place)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)  # it was not there before
        raise
    return describeModel(place)


def deleteModel(path: Path | str) -> None:
    """Deletes a model package, whole or damaged; of a job only the model in it, so that the rest of the job stays.

    Raises:
        ValueError: If it is no model package, or its folder also holds other files; then nothing is deleted.
    """
    package = _package(Path(path))
    from semicardiac.base.swap import present, remove_leftovers
    from semicardiac.models.package import CHECKSUMS, CONTENT

    place = present(package.place)
    items = sorted(place.iterdir())
    own = [item for item in items if item.name in (*CONTENT, CHECKSUMS) and (item.is_symlink() or not item.is_dir())]
    others = [item.name for item in items if item not in own]
    if others:
        text = _("{folder} also holds files that are no part of a model: {names}. Move them elsewhere first.")
        raise ValueError(text.format(folder=place, names=", ".join(others)))
    for item in own:
        item.unlink()
    place.rmdir()
    remove_leftovers(package.place)


def _packageFolder(path: Path) -> Path | None:
    """The folder of the package at a path, which may be damaged; None if nothing there looks like one."""
    process.addToPath()
    from semicardiac.base.swap import present
    from semicardiac.models.package import CHECKSUMS, MODEL, SETTINGS, WEIGHTS

    # A damaged package lacks some of its files, and a file config.json or README.md alone may be anybody's.
    # os.path raises no error where something is locked.
    for folder in (path / MODEL, path):
        found = [name for name in (WEIGHTS, CHECKSUMS, SETTINGS) if os.path.lexists(present(folder) / name)]
        if WEIGHTS in found or (CHECKSUMS in found and SETTINGS in found):
            return folder
    return None


def _package(path: Path) -> Package:
    place = _packageFolder(path)
    if place is None:
        text = _("There is no model in {folder}. Choose a model package or the folder of a finished job.")
        raise ValueError(text.format(folder=path))
    from semicardiac.models.package import Package

    return Package(place)


def _stamps(package: Package) -> list[os.stat_result]:
    """Of the files of a package, which may be about to be replaced, or be links that lead nowhere."""
    from semicardiac.base.swap import present

    try:
        return [file.lstat() for file in sorted(present(package.place).iterdir())]
    except OSError:
        return []


@lru_cache(maxsize=256)
def _contents(package: Package, stamps: tuple[tuple[int, int], ...]) -> tuple[LabelSet | None, dict[str, Any], str]:
    """Structures and provenance of a package, and why it cannot be used.

    They are read again when the sizes and times of its files have changed.
    """
    try:
        package.verify()
        return package.labels, package.about, ""
    except (ValueError, OSError) as error:
        return None, {}, str(error)


def _refuseOutsiders(file: Path) -> None:
    from semicardiac.models.container import open_zip

    with open_zip(file) as archive:
        names = archive.namelist()
    for name in names:
        parts = (*PurePosixPath(name).parts, *PureWindowsPath(name).parts)
        if ".." in parts or PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor:
            text = _("{file} is no sound model package: it holds {name}, outside of its folder. Do not use it.")
            raise ValueError(text.format(file=file, name=name))
