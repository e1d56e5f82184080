"""The report: one whole page that needs nothing else, and says what the job's files say."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers import ACDC, engine_environment
from helpers_jobs import write_package
from PIL import Image

pytest.importorskip("matplotlib")

from semicardiac import evaluation, figures, jobs, page, report, wording
from semicardiac.cases import Case
from semicardiac.clinical import agreement
from semicardiac.config import make_config
from semicardiac.errors import UserError
from semicardiac.events import Device, Done, EventLog, Failed, Result, Started, Warned
from semicardiac.files import write_text
from semicardiac.labels import get_label_set
from semicardiac.matching import Pair
from semicardiac.overlays import write_png
from semicardiac.package import open_package, write_zip
from semicardiac.record import Record, read_record
from semicardiac.volumes import Volume, stem, write_labels, write_series, write_volume

GRID = np.diag([2.0, 2.0, 10.0, 1.0])
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """A parsed page: fails where tags do not nest, and keeps what the tests ask for."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def attributes(self, name: str) -> list[str]:
        return [value for _, attributes in self.tags for key, value in attributes.items() if key == name and value]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)


def _labels(rv: int, myo: int, lv: int, shift: int = 0) -> Volume:
    array = np.zeros((3, 12, 40), np.uint8)
    for label, (row, count) in enumerate(((1, rv), (5, myo), (9, lv)), start=1):
        array[1, row, shift : shift + count] = label
    return Volume(array, GRID)


def _write_history(folder: Path, steps: int) -> None:
    names = ["background", *ACDC.names]
    with open(folder / "history.csv", "w", newline="") as file:
        columns = ["step", "total", "stage", "seconds", "cpu_seconds", "loss", "loss_supervised", "loss_unsupervised"]
        columns += ["loss_contrast", "lambda_u", "learning_rate", "threshold_mean", "images_per_s"]
        writer = csv.DictWriter(file, columns + [f"pass_rate/{name}" for name in names])
        writer.writeheader()
        for step in range(20, steps + 1, 20):
            row = {"step": step, "total": steps, "stage": "supervised", "seconds": step / 10, "cpu_seconds": step / 5}
            row |= {"loss": 1 / step, "loss_supervised": 1 / step, "learning_rate": 0.05, "images_per_s": 43.21}
            if step > steps / 2:
                row |= {"loss_unsupervised": 0.1, "loss_contrast": 1.5, "lambda_u": 0.8, "threshold_mean": 0.9}
                row |= {f"pass_rate/{name}": 0.7 for name in names}
            writer.writerow(row)


