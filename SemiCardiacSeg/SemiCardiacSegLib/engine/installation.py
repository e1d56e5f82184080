"""What the engine needs: what of it is there, found without importing it, and how the rest gets installed.

PyTorch comes by way of the extension PyTorch, which picks the build for the graphics card and its driver; it runs in
a process of its own, since Slicer itself must not import PyTorch. All else comes by pip, held back from replacing
packages that are Slicer's own.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import logging
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..i18n import tr as _
from . import process as engine

if TYPE_CHECKING:
    from packaging.requirements import Requirement

HELD = ("numpy", "SimpleITK", "vtk")
"""Packages that Slicer itself is built on: no installation may change their versions."""

_PROBE = "; ".join(
    (
        "import json, os, shutil, torch",
        "name, size = torch.cuda.get_device_name, torch.cuda.get_device_properties",
        "device = [name(0), size(0).total_memory] if torch.cuda.is_available() else None",
        "cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()",
        "driver = shutil.which('nvidia-smi') is not None and 'CUDA_VISIBLE_DEVICES' not in os.environ",
        "print(json.dumps({'torch': torch.__version__, 'device': device, 'cores': cores, 'driver': driver}))",
    )
)
"""What the child process does, which may import PyTorch. One line: launchers of Windows pass no others on."""

_PROBE_SECONDS = 180.0


@dataclass(frozen=True)
class Status:
    """What is installed.

    Attributes:
        ready: Whether the engine can run.
        missing: What is not there, too old or damaged, as requirements such as `nibabel>=5.2`.
        torch: PyTorch's version, if it is there and whole.
        text: All that in words, and how to go on where setting up alone does not help.
    """

    ready: bool
    missing: list[str]
    torch: str | None
    text: str


@cache
def requirements() -> tuple[Requirement, ...]:
    """What the engine needs, as its pyproject.toml tells."""
    import tomllib
    from packaging.requirements import Requirement

    package = engine.packageFolder()
    places = (package / "pyproject.toml", package.parent.parent / "pyproject.toml")  # installed, source tree
    path = next((path for path in places if path.is_file()), places[0])
    with open(path, "rb") as file:
        texts = tomllib.load(file)["project"]["dependencies"]
    return tuple(Requirement(text) for text in texts)


def status() -> Status:
    """What is installed, found in milliseconds and without importing any of it."""
    importlib.invalidate_caches()  # a child process may have installed something
    missing = [requirement for requirement in requirements() if not _isMet(requirement)]
    names = [str(requirement) for requirement in missing]
    torch = _installedVersion("torch") if _torchState() == "whole" else None
    if not missing:
        return Status(True, [], torch, _("PyTorch {version}").format(version=torch))
    if problem := _torchProblem():
        return Status(False, names, torch, problem)
    told = [_told(requirement) for requirement in missing]
    return Status(False, names, torch, _("Not installed: {names}").format(names=", ".join(told)))


def require() -> None:
    """Makes sure that the engine can run.

    Raises:
        RuntimeError: If not, with what is missing and how to fix it.
    """
    found = status()
    if not found.ready:
        text = _(
            "SemiCardiacSeg is not set up yet. {status}. Open the module SemiCardiacSeg and click '{button}' there."
        )
        raise RuntimeError(text.format(status=found.text.rstrip("."), button=_("Set up…")))


def _told(requirement: Requirement) -> str:
    version = _installedVersion(requirement.name)
    text = requirement.name if version is None else _("{requirement} (only {version} is)")
    return text.format(requirement=requirement, version=version)


def _isMet(requirement: Requirement) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    if requirement.name == "torch" and _torchState() != "whole":
        return False
    version = _installedVersion(requirement.name)
    if version is None:  # Slicer builds some packages without telling their versions
        return requirement.name in HELD and importlib.util.find_spec(requirement.name) is not None
    return requirement.specifier.contains(version, prereleases=True)


def _installedVersion(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torchState() -> str:
    """`whole`, `absent`, or `partial`: an installation that broke off leaves a folder without a package in it."""
    spec = importlib.util.find_spec("torch")
    known = _installedVersion("torch") is not None
    if known and spec is not None and spec.origin is not None:
        return "whole"
    return "partial" if known or spec is not None else "absent"


def _torchProblem() -> str:
    """What setting up alone does not fix."""
    if _torchState() == "partial":
        return _(
            "PyTorch is installed only in part. Uninstall it in the module PyTorch Utils, start Slicer anew, set up."
        )
    torch = next(requirement for requirement in requirements() if requirement.name == "torch")
    if not _isMet(torch) and sys.platform == "darwin" and platform.machine() == "x86_64":
        text = _("This Slicer is for Intel Macs, which PyTorch 2.2 was the last for, and {needed} is needed. {hint}")
        hint = _("Use a Slicer for Apple silicon, or a computer with Linux or Windows.")
        return text.format(needed=torch, hint=hint)
    return ""


class Polled(ABC):
    """Work that goes on while nobody waits for it.

    Attributes:
        state: `running`, `done` or `failed`.
        text: What came out of it.
    """

    def __init__(self) -> None:
        self.state = "running"
        self.text = ""
        self._lines: list[str] = []
        self._steps = self._work()

    def poll(self) -> list[str]:
        """Goes on with the work as far as that takes no time; returns the lines printed since the last call."""
        if self.state == "running" and not self._steps.gi_running:  # pip of Slicer 5.10 lets the window go on meanwhile
            try:
                next(self._steps)
                if self.state != "running":  # given up meanwhile
                    self._steps.close()
            except StopIteration:
                self.state = "done" if self.state == "running" else self.state
            except (ValueError, RuntimeError, OSError, subprocess.CalledProcessError) as error:
                self.state, self.text = "failed", str(error)
            except Exception as error:  # the next poll would find the work ended, and take it for done
                logging.exception("SemiCardiacSeg")
                self.state, self.text = "failed", f"{type(error).__name__}: {error}"
        lines, self._lines = self._lines, []
        return lines

    def wait(self, onLine: Callable[[str], None] | None = None, tick: Callable[[], None] | None = None) -> str:
        """Polls to the end; `tick` is called in between, in Slicer `slicer.app.processEvents`. Returns the state."""
        while True:
            for line in self.poll():
                if onLine is not None:
                    onLine(line)
            if self.state != "running":
                return self.state
            if tick is not None:
                tick()
            time.sleep(0.02)

    def stop(self) -> None:
        """Gives the work up and ends its processes; Slicer's pip, once begun, goes on to its end."""
        if not self._steps.gi_running:
            self._steps.close()
        if self.state == "running":
            self.state, self.text = "failed", _("Stopped")

    @abstractmethod
    def _work(self) -> Generator[None, None, None]:
        """Yields wherever it would have to wait."""

    def _run(self, commandLine: list[str], seconds: float | None = None) -> Generator[None, None, list[str]]:
        """Runs a process, whose lines are told as it prints them.

        Returns:
            All its lines.

        Raises:
            ValueError: If it fails, with the last line that it printed, or takes longer than `seconds`.
        """
        lines: list[str] = []
        begun = time.monotonic()
        with _temporaryFolder() as folder, open(folder / "output", "wb") as output, open(output.name, "rb") as reader:
            process = engine.startProcess(commandLine, output)
            rest = b""
            try:
                while True:
                    ended = process.poll() is not None  # before reading: then what is read is all
                    *whole, rest = (rest + reader.read()).split(b"\n")
                    new = [line.decode("utf-8", "replace").strip() for line in ([*whole, rest] if ended else whole)]
                    new = [line for line in new if line]
                    lines += new
                    self._lines += new
                    if ended:
                        break
                    if seconds is not None and time.monotonic() > begun + seconds:
                        raise ValueError(_("There was no answer within {number} seconds").format(number=seconds))
                    yield
            finally:
                engine.killTree(process)
        if process.returncode:
            raise ValueError(_reason(lines) or _("exit status {number}").format(number=process.returncode))
        return lines


