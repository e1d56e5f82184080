"""The files that a segment job leaves: it replaces nobody's, and knows its own after any interruption."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

from ..base import files
from ..base.errors import Stopped, UserError
from ..base.events import AnyEvent, EventLog, Result, Writing, each_event
from ..base.temporaries import temporary_beside
from ..images.volumes import is_volume_file, stem
from .job import EVENTS, RANKS, VOLUMES, full_path, short_path


class Output(NamedTuple):
    """A file that holds a result of an input."""

    kind: str
    """`segmentation`, one of MAPS, or `volumes`: a table of all inputs."""
    frames: range
    """Which frames of the input it holds, counted from 0."""
    path: Path


class _Noted(NamedTuple):
    """What a `Writing` event tells of a file."""

    path: Path
    sha256: str


class _Saved(NamedTuple):
    """A file that has everything but its name."""

    temporary: Path
    sha256: str


class Results:
    """What a job has written, as its events tell, and how it writes more without replacing anything.

    One file at a time is packed in a thread, beside the work. It gets its name, and the events tell of it, before the
    next is begun, and as the context ends: also after a stop or an error. After Ctrl+C it is dropped.

    Args:
        folder: The job folder.
        events: Told of each result, and before it is there of what it will be.
        planned: The names that results will have, if nothing comes between.
        model: A hash of the model, see `hash_of_model`.

    Attributes:
        begun: Whether an earlier run has written something, or was about to.
        written: The kinds of what this run has written.
    """

    def __init__(self, folder: Path, events: EventLog, planned: Collection[Path], model: str) -> None:
        self._folder, self._events, self._planned, self._model = folder, events, planned, model
        self._told: set[Path] = set()
        self._noted: dict[str, _Noted] = {}
        self._models: set[str] = set()
        for event in each_event(folder / EVENTS):
            self.note(event)
        for log in (folder / RANKS).glob("*.jsonl"):
            for event in each_event(log):
                if isinstance(event, Writing):  # whether it was finished, and told, shows in `is_done`
                    self.note(event)
        self.begun = bool(self._told or self._noted)
        self.written: set[str] = set()
        self._places: dict[Path, Path] = {}
        self._writer = ThreadPoolExecutor(1, "writer")
        self._writing: tuple[Output, str | None, Future[_Saved]] | None = None

    def __enter__(self) -> Results:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None or issubclass(kind, Stopped):
                self.settle()
            elif issubclass(kind, Exception):
                with suppress(Exception):  # the first error is the one to tell of
                    self.settle()
        finally:
            self._writer.shutdown()
            if self._writing is not None:
                with suppress(Exception):
                    self._writing[2].result().temporary.unlink(missing_ok=True)

    def note(self, event: AnyEvent) -> None:
        """Takes up what an event tells of results."""
        if isinstance(event, Result):
            self._told.add(full_path(self._folder, event.path))
        elif isinstance(event, Writing):
            self._noted[event.planned] = _Noted(full_path(self._folder, event.path), event.sha256)
            self._models.add(event.model)

    def pass_on(self, event: Writing | Result) -> None:
        """Takes up what another process of the job tells of a result, and tells it, unless it is known."""
        if isinstance(event, Writing) or full_path(self._folder, event.path) not in self._told:
            self.note(event)
            self._events.emit(event)
            if isinstance(event, Result):
                self.written.add(event.kind)

    def place_of(self, output: Output) -> Path:
        """Where an output is, once it is done."""
        return self._places.get(output.path, output.path)

    def require_free(self, output: Output) -> None:
        """Raises a UserError if a file has the name of a result before the work begins."""
        if not self.begun and files.is_taken(output.path):
            hint = "Name another output folder, or move this file away"
            raise UserError("there is a file of this name already", where=output.path, hint=hint)

    def require_same_model(self, place: Path) -> None:
        """Raises a UserError if an earlier run of the job has segmented with another model."""
        if self._models - {"", self._model}:
            what = "this is not the model that the segmentation began with: its results would be of two models"
            hint = "Put that model back, or segment what is left into another folder"
            raise UserError(what, where=place, hint=hint)

    def is_done(self, output: Output, case: str | None = None) -> bool:
        """Whether an output lies where an earlier run put it; if that run was cut off before it said so, this does."""
        noted = self._noted.get(output.path.name)
        path = output.path if noted is None else noted.path
        if not path.exists():
            return False
        self._locate(output, path)
        if path in self._told:
            return True
        if noted is not None and path.is_file():
            if files.sha256(path) == noted.sha256:
                self._tell(output, path, case)
                return True
            if path.stat().st_size == 0:  # its name was kept for it, see `files.move_new`
                path.unlink()
        return False

    def withdraw(self, output: Output) -> None:
        """Deletes what an earlier run wrote, if nobody has changed it since."""
        noted, path = self._noted.get(output.path.name), self.place_of(output)
        if noted is not None and path.is_file() and files.sha256(path) == noted.sha256:
            path.unlink()

    def write(self, output: Output, case: str | None, save: Callable[[Path], None]) -> None:
        """Begins to write an output, under its planned name, or under one beside it if that is taken.

        Args:
            output: What it is.
            case: Of which input; None for a table of all.
            save: Writes it to a path.
        """
        self.settle()
        self._writing = output, case, self._writer.submit(_save, output, save)

    def settle(self) -> None:
        """Waits for the file that is being written, and gives it its name."""
        if self._writing is not None:
            output, case, saving = self._writing
            saved = saving.result()
            self._writing = None
            self._put(output, case, saved)

    def _put(self, output: Output, case: str | None, saved: _Saved) -> None:
        try:
            for path in names_for(output.path):
                if files.is_taken(path) or (path != output.path and path in self._planned):
                    continue
                place = {"planned": output.path.name, "path": self._short(path)}
                self._events.emit(Writing(**place, sha256=saved.sha256, model=self._model))
                if files.move_new(saved.temporary, path):
                    break
        except OSError as error:
            raise files.as_user_error(error, output.path) from error
        finally:
            saved.temporary.unlink(missing_ok=True)
        self._locate(output, path)
        self.written.add(output.kind)
        if path != output.path and output.kind != VOLUMES:  # each segmentation into a folder leaves a table of its own
            what = f"a file of this name appeared meanwhile; it stays, and the result is called {path.name}"
            self._events.warn(what, where=output.path, hint="Look at both before you use either")
        self._tell(output, path, case)

    def _locate(self, output: Output, path: Path) -> None:
        """Notes where an output is, if not where it was planned: most are."""
        self._places.pop(output.path, None)
        if path != output.path:
            self._places[output.path] = path

    def _tell(self, output: Output, path: Path, case: str | None) -> None:
        self._told.add(path)
        self._events.emit(Result(kind=output.kind, path=self._short(path), case=case))

    def _short(self, path: Path) -> str:
        return (short_path(self._folder, path.parent) / path.name).as_posix()


def _save(output: Output, save: Callable[[Path], None]) -> _Saved:
    temporary = temporary_beside(output.path)
    try:
        save(temporary)
        return _Saved(temporary, files.sha256(temporary))
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise files.as_user_error(error, output.path) from error
        if isinstance(error, UserError) and error.where == str(temporary):
            raise UserError(error.what, where=output.path, hint=error.hint) from error
        raise


def names_for(path: Path) -> Iterator[Path]:
    """scan.nii.gz, scan-2.nii.gz, scan-3.nii.gz and so on."""
    yield path
    name = stem(path) if is_volume_file(path) else path.stem
    for number in count(2):
        yield path.with_name(f"{name}-{number}{path.name.removeprefix(name)}")
