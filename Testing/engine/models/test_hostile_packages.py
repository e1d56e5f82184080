"""Whatever a model package holds, it is a model or an error of the user: no crash, no hang, no gigabytes of memory.

Each is opened, verified, told of and loaded by the engine in one process, and listed and imported by the module's own
code in another, which has no PyTorch.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from semicardiac.models.model import Model, build_locator, save_model
from semicardiac.models.networks import build_network

from Testing.engine.models.hostile_packages import KINDS
from Testing.engine.models.hostile_zips import ZIPS, make_all
from Testing.engine.networks import new_method, tiny_config
from Testing.engine.support import ACDC, REPOSITORY, engine_environment

ALL = {**KINDS, **ZIPS}

BEGIN = """
import contextlib, faulthandler, io, json, sys, time
from pathlib import Path
def megabytes():
    with contextlib.suppress(OSError):  # of this program alone, not of the one that started it
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 2**10
    with contextlib.suppress(ImportError):
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
def told(do, *arguments):
    faulthandler.dump_traceback_later(100, exit=True)
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        try:
            do(*arguments)
            error = None
        except ValueError as problem:
            error = str(problem)
        except Exception as problem:
            error = f"a crash: {problem!r}"
    return {"error": error, "shown": shown.getvalue()}
found = {}
places = json.load(sys.stdin)
before = megabytes()
for name, path in places.items():
    start = time.process_time()
    found[name] = each(Path(path))
    found[name]["seconds"] = time.process_time() - start
print(json.dumps({"found": found, "before": before, "most": megabytes()}))
"""
ENGINE = """
from semicardiac.cli.results import Info
from semicardiac.models.model import load_model
def each(path):
    return {"info": told(lambda: Info(path).run()), "load": told(load_model, path)}
"""
MODULE = """
import sys
sys.modules["torch"] = None
from SemiCardiacSegLib.tasks import models
def listed(path, lines):
    found = models.findModels(path.parent)
    lines += [[model.problem, str(model.labels), str(model.about)] for model in found]
def each(path):
    lines = []
    took = told(listed, path, lines)
    return {"list": took, "lines": lines, "import": told(models.importModel, path, path.parent / "library")}
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = tiny_config()
    model = Model(
        build_network(config.network, ACDC.classes), build_locator(config), new_method(config), config, ACDC,
        (1234.5, 9876.0), {"training_steps": 24, "validation_mean_dice": 0.8},
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("whole") / "p"
    save_model(folder, model)
    return folder


@pytest.fixture(scope="module")
def places(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_all(whole, tmp_path_factory.mktemp("hostile"))


def run(script: str, places: dict[str, Path]) -> dict:
    environment = engine_environment()
    environment["PYTHONPATH"] += os.pathsep + str(REPOSITORY / "SemiCardiacSeg")
    done = subprocess.run(
        [sys.executable, "-c", script + BEGIN], input=json.dumps({name: str(path) for name, path in places.items()}),
        env=environment, capture_output=True, encoding="utf-8", timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def engine(places: dict[str, Path]) -> dict:
    return run(ENGINE, places)


@pytest.fixture(scope="module")
def module(places: dict[str, Path]) -> dict:
    return run(MODULE, places)


@pytest.mark.parametrize("name", ALL)
class TestEach:
    def test_the_engine_loads_it_or_says_what_is_wrong(self, engine: dict, name: str):
        kind, found = ALL[name], engine["found"][name]
        if kind.told is None:
            assert found["load"]["error"] is None
        else:
            assert re.search(kind.told, found["load"]["error"] or "loaded"), found["load"]["error"]
        if kind.told is None or not kind.listed:
            assert found["info"]["error"] is None
        else:
            assert re.search(kind.told, found["info"]["error"] or "told of"), found["info"]["error"]
        for text in (found["info"]["shown"], *(found[way]["error"] or "" for way in ("info", "load"))):
            assert text.replace("\n", "").isprintable()
            assert len(text) < 3000
        assert found["seconds"] < 10

    def test_the_module_lists_it_and_says_what_is_wrong(self, module: dict, places: dict[str, Path], name: str):
        kind, found = ALL[name], module["found"][name]
        assert found["list"]["error"] is None
        is_package = os.path.isdir(places[name]) and set(os.listdir(places[name])) - {"job.json"} != set()
        assert len(found["lines"]) == is_package
        for problem, labels, _ in found["lines"]:
            assert bool(problem) == kind.listed
            assert (labels == "None") == bool(problem)
        wrong = found["import"]["error"] or ""
        assert "a crash" not in wrong
        assert bool(wrong) == (kind.listed or "outside of" in wrong)
        assert found["seconds"] < 10


def test_none_takes_much_memory(engine: dict, module: dict):
    for found in (engine, module):
        if found["most"] is not None:  # Windows does not tell
            assert found["most"] < 1000
            assert found["most"] - found["before"] < 400