def make_train_job(folder: Path, *, preset: str = "default", shift: int = 0, steps: int = 2000) -> Path:
    """A finished training with two validation patients, as its files tell it."""
    roles = ["labeled"] * 2 + ["unlabeled"] * 6 + ["validation"] * 4
    data = folder.parent / f"{folder.name}-data"
    images = [data / f"patient{number // 2:03d}_frame{number % 2:02d}.nii.gz" for number in range(len(roles))]
    cases = [
        Case(
            name=stem(image), patient=image.name[:10], image=image, role=role,
            phase=("ED", "ES")[number % 2],
            labels=None if role == "unlabeled" else image.with_name(f"{stem(image)}_gt.nii.gz"),
        )
        for number, (image, role) in enumerate(zip(images, roles, strict=True))
    ]  # fmt: skip
    config = make_config(preset, {"schedule": {"minutes": 10 / 3}})
    jobs.create_job(folder, jobs.TrainJob(cases=tuple(cases), labels=ACDC, config=config, device="cpu"))
    log = EventLog(folder / "events.jsonl")
    log.emit(Started(kind="train", version="0.1.0", pid=1))
    log.emit(Device(device="cpu", name="some cpu", dtype="bfloat16", channels_last=True, threads=2))
    _write_history(folder, steps)
    pairs = []
    for case in cases:
        if case.role != "validation":
            continue
        size = 20 if case.phase == "ED" else 10
        write_volume(case.image, Volume(np.arange(1440, dtype=np.int16).reshape(3, 12, 40), GRID))
        write_labels(case.labels, _labels(size, 20, size), ACDC)
        prediction = folder / "validation" / f"{case.name}.nii.gz"
        write_labels(prediction, _labels(size, 20, size, shift), ACDC)
        pairs.append(Pair(case.name, case.patient, case.phase, prediction, case.labels, case.image))
    evaluation.evaluate_pairs(pairs, ACDC, folder, log)
    with open(folder / "validation.csv", "w") as file:
        file.write("step,case,structure,dice\n")
        for step in (steps // 2, steps):
            for pair in pairs:
                file.writelines(f"{step},{pair.case},{name},{step / steps * 0.8}\n" for name in ACDC.names)
    write_png(folder / "previews" / "step000200.png", np.zeros((8, 8, 3), np.uint8))
    write_png(folder / "previews" / "step002000.png", np.full((8, 8, 3), 200, np.uint8))
    log.warn("the heart was <not> found", where="patient004_frame00", hint="Give an ROI")
    log.emit(Done(seconds=200, cpu_seconds=390))
    return folder


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Path:
    return make_train_job(tmp_path_factory.mktemp("jobs") / "first", shift=4)


@pytest.fixture(scope="module")
def parsed(job) -> Page:
    return Page(report.write_report(job))


class TestPage:
    def test_needs_nothing_from_anywhere(self, parsed):
        assert "http:" not in parsed.source
        assert "https:" not in parsed.source
        assert not {"script", "link", "iframe", "object", "embed"} & {tag for tag, _ in parsed.tags}
        assert all(source.startswith("data:image/png;base64,") for source in parsed.attributes("src"))
        references = [
            *parsed.attributes("href"),
            *parsed.attributes("xlink:href"),
            *re.findall(r"url\(([^)]*)\)", parsed.source),
        ]
        assert references
        assert all(reference.startswith("#") for reference in references)

    def test_pictures_are_whole(self, parsed):
        sources = [attributes["src"] for tag, attributes in parsed.tags if tag == "img"]
        assert len(sources) == 4 + 2  # of each validation volume, and previews
        for source in sources:
            Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).load()

    def test_inner_references_meet_one_target_each(self, parsed):
        identities = parsed.attributes("id")
        assert len(identities) == len(set(identities))
        used = {
            text.lstrip("#")
            for text in [*parsed.attributes("xlink:href"), *re.findall(r"url\(([^)]*)\)", parsed.source)]
        }
        assert used <= set(identities)

    def test_can_be_read_without_seeing(self, parsed):
        assert ("html", {"lang": "en"}) in parsed.tags
        assert all(attributes.get("alt") for tag, attributes in parsed.tags if tag == "img")
        charts = [attributes for tag, attributes in parsed.tags if tag == "svg"]
        assert len(charts) == 1 + 2 + 6  # Dice strip, Bland-Altman of both ventricles, curves
        assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
        assert all(attributes.get("scope") for tag, attributes in parsed.tags if tag == "th")

    def test_charts_take_the_colors_of_the_page(self, parsed):
        assert not re.findall(r"#0[01][0-9a-f]{2}fe", parsed.source)  # no stand-in is left
        used = set(re.findall(r"var\(--([\w]+)\)", parsed.source))
        light, dark = re.findall(r":root\{([^}]*)\}", parsed.source)[:2]
        for theme in (light, dark):
            assert used <= set(re.findall(r"--([\w]+):", theme))

    def test_what_others_wrote_is_text(self, parsed):
        assert "the heart was <not> found" in parsed.text

    def test_nothing_half_written_stays(self, job, parsed):
        assert not list(job.glob(".*"))


