"""The report of a job whose files are damaged or hostile: it does without them and says so, and names are text."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from semicardiac.base.events import EventLog
from semicardiac.base.text import spelled
from semicardiac.report import charts, write

from Testing.engine.report.support import Page, make_train_job
from Testing.engine.support import ACDC


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Path:
    return make_train_job(tmp_path_factory.mktemp("jobs") / "first", shift=4, steps=200)


HOSTILE = (
    "<script>alert(1)</script> $x_1$ \\alpha",
    '"><img src=x onerror=alert(1)> $ & \x1b[2J',
    "=cmd \u202egpj.exe \u05d0\u05d1 url(#a) $$",
)


def test_names_of_others_are_text_in_page_tables_and_charts(tmp_path):
    structures = [
        structure.model_copy(update={"name": name}) for structure, name in zip(ACDC.structures, HOSTILE, strict=True)
    ]
    labels = ACDC.model_copy(update={"structures": tuple(structures)})
    job = make_train_job(tmp_path / "job", shift=2, labels=labels)
    text = (job / "job.json").read_text(encoding="utf-8")
    (job / "job.json").write_text(text.replace('"patient001_frame00"', json.dumps(HOSTILE[1])), encoding="utf-8")
    EventLog(job / "events.jsonl").warn("odd", where=HOSTILE[0], hint=HOSTILE[2])
    page = Page(write.write_report(job))
    assert not {"script", "image", "iframe"} & {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert all(source.startswith("data:image/png;base64,") for source in page.attributes("src"))
    assert all(text.isprintable() or not text.replace("\n", "") for text in map(str.strip, page.texts) if text)
    for name in HOSTILE:
        shown = spelled(name)
        assert page.text.count(shown) > 5  # at line ends, in tables and legends
        assert shown in [text.strip() for text in page.texts]
    assert f"{0.867:.3f}" in page.text


PACKAGE = ("format", "version", "config", "labels", "locator", "heart_area_mm2", "about")


class TestDamagedFiles:
    """What a disk or an editor made of a job's files: the report does without them and says so."""

    @pytest.fixture
    def no_charts(self, monkeypatch):
        for name in ("curves", "dice_strip", "bland_altman"):
            monkeypatch.setattr(charts, name, lambda *_, **__: "")

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("history.csv", b"\x00\xff\xfe"),
            ("history.csv", b"step,loss\nnan,1\n1e308,1e308\ninf,-1e300\n"),
            ("history.csv", b"step\n" + b"9" * 200_000 + b"\n"),
            ("validation.csv", b"step,case,structure,dice\nx,a,RV cavity,1e308\n20,a,nobody,nan\n"),
            ("metrics.csv", b"case,dice\na,1\n"),
            ("clinical.csv", b"patient,measure,prediction,reference,difference\nnan,shoe_size,1,1,0\n"),
            ("metrics.json", b"[]"),
            ("metrics.json", b"{"),
            ("metrics.json", b"[" * 100_000),
            ("events.jsonl", b'{"event":"started","time":1e300,"kind":"x","version":"","pid":1}\n[]\n\xff'),
            ("events.jsonl", b'{"event":"done","time":1,"seconds":1e400,"cpu_seconds":-1e400}\n'),
            ("model/config.json", json.dumps({**dict.fromkeys(PACKAGE, 1), "config": [], "about": []}).encode()),
            ("model/config.json", b"["),
        ],
    )
    def test_the_page_is_there(self, job, tmp_path, name, content):
        shutil.copytree(job, tmp_path / "job")
        path = tmp_path / "job" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        text = Page(write.write_report(tmp_path / "job")).text
        assert "Provenance" in text
        if b"shoe" not in content and b"1e308" not in content and name in ("history.csv", "validation.csv"):
            assert f"{name}: this table" in text

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("volumes", "many"), ("metrics", []), ("metrics", {}), ("by_phase", {"ED": {}}), ("worst", "all"),
            ("agreement", {"shoe_size": None}), ("agreement", [1]), ("overlays", [{"case": 1}]),
            ("labels", {"name": "x"}), ("volumes", None),
        ],
    )  # fmt: skip
    @pytest.mark.usefixtures("no_charts")
    def test_numbers_of_another_kind_are_left_out_and_told(self, job, tmp_path, field, value):
        shutil.copytree(job, tmp_path / "job")
        path = tmp_path / "job" / "metrics.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {field: value}), encoding="utf-8")
        text = Page(write.write_report(tmp_path / "job")).text
        assert f"{path}: th" in text
        assert "The report does without it." in text
        assert "measured on 4 validation volumes" in text  # validation.csv is there

    @pytest.mark.parametrize(
        ("field", "value"),
        [("cases", {}), ("cases", [1, {"role": [], "name": None}]), ("config", []), ("labels", 3), ("kind", ["train"]),
         ("seeds", "x"), ("config", {"schedule": [], "optim": 1, "loss": {"a": [{}]}}), ("model", 3)],
    )  # fmt: skip
    @pytest.mark.usefixtures("no_charts")
    def test_a_job_of_another_kind_is_told_as_far_as_it_goes(self, job, tmp_path, field, value):
        shutil.copytree(job, tmp_path / "job")
        path = tmp_path / "job" / "job.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {field: value}), encoding="utf-8")
        assert "Provenance" in Page(write.write_report(tmp_path / "job")).text

    def test_pictures_are_those_of_the_evaluation_alone(self, job, tmp_path):
        shutil.copytree(job, tmp_path / "job")
        secret = tmp_path / "secret.png"
        secret.write_bytes(b"a secret")
        path = tmp_path / "job" / "metrics.json"
        summary = json.loads(path.read_text(encoding="utf-8"))
        for item, place in zip(summary["overlays"], ("../secret.png", str(secret)), strict=False):
            item["path"] = place
        path.write_text(json.dumps(summary), encoding="utf-8")
        source = Page(write.write_report(tmp_path / "job")).source
        assert base64.b64encode(b"a secret").decode() not in source
