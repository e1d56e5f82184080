"""Where the engine, the Python package `semicardiac`, lies and how a process that runs it is started and ended."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

from ..i18n import tr as _

PARENT_PID = "SEMICARDIAC_PARENT_PID"
"""Environment variable: when the process of this number ends, the engine stops by itself, with a checkpoint."""


@cache
def packageFolder() -> Path:
    """The folder `semicardiac`: beside SemiCardiacSeg.py where the extension is installed, else in the source tree.

    Raises:
        RuntimeError: If it is in neither place.
    """
    module = Path(__file__).resolve().parents[2]
    for folder in (module / "semicardiac", module.parent / "training" / "semicardiac"):
        if (folder / "__main__.py").is_file():
            return folder
    raise RuntimeError(_("The extension is not whole: there is no folder semicardiac in {place}").format(place=module))


def addToPath() -> None:
    """Lets `import semicardiac` find this engine."""
    place = str(packageFolder().parent)
    if place not in sys.path:
        sys.path.insert(0, place)


def pythonExecutable() -> str:
    """The Python that runs the engine: Slicer's own, else the one that runs this."""
    return shutil.which("PythonSlicer") or sys.executable


def command(*arguments: object) -> list[str]:
    """The command line of a process that does what `semicardiac ARGUMENTS` does.

    The package is named by its place: neither the working folder nor PYTHONPATH has to lead there.
    """
    return [pythonExecutable(), str(packageFolder() / "__main__.py"), *map(str, arguments)]


def environment() -> dict[str, str]:
    """The environment of such a process: this one's, with text as UTF-8 and at once, bound to the life of this one."""
    text = {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}
    return {**os.environ, **text, PARENT_PID: str(os.getpid())}


def version() -> str:
    """The engine's version."""
    addToPath()
    from semicardiac import __version__

    return __version__


def startProcess(commandLine: Sequence[str], output: BinaryIO) -> subprocess.Popen[bytes]:
    """Starts a process that `killTree` can end together with all that it starts.

    Args:
        commandLine: Program and arguments.
        output: The file that takes all it prints. A pipe would fill up while nobody reads it.

    Raises:
        OSError: If the program cannot be started.
    """
    if os.name == "nt":
        own = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    else:
        own = {"start_new_session": True}
    process = subprocess.Popen(
        commandLine, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **own
    )
    logging.info("SemiCardiacSeg started process %d: %s", process.pid, " ".join(commandLine))
    return process


def killTree(process: subprocess.Popen[bytes]) -> None:
    """Ends a process of `startProcess` and all processes that it started; of one that ended, those it left behind.

    PythonSlicer is a launcher: to end it alone would leave the real Python at work.
    """
    if os.name == "nt":
        if process.poll() is None:
            taskkill = ["taskkill", "/T", "/F", "/PID", str(process.pid)]
            subprocess.run(taskkill, capture_output=True, creationflags=subprocess.CREATE_NO_WINDOW, check=False)
    else:
        with suppress(ProcessLookupError, PermissionError):  # none is left; macOS says so in the second way
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # the system may take its time with one that waits for a disk
        process.wait(timeout=5)