class DeviceProbe(Polled):
    """Asks a child process what PyTorch computes on; `text` is then such as `PyTorch 2.8.0, NVIDIA L4 (24 GB)`."""

    def _work(self) -> Generator[None, None, None]:
        lines = yield from self._run([engine.pythonExecutable(), "-c", _PROBE], _PROBE_SECONDS)
        found = json.loads(next(line for line in reversed(lines) if line.startswith("{")))
        if found["device"] is not None:
            name, size = found["device"]
            device = _("{name} ({size} GB)").format(name=name, size=round(size / 2**30))
        else:
            device = _("CPU, {number} cores").format(number=found["cores"])
        self.text = _("PyTorch {version}, {device}").format(version=found["torch"], device=device)
        if found["device"] is None and found["driver"]:  # a build for the CPU alone, or for a newer driver
            hint = _(
                "There seems to be an NVIDIA card that this PyTorch cannot use: see Troubleshooting in the README."
            )
            self.text = f"{self.text}. {hint}"


class Installer(Polled):
    """Installs what `status` misses.

    Attributes:
        restartNeeded: Whether something was replaced that this process had imported.
    """

    def __init__(self) -> None:
        super().__init__()
        self.restartNeeded = False

    def _work(self) -> Generator[None, None, None]:
        missing = [requirement for requirement in requirements() if not _isMet(requirement)]
        if problem := _torchProblem():
            raise ValueError(problem)
        if missing and shutil.which("PythonSlicer") is None:
            raise ValueError(_pipHint(missing))
        before = _versions()
        for requirement in missing:
            if requirement.name == "torch":
                with _temporaryFolder() as folder:
                    yield from self._installTorch(requirement, _hold(folder, HELD))
        if others := [str(requirement) for requirement in missing if requirement.name != "torch"]:
            yield from self._pipInstall(others)
        found = status()
        if not found.ready:
            raise ValueError(found.text)
        self.restartNeeded = bool(_replacedInUse(before))
        self.text = _("Start Slicer anew to use what was installed") if self.restartNeeded else ""

    def _installTorch(self, requirement: Requirement, constraints: Path) -> Generator[None, None, None]:
        """As `PyTorchUtilsLogic.installTorch` does it, which would freeze the window and import PyTorch here."""
        try:
            from PyTorchUtils import PyTorchUtilsLogic
        except ImportError:
            raise ValueError(
                _(
                    "The extension PyTorch is missing. Install it in the Extensions Manager, start Slicer anew, "
                    "and set up again."
                )
            ) from None
        try:
            if importlib.util.find_spec("light_the_torch") is None:
                PyTorchUtilsLogic._installLightTheTorch()  # waits: which version it wants is for that extension to say
            arguments = PyTorchUtilsLogic._getPipInstallArguments(None, str(requirement.specifier))
        except AttributeError:  # another version of it
            raise ValueError(_("Install PyTorch in the module PyTorch Utils, then set up again.")) from None
        # On a Mac it also asks for an old numpy, which is not for the PyTorch that we need.
        arguments = [argument for argument in arguments if not argument.startswith("numpy")]
        yield from self._run([engine.pythonExecutable(), "-m", "light_the_torch", *arguments, "-c", str(constraints)])

    def _pipInstall(self, texts: list[str]) -> Generator[None, None, None]:
        try:
            from slicer.packaging import isPipInstallInProgress, pip_install
        except ImportError:  # Slicer 5.10, whose own pip_install would freeze the window
            with _temporaryFolder() as folder:
                constraints = _hold(folder, (*HELD, "torch"))
                yield from self._run(
                    [engine.pythonExecutable(), "-m", "pip", "install", *texts, "-c", str(constraints)]
                )
            return
        lines: list[str] = []
        statuses: list[int] = []

        def log(line: str) -> None:
            lines.append(line)
            self._lines.append(line)

        folder = Path(tempfile.mkdtemp(prefix="SemiCardiacSeg-"))

        def complete(status: int) -> None:  # pip that was given up goes on, and must still be able to read them
            shutil.rmtree(folder, ignore_errors=True)
            statuses.append(status)

        pip_install(
            texts, constraints=_hold(folder, (*HELD, "torch")), blocking=False, show_progress=False,
            requester="SemiCardiacSeg", logCallback=log, completedCallback=complete,
        )  # fmt: skip
        while isPipInstallInProgress():
            yield
        shutil.rmtree(folder, ignore_errors=True)  # in its testing mode Slicer has waited for pip and calls nobody
        if any(statuses):
            raise ValueError(_reason(lines) or _("exit status {number}").format(number=statuses[0]))