class TestTrainJob:
    def test_numbers_of_the_evaluation(self, job, parsed):
        summary = json.loads((job / "metrics.json").read_text())["metrics"]
        for name in [*ACDC.names, "mean"]:
            assert f"{summary[name]['dice']['mean']:.3f}" in parsed.text
            assert f"{summary[name]['hd95_mm']['mean']:.2f}" in parsed.text

    def test_one_sentence_says_what_was_done(self, parsed):
        assert "3.3 min of training on 1 labeled patient and 6 unlabeled volumes , measured on 4 volumes" in parsed.text

    def test_cases_settings_and_provenance(self, parsed):
        assert "Labeled 1 2 1 ED, 1 ES" in parsed.text
        assert "schedule.minutes 3.33333 \N{EN DASH}" in parsed.text
        assert "loss.dptm on" in parsed.text
        assert "preprocess.clip -3, 4" in parsed.text
        assert "some cpu (cpu), 2 threads, bfloat16, channels last" in parsed.text
        assert "2,000 steps, 3.3 min, 6.7 min of processor time over all cores" in parsed.text
        assert "The job took 3.3 min, 6.5 min of processor time over all cores" in parsed.text
        assert "43.2 (median)" in parsed.text

    def test_worst_volume_and_names_at_the_line_ends(self, parsed):
        assert (
            "The worst volume is patient003_frame" in parsed.text
            or "The worst volume is patient004_frame" in parsed.text
        )
        assert {"contrast", "mean of M", "background"} <= set(parsed.texts)

    def test_ejection_fraction(self, parsed):
        assert "LV ejection fraction" in parsed.text
        assert "+0.0 to +0.0" in parsed.text


class TestComparison:
    def test_says_honestly_what_the_unlabeled_volumes_brought(self, job, tmp_path):
        better = make_train_job(tmp_path / "alone", preset="supervised", shift=2)
        path = report.write_report(job, baseline=better, out=tmp_path / "demo" / "report.html")
        text = Page(path).text
        assert path == tmp_path / "demo" / "report.html"
        assert "lowered the mean Dice from 0.867 to 0.733" in text
        assert "\N{MINUS SIGN}0.133" in text
        assert "labeled only" in text
        worse = Page(report.write_report(better, baseline=job, out=tmp_path / "report.html")).text
        assert "raised the mean Dice from 0.733 to 0.867" in worse

    def test_no_change_is_said_too(self, job, tmp_path):
        assert (
            "left the mean Dice at 0.733" in Page(report.write_report(job, baseline=job, out=tmp_path / "r.html")).text
        )


