"""SemiCardiacSeg.py, the file that Slicer loads, on the stand-in for Slicer's Qt side."""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

slicer = pytest.importorskip("slicer", reason="needs slicer-core: pip install semicardiac[slicer]")
pytest.importorskip("PySide6", reason="needs PySide6-Essentials: pip install semicardiac[slicer]")

LOAD, REGISTER = "loadTerminology", "registerSampleData"


@pytest.fixture
def startup() -> list:
    """What the module connects to the application's signals: pairs of signal and function."""
    return []


@pytest.fixture
def module(scene, startup, monkeypatch):
    """The module as Slicer imports it: anew, and with slicer.i18n."""
    from Testing.slicer import qt_standin

    qt_standin.install()
    i18n = ModuleType("slicer.i18n")
    i18n.tr = lambda text: text
    i18n.translate = lambda context, text: text
    monkeypatch.setitem(sys.modules, "slicer.i18n", i18n)
    monkeypatch.setattr(slicer.app, "connect", lambda signal, function: startup.append((signal, function)))
    loaded = [name for name in sys.modules if name.partition(".")[0] in ("SemiCardiacSeg", "SemiCardiacSegLib")]
    for name in loaded:
        monkeypatch.delitem(sys.modules, name)
    yield importlib.import_module("SemiCardiacSeg")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("SemiCardiacSeg", "SemiCardiacSegLib")]:
        del sys.modules[name]


@pytest.fixture
def parent() -> SimpleNamespace:
    """What Slicer hands to the module's class."""
    return SimpleNamespace(path="SemiCardiacSeg.py")


def test_it_describes_itself(module, parent):
    module.SemiCardiacSeg(parent)
    assert parent.title == "SemiCardiacSeg"
    assert parent.categories == ["Segmentation", "Cardiac"]
    assert "not for clinical use" in parent.helpText
    assert "10.1371/journal.pone.0342567" in parent.acknowledgementText
    assert "10.1109/TMI.2018.2837502" in parent.acknowledgementText
    for text in (parent.helpText, parent.acknowledgementText):
        assert "{" not in text


def test_at_startup_the_terminology_is_loaded(module, parent, startup):
    module.SemiCardiacSeg(parent)
    ((signal, function),) = startup
    assert signal == "startupCompleted()"
    function()
    context = "Segmentation category and type - SemiCardiacSeg"
    assert slicer.modules.terminologies.logic().IsTerminologyContextLoaded(context)


@pytest.mark.parametrize(("failing", "other"), [(LOAD, REGISTER), (REGISTER, LOAD)])
def test_a_failure_at_startup_is_logged_and_stops_nothing(module, monkeypatch, caplog, failing, other):
    def fail(*arguments):
        raise RuntimeError("a damaged file")

    done = []
    monkeypatch.setattr(module, failing, fail)
    monkeypatch.setattr(module, other, lambda *arguments: done.append(other))
    with caplog.at_level(logging.ERROR):
        module.onStartupCompleted()
    assert "a damaged file" in caplog.text
    assert done == [other]


def test_the_sample_data_have_pictures(module, monkeypatch):
    sources = []
    logic = SimpleNamespace(registerCustomSampleDataSource=lambda **fields: sources.append(fields))
    monkeypatch.setitem(sys.modules, "SampleData", SimpleNamespace(SampleDataLogic=logic))
    module.onStartupCompleted()
    assert [Path(source["thumbnailFileName"]).is_file() for source in sources] == [True, True]


def test_slicer_finds_the_classes_by_name(module):
    base = slicer.ScriptedLoadableModule
    assert issubclass(module.SemiCardiacSegWidget, base.ScriptedLoadableModuleWidget)
    assert issubclass(module.SemiCardiacSegLogic, base.ScriptedLoadableModuleLogic)
    assert issubclass(module.SemiCardiacSegTest, base.ScriptedLoadableModuleTest)


def test_one_parameter_node_whoever_asks(module):
    library = importlib.import_module("SemiCardiacSegLib.logic").SemiCardiacSegLogic  # slicer.util.getModuleLogic
    for _scene in range(2):
        node = module.SemiCardiacSegLogic().getParameterNode()
        assert library().getParameterNode() is node
        assert node.GetModuleName() == "SemiCardiacSeg"
        slicer.mrmlScene.Clear(False)


def test_a_reload_reads_the_library_anew(module, monkeypatch):
    reloaded = []
    base = slicer.ScriptedLoadableModule.ScriptedLoadableModuleWidget
    monkeypatch.setattr(base, "onReload", lambda widget: reloaded.append(set(sys.modules)), raising=False)
    widget = object.__new__(module.SemiCardiacSegWidget)
    assert "SemiCardiacSegLib.panels.train" in sys.modules
    widget.onReload()
    (then,) = reloaded
    assert not {name for name in then if name.startswith("SemiCardiacSegLib")}


@pytest.mark.slow
def test_the_test_in_the_application_passes(module):
    pytest.importorskip("torch")
    case = module.SemiCardiacSegTest()
    case.setUp()
    case.test_sampleData()


def test_without_the_engines_packages_it_is_skipped_with_the_reason(module, monkeypatch, capsys):
    status = SimpleNamespace(ready=False, text="Not installed: torch")
    monkeypatch.setattr(module.installation, "status", lambda: status)
    module.SemiCardiacSegTest().runTest()
    assert "Not installed: torch" in capsys.readouterr().out