def probeDevice() -> DeviceProbe:
    """Starts to ask what the engine would compute on; `poll` the result until its `state` is no longer `running`."""
    return DeviceProbe()


def install() -> Installer:
    """Starts to install what is missing; `poll` the result until its `state` is no longer `running`.

    Call it on the user's wish only. It asks nothing, and where it fails its `text` says how to go on.
    """
    return Installer()


@contextmanager
def _temporaryFolder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="SemiCardiacSeg-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _hold(folder: Path, names: tuple[str, ...]) -> Path:
    """Writes a file of constraints that keeps packages at the versions that are installed."""
    versions = {name: _installedVersion(name) for name in names}
    path = folder / "constraints.txt"
    path.write_text("".join(f"{name}=={version}\n" for name, version in versions.items() if version), encoding="utf-8")
    return path


def _reason(lines: list[str]) -> str:
    """The line of an output that says why it went wrong."""
    return next((line for line in lines if line.startswith("ERROR:")), lines[-1] if lines else "")


def _pipHint(missing: list[Requirement]) -> str:
    names = " ".join(f'"{requirement}"' for requirement in missing)
    text = _(
        "This Python is not that of the application Slicer. Install what is missing: {python} -m pip install {names}"
    )
    return text.format(python=sys.executable, names=names)


def _versions() -> dict[str, str]:
    importlib.invalidate_caches()
    return {each.metadata["Name"]: each.version for each in importlib.metadata.distributions() if each.metadata["Name"]}


def _replacedInUse(before: dict[str, str]) -> list[str]:
    """Packages whose version has changed and which this process has imported."""
    after = _versions()
    changed = {name for name, version in before.items() if after.get(name) != version}
    imported = importlib.metadata.packages_distributions()
    return sorted(
        {name for module in imported if module in sys.modules for name in imported[module] if name in changed}
    )
