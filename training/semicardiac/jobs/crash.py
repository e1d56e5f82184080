"""What a developer needs to understand a crash, without a patient's name in it.

Texts of exceptions may hold anything that was read from a file. Of such a text only what stands in the source code of
where it was raised is told, and <...> in place of the rest. Of the traceback, code is told and no values.
"""

from __future__ import annotations

import ast
import linecache
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from platform import platform, python_version

from .. import __version__
from .job import Job, TrainJob

HIDDEN = "<...>"
_FRAMES_MAX, _TEXT_MAX = 100, 2000
_PIECE_MIN = 8
"""Letters of a piece of a message that names nobody: a constant of the source that holds words, not a word alone."""
_OF_PYTHON = (
    "division by zero", "index out of range", " object has no attribute ", " object is not subscriptable",
    " object is not iterable", " object is not callable", "unsupported operand type(s) for ", "object of type ",
    " has no len()", "too many values to unpack", "not enough values to unpack", "maximum recursion depth exceeded",
    " missing 1 required positional argument: ", " got an unexpected keyword argument ", "cannot unpack non-iterable ",
    "shapes cannot be multiplied", "must match the size of tensor", "could not be broadcast together with shapes ",
)  # fmt: skip
"""Messages of Python, NumPy and PyTorch that stand in no source file of Python."""
_CODE = {
    Path(sysconfig.get_paths()[key]).resolve(): name
    for key, name in (("stdlib", "python"), ("platlib", "site-packages"), ("purelib", "site-packages"))
}
_CODE[Path(__file__).resolve().parents[1]] = "semicardiac"


def crash_report(error: BaseException, job: Job | None = None) -> str:
    """Versions, configuration and traceback; of the texts of exceptions only what comes from source code.

    Args:
        error: What was raised.
        job: What ran.
    """
    versions = [f"semicardiac {__version__}, Python {python_version()}, {platform()}"]
    for package in ("torch", "numpy", "SimpleITK", "nibabel", "scikit-image", "scipy", "pydantic"):
        with suppress(metadata.PackageNotFoundError):
            versions.append(f"{package} {metadata.version(package)}")
    settings = job.config.model_dump_json(indent=2) if isinstance(job, TrainJob) else "none"
    kind = f"kind of job: {job.kind if job else 'none'}\nconfiguration: {settings}"
    return "\n\n".join(["\n".join(versions), kind, "\n".join(_told(error, set()))]) + "\n"


def _told(error: BaseException, seen: set[int]) -> Iterator[str]:
    """An exception with its traceback, after those that it came from."""
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in seen:
        yield from _told(before, seen)
        yield f"\n{'which was the cause of' if error.__cause__ else 'and while that was handled'}:\n"
    frames = list(traceback.walk_tb(error.__traceback__))[-_FRAMES_MAX:]
    for frame, number in frames:
        code = frame.f_code
        place = _place_of(code.co_filename)
        yield f"  File {place or HIDDEN}, line {number}, in {code.co_name if place else HIDDEN}"
        if place:
            yield f"    {linecache.getline(code.co_filename, number).strip()}"
    text = masked(_text_of(error), _pieces(frame.f_code.co_filename for frame, _ in frames))
    yield f"{type(error).__module__}.{type(error).__qualname__}: {text}".removeprefix("builtins.")
    for number, inner in enumerate(getattr(error, "exceptions", ())):  # of an exception group
        if id(inner) not in seen:
            yield f"\ngroup member {number}:\n"
            yield from _told(inner, seen)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)[:_TEXT_MAX]
    except Exception:
        return HIDDEN


def masked(text: str, pieces: Iterable[str]) -> str:
    """A text of which only these pieces stay, the longest first, and <...> in place of what is between them."""
    for piece in sorted(pieces, key=len, reverse=True):
        before, found, after = text.partition(piece)
        if found:
            return masked(before, pieces) + piece + masked(after, pieces)
    return HIDDEN if text.strip() else text


def _pieces(files: Iterable[str]) -> set[str]:
    """The constants in the source of these files that are messages or parts of them."""
    pieces = set(_OF_PYTHON)
    for file in filter(_place_of, set(files)):
        with suppress(OSError, SyntaxError, ValueError):
            tree = ast.parse(Path(file).read_text(encoding="utf-8"))
            texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
            pieces |= {text for text in texts if isinstance(text, str) and _is_message(text)}
    return pieces


def _is_message(text: str) -> bool:
    return len(text) >= _PIECE_MIN and " " in text.strip()


def _place_of(file: str) -> str | None:
    """Where a source file lies in Python, its packages or this one; None for any other."""
    path = Path(file).resolve()
    inside = [folder for folder in path.parents if folder in _CODE]
    return f"{_CODE[inside[0]]}/{path.relative_to(inside[0]).as_posix()}" if inside else None