class TestUnfinishedJobs:
    def test_a_job_that_has_only_begun(self, tmp_path):
        job = jobs.EvaluateJob(predictions=tmp_path / "p", reference=tmp_path / "r", labels=ACDC)
        folder = jobs.create_job(tmp_path / "job", job)
        text = Page(report.write_report(folder)).text
        assert "Evaluation" in text
        assert "not started" in text

    def test_an_error_comes_first(self, tmp_path):
        job = jobs.EvaluateJob(predictions=tmp_path / "p", reference=tmp_path / "r", labels=ACDC)
        folder = jobs.create_job(tmp_path / "job", job)
        EventLog(folder / "events.jsonl").emit(Failed(what="the disk is full", where="/data", hint="Free some space"))
        text = Page(report.write_report(folder)).text
        assert "ended with an error" in text
        assert "/data: the disk is full. Free some space." in text

    def test_files_that_a_kill_cut_short(self, job, tmp_path):
        folder = tmp_path / "cut"
        folder.mkdir()
        for name in ("job.json", "events.jsonl", "history.csv", "validation.csv"):
            text = (job / name).read_text()
            (folder / name).write_text(text if name == "job.json" else text[: len(text) // 2].rstrip("\n"))
        text = Page(report.write_report(folder)).text
        assert "not finished" in text
        assert "measured on 4 validation volumes" in text
        assert "0.400" in text  # the mean Dice of the only validation that is whole

    def test_repeated_warnings_are_counted_and_many_are_folded(self, tmp_path):
        job = jobs.EvaluateJob(predictions=tmp_path / "p", reference=tmp_path / "r", labels=ACDC)
        folder = jobs.create_job(tmp_path / "job", job)
        log = EventLog(folder / "events.jsonl")
        for number in range(20):
            log.emit(Warned(warning="odd", where=f"case {number}"))
        log.emit(Warned(warning="odd", where="case 3"))
        text = Page(report.write_report(folder)).text
        assert "case 3: odd (2 times)." in text
        assert f"{20 - report.WARNINGS_MAX} more" in text

    def test_not_a_job_folder(self, tmp_path):
        with pytest.raises(UserError, match="not a job folder"):
            report.write_report(tmp_path)
        jobs.create_job(tmp_path / "inside", jobs.EvaluateJob(predictions=tmp_path, reference=tmp_path, labels=ACDC))
        with pytest.raises(UserError, match=r"There is one in it: .*inside"):
            report.write_report(tmp_path)
        with pytest.raises(UserError, match="no such folder"):
            report.write_report(tmp_path / "nowhere")

    def test_without_matplotlib_it_names_the_extra(self, job, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(UserError, match=r"semicardiac\[report\]"):
            report.write_report(job)


class TestRecord:
    def test_names_that_look_like_numbers_stay_as_they_are(self, tmp_path):
        make_train_job(tmp_path)
        for name in ("metrics.csv", "clinical.csv", "validation.csv"):
            text = (tmp_path / name).read_text()
            (tmp_path / name).write_text(text.replace("patient004_frame00", "007").replace("patient004", "1e3"))
        record = read_record(tmp_path)
        for rows in (record.metrics, record.validation):
            assert "007" in {row["case"] for row in rows}
        for rows in (record.metrics, record.clinical):
            assert {row["patient"] for row in rows} == {"1e3", "patient005"}
        assert {type(row["dice"]) for row in record.metrics} == {float}
        assert all(math.isnan(row["lambda_u"]) for row in record.history[:2])
        assert {row["stage"] for row in record.history} == {"supervised"}

    def test_seeds_come_by_their_numbers(self, tmp_path):
        for name in ("seed9", "seed10", "seed2", "seeds", "seed1-old"):
            write_text(tmp_path / name / "events.jsonl", "")
        assert [seed.folder.name for seed in Record(tmp_path).seeds] == ["seed2", "seed9", "seed10"]

    @pytest.mark.parametrize(
        ("preset", "warmup", "uses"), [("default", 0.35, True), ("default", 1.0, False), ("supervised", 0.5, True)]
    )
    def test_unlabeled_cases_take_part_unless_the_warmup_never_ends(self, tmp_path, preset, warmup, uses):
        config = make_config(preset, {"schedule": {"minutes": 3, "warmup": warmup}})
        case = Case(name="a", patient="a", image=tmp_path / "a.nrrd")
        jobs.create_job(tmp_path / "job", jobs.TrainJob(cases=(case,), labels=ACDC, config=config))
        assert read_record(tmp_path / "job").uses_unlabeled == uses


def test_seeds_give_mean_and_standard_deviation(tmp_path):
    folder = make_train_job(tmp_path / "seeds" / "seed0", shift=0).parent
    make_train_job(folder / "seed1", shift=4)
    (folder / "job.json").write_text((folder / "seed0" / "job.json").read_text())
    text = Page(report.write_report(folder)).text
    assert "0.867 mean Dice over 2 seeds" in text
    assert "mean ± SD 0.867 ± 0.189" in text


class TestSegmentJob:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        inputs = [tmp_path / f"anna_frame{frame}.nii.gz" for frame in ("01", "08")]
        cine, out = tmp_path / "cine.nii.gz", tmp_path / "out"
        image = np.arange(1440, dtype=np.int16).reshape(3, 12, 40)
        for path in inputs:
            write_volume(path, Volume(image, GRID))
        write_series(cine, [Volume(image, GRID, 0.05 * frame) for frame in range(3)])
        segment = jobs.SegmentJob(model=tmp_path / "model.zip", inputs=(*inputs, cine), out=out)
        folder = jobs.create_job(tmp_path / "job", segment)
        write_package(tmp_path / "package")
        write_zip(open_package(tmp_path / "package"), tmp_path / "model.zip")
        log = EventLog(folder / "events.jsonl")
        for path, size in zip(inputs, (20, 5), strict=True):
            write_labels(out / path.name, _labels(size, 10, size), ACDC)
            log.emit(Result(kind="segmentation", path=(out / path.name).as_posix(), case=stem(path)))
        frames = [_labels(10, 10, size) for size in (10, 30, 15)]
        write_series(out / cine.name, [Volume(frame.array, GRID, 0.05 * at) for at, frame in enumerate(frames)])
        log.emit(Result(kind="segmentation", path=(out / cine.name).as_posix(), case="cine"))
        log.emit(Result(kind="segmentation", path="gone.nii.gz", case="gone"))
        return folder

    @pytest.fixture
    def text(self, folder) -> str:
        return Page(report.write_report(folder)).text

    def test_does_without_torch_also_where_the_model_is_a_zip(self, folder):
        code = (
            "import sys; sys.modules['torch'] = None\n"
            f"from semicardiac.report import write_report\nwrite_report({str(folder)!r})"
        )
        subprocess.run([sys.executable, "-c", code], env=engine_environment(), check=True, timeout=60)
        assert "Volumes in ml." in Page(folder / "report.html").text

    def test_volumes_and_files(self, text):
        assert "4 inputs segmented." in text
        assert "anna_frame01 0.8 0.4 0.8" in text  # ml of the three structures
        assert "gone.nii.gz" in text

    def test_ejection_fraction_of_a_pair_and_of_a_cine(self, text):
        assert "anna 0.8 0.2 0.6 75.0" in text
        assert "cine 1.2 0.4 0.8 66.7" in text
        assert "frame 2, where the LV cavity is largest" in text


class TestFigures:
    def test_names_at_the_line_ends_do_not_overlap(self):
        lines = {f"line {number}": ([0, 1, 2], [0, 1, 1 + number / 1000]) for number in range(5)}
        svg = figures.curves(lines, name="x", title="x", colors={})
        heights = [
            float(y) for y in re.findall(r'transform="translate\([\d.]+ ([\d.]+)\)">line', svg.replace("\n", ""))
        ]
        if not heights:  # how matplotlib places a text is its own affair
            heights = [float(y) for y in re.findall(r'<text[^>]*\by="([\d.]+)"[^>]*>line', svg)]
        assert len(heights) == 5
        assert min(abs(a - b) for a, b in zip(sorted(heights), sorted(heights)[1:], strict=False)) > 8

    def test_nan_and_nothing_are_drawn_as_nothing(self):
        figures.curves({"a": ([1, 2], [math.nan, math.nan])}, name="x", title="x", colors={})
        figures.dice_strip({"this": {"RV": {"a": math.nan}}}, name="x", title="x", colors={"RV": "s1"})

    def test_one_patient_has_no_limits(self):
        svg = figures.bland_altman([50.0], [48.0], agreement([50.0], [48.0]), name="x", title="x", unit="%")
        assert "bias" in svg
        assert "1.96" not in svg

    def test_titles_are_escaped(self):
        assert 'aria-label="a &lt;b&gt; &quot;c&quot;"' in figures.curves({}, name="x", title='a <b> "c"', colors={})


def test_structure_colors_can_be_seen_on_either_page():
    def contrast(color: str, paper: str) -> float:
        bright, dim = sorted(
            (page._luminance([int(text[at : at + 2], 16) for at in (1, 3, 5)]) for text in (color, paper)), reverse=True
        )
        return (bright + 0.05) / (dim + 0.05)

    for structure in get_label_set("mmwhs").structures:
        for theme in (page.LIGHT, page.DARK):
            assert contrast(page._legible(structure.color, theme["paper"]), theme["paper"]) >= 4.5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12, "12 s"), (89.6, "90 s"), (588, "9.8 min"), (600, "10 min"), (7500, "2 h 5 min"), (7199, "2 h 0 min")],
)
def test_durations(seconds, text):
    assert wording.duration(seconds) == text


def test_ordinals():
    assert [wording.ordinal(place) for place in (1, 2, 3, 4, 11, 12, 13, 21, 112)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th",
    ]  # fmt: skip
