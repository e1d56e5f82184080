"""Where the engine is found, and how its process is started and ended."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from SemiCardiacSegLib.engine import process as engine

from Testing.slicer.engine_jobs import ROOT, exists, launcher, modelPackage, until

LIBRARY = ROOT / "SemiCardiacSeg" / "SemiCardiacSegLib"
posix = pytest.mark.skipif(os.name == "nt", reason="a shell script stands in for Slicer's launcher")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The extension as it is installed, without the source tree: everything in one folder."""
    folder = tmp_path / "Ünï code" / "qt-scripted-modules"
    shutil.copytree(LIBRARY, folder / "SemiCardiacSegLib")
    shutil.copytree(ROOT / "training" / "semicardiac", folder / "semicardiac")
    shutil.copy(ROOT / "pyproject.toml", folder / "semicardiac")
    return folder


def inFolder(folder: Path, code: str) -> str:
    """What a Python prints that has only this folder on its path, besides the standard library and site-packages."""
    bare = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    code = f"import sys\nsys.path.insert(0, {str(folder)!r})\n{code}"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder.anchor,
        env={**bare, "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    ).stdout.strip()


class TestPlace:
    def test_in_the_source_tree(self):
        assert engine.packageFolder() == ROOT / "training" / "semicardiac"

    def test_beside_the_module_where_installed(self, installed: Path):
        code = "from SemiCardiacSegLib.engine import process as engine; print(engine.packageFolder())"
        assert inFolder(installed, code) == str(installed / "semicardiac")

    def test_nowhere(self, installed: Path):
        shutil.rmtree(installed / "semicardiac")
        code = (
            "from SemiCardiacSegLib.engine import process as engine\n"
            "try: engine.packageFolder()\n"
            "except RuntimeError as error: print(error)"
        )
        text = inFolder(installed, code)
        assert "not whole" in text
        assert str(installed) in text

    def test_the_version_is_that_of_the_engine_found(self, installed: Path):
        init = installed / "semicardiac" / "__init__.py"
        init.write_text(init.read_text(encoding="utf-8").replace('"0.', '"77.'), encoding="utf-8")
        code = "from SemiCardiacSegLib.engine import process as engine; print(engine.version())"
        assert inFolder(installed, code).startswith("77.")


class TestProcess:
    def test_it_runs_from_any_folder_without_a_python_path(self, installed: Path, tmp_path: Path):
        code = (
            "from SemiCardiacSegLib.engine import process as engine; import subprocess; "
            "print(subprocess.run(engine.command('--version'), env=engine.environment(), "
            f"cwd={str(tmp_path)!r}, capture_output=True, encoding='utf-8').stdout)"
        )
        assert inFolder(installed, code) == f"semicardiac {engine.version()}"

    def test_text_is_utf8_and_the_starter_is_told(self):
        environment = engine.environment()
        assert environment[engine.PARENT_PID] == str(os.getpid())
        assert environment["PYTHONUTF8"] == "1"
        assert environment["PYTHONUNBUFFERED"] == "1"
        from semicardiac.jobs.stop import STARTER

        assert engine.PARENT_PID == STARTER

    @posix
    def test_slicers_python_goes_first(self, tmp_path: Path, monkeypatch):
        assert engine.pythonExecutable() == sys.executable
        program = launcher(tmp_path / "bin", 'exec "$PYTHON" "$@"')
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        assert engine.pythonExecutable() == str(program)
        assert engine.command("run", tmp_path)[2:] == ["run", str(tmp_path)]

    @posix
    @pytest.mark.parametrize("ended", [False, True])
    def test_the_whole_tree_is_ended(self, tmp_path: Path, ended: bool):
        last = "exit 0" if ended else "wait"
        script = f"(sleep 300 & echo $! > '{tmp_path}/grandchild'; wait) & echo $! > '{tmp_path}/child'; {last}"
        with open(tmp_path / "output", "wb") as output:
            process = engine.startProcess(["/bin/sh", "-c", script], output)
        pids = [tmp_path / name for name in ("child", "grandchild")]
        until(lambda: all(path.exists() and path.read_text().strip() for path in pids))
        numbers = [int(path.read_text()) for path in pids]
        if ended:
            until(lambda: process.poll() is not None)
        assert all(exists(number) for number in numbers)
        engine.killTree(process)
        until(lambda: not any(exists(number) for number in numbers), seconds=5)
        assert process.returncode is not None


def test_nothing_here_imports_pytorch(tmp_path: Path):
    """Not even after everything was used: Slicer itself must not have it in its process."""
    modelPackage(tmp_path / "models" / "mine")
    code = f"""
from pathlib import Path
from SemiCardiacSegLib import i18n
from SemiCardiacSegLib.engine import installation, job, process as engine
from SemiCardiacSegLib.tasks import models
folder = Path({str(tmp_path)!r})
engine.version()
installation.status()
installation.probeDevice().wait()
found = models.findModels(folder / "models")
assert [model.problem for model in found] == [""]
sent = models.exportModel(found[0].path, folder / "sent")
models.deleteModel(models.importModel(sent, folder / "models").path)
sys.path.append({str(ROOT)!r})
from Testing.slicer.engine_jobs import evaluationJob
assert job.Job.start(evaluationJob(folder / "job")).wait() == "done"
print([name for name in sys.modules if name.partition(".")[0] in ("torch", "torchvision")])
"""
    assert inFolder(LIBRARY.parent, code) == "[]"
