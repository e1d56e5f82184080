"""The report: one whole page that needs nothing else, and says what the job's files say."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from Testing.engine.jobs.support import write_package
from Testing.engine.support import ACDC, engine_environment

pytest.importorskip("matplotlib")

from semicardiac.base.errors import UserError
from semicardiac.base.events import EventLog, Failed, Result, Warned
from semicardiac.evaluation import evaluate
from semicardiac.evaluation.matching import Pair
from semicardiac.images.volumes import Volume, stem, write_labels, write_series, write_volume
from semicardiac.jobs import job as jobs
from semicardiac.models.package import open_package, write_zip
from semicardiac.report import html, training, write

from Testing.engine.evaluation.support import write_acdc, write_labels_of
from Testing.engine.report.support import GRID, Page, labels_of, make_train_job

TEMPLATES = Path(html.__file__).parent / "templates"


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Path:
    return make_train_job(tmp_path_factory.mktemp("jobs") / "first", shift=4)


@pytest.fixture(scope="module")
def parsed(job) -> Page:
    return Page(write.write_report(job))


class TestPage:
    def test_needs_nothing_from_anywhere(self, parsed):
        assert "http:" not in parsed.source
        assert "https:" not in parsed.source
        assert not {"script", "link", "iframe", "object", "embed"} & {tag for tag, _ in parsed.tags}
        assert all(source.startswith("data:image/png;base64,") for source in parsed.attributes("src"))
        references = [
            *parsed.attributes("href"),
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
            text.lstrip("#") for text in [*parsed.attributes("href"), *re.findall(r"url\(([^)]*)\)", parsed.source)]
        }
        assert used
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

    def test_only_charts_and_sections_of_ours_go_in_as_they_are(self):
        """All else is escaped by jinja."""
        templates = [path.read_text(encoding="utf-8") for path in TEMPLATES.glob("*.html")]
        assert len(templates) > 10
        assert {name for text in templates for name in re.findall(r"(\S+) *\| *safe", text)} == {"svg", "section"}
        assert not [text for text in templates if "autoescape" in text]

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
        assert "schedule.minutes 3.33333 10" in parsed.text
        assert "method.name dptm_rem_cc" in parsed.text
        assert "preprocess.clip -3, 4" in parsed.text
        assert "some cpu (cpu), 2 threads, bfloat16, channels last" in parsed.text
        assert "2,000 steps, 3.3 min, 6.7 min of processor time over all cores" in parsed.text
        assert "The job took 3.3 min, 6.5 min of processor time over all cores" in parsed.text
        assert "43.2 (median)" in parsed.text

    def test_what_a_setting_left_open_is_shown_as_it_was_decided(self):
        open_, decided = {"preprocess": {"crop": None}}, {"preprocess": {"crop": 128}}
        trained = SimpleNamespace(job={"config": open_}, model={"config": decided})
        begun = SimpleNamespace(job={"config": open_}, model={})
        assert "128" not in training.settings(begun, None)
        assert "128" in training.settings(trained, None)
        assert "How the two trainings differ." in training.settings(trained, begun)

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
        path = write.write_report(job, baseline=better, out=tmp_path / "demo" / "report.html")
        text = Page(path).text
        assert path == tmp_path / "demo" / "report.html"
        assert "lowered the mean Dice from 0.867 to 0.733" in text
        assert "\N{MINUS SIGN}0.133" in text
        assert "labeled only" in text
        worse = make_train_job(tmp_path / "worse", preset="supervised", shift=6)
        text = Page(write.write_report(job, baseline=worse, out=tmp_path / "report.html")).text
        assert "raised the mean Dice from 0.600 to 0.733" in text

    def test_no_change_is_said_too(self, job, tmp_path):
        alone = make_train_job(tmp_path / "alone", preset="supervised", shift=4)
        text = Page(write.write_report(job, baseline=alone, out=tmp_path / "r.html")).text
        assert "left the mean Dice at 0.733" in text

    @pytest.mark.parametrize("baseline", ["semi-supervised", "evaluation"])
    def test_a_baseline_has_learned_from_the_labeled_cases_alone(self, job, tmp_path, baseline):
        other = tmp_path / "other"
        if baseline == "evaluation":
            shutil.copytree(job, other)
            (other / "job.json").unlink()
            jobs.create_job(tmp_path / "e", jobs.EvaluateJob(predictions=tmp_path, reference=tmp_path, labels=ACDC))
            shutil.move(tmp_path / "e" / "job.json", other)
        else:
            make_train_job(other)
        self.refused(job, other, "the baseline is no training on the labeled cases alone", other)

    def test_nothing_is_said_of_unlabeled_volumes_that_took_no_part(self, tmp_path):
        alone = [make_train_job(tmp_path / name, preset="supervised") for name in ("first", "second")]
        self.refused(*alone, "this is no training with unlabeled cases", alone[0])

    @pytest.mark.parametrize("table", ["metrics.csv", "validation.csv"])
    def test_the_volumes_are_the_same(self, job, tmp_path, table):
        other = make_train_job(tmp_path / "other", preset="supervised")
        text = (other / table).read_text(encoding="utf-8")
        (other / table).write_text(text.replace("patient005_frame01", "patient007_frame01"), encoding="utf-8")
        self.refused(job, other, "not measured on the same volumes: 'patient005_frame01'", other)

    def test_the_references_are_the_same(self, job, tmp_path):
        other = make_train_job(tmp_path / "other", preset="supervised")
        text = (other / "metrics.csv").read_text(encoding="utf-8")
        (other / "metrics.csv").write_text(text.replace(",0.4\n", ",0.44\n"), encoding="utf-8")  # ml, at ES
        self.refused(job, other, "not measured on the same volumes: 'patient004_frame01'", other)

    def test_a_job_that_is_not_yet_measured_can_be_compared(self, job, tmp_path):
        begun, alone = tmp_path / "begun", make_train_job(tmp_path / "alone", preset="supervised")
        begun.mkdir()
        for name in ("job.json", "events.jsonl", "history.csv"):
            shutil.copy(job / name, begun)
        text = Page(write.write_report(begun, baseline=alone)).text
        assert "labeled only" in text
        assert "mean Dice" not in text

    def test_seeds_are_averaged_in_the_head_and_in_the_table(self, tmp_path):
        places = [
            make_seeds(tmp_path / "semi", (2, 4), "default"),
            make_seeds(tmp_path / "alone", (6, 8), "supervised"),
        ]
        text = Page(write.write_report(places[0], baseline=places[1], out=tmp_path / "r.html")).text
        assert "raised the mean Dice from 0.533 to 0.800" in text  # of 0.600 and 0.467, and of 0.867 and 0.733
        assert re.search(r"mean 0\.533 0\.800 \+0\.267", text)
        assert "over 2 trainings with and 2 trainings without them" in text

    def refused(self, job: Path, baseline: Path, what: str, where: Path) -> None:
        page = baseline.parent / "refused.html"
        with pytest.raises(UserError, match=what) as caught:
            write.write_report(job, baseline=baseline, out=page)
        assert caught.value.where == str(where)
        assert caught.value.hint
        assert not page.exists()


class TestHeartFunction:
    def test_means_and_bias_are_of_the_same_patients(self, tmp_path):
        job = make_train_job(tmp_path / "job")
        rows = ["patient,measure,unit,prediction,reference,difference"]
        rows += ["a,rv_ef_percent,%,60,50,10", "b,rv_ef_percent,%,,20,", "c,rv_ef_percent,%,64,52,12"]
        (job / "clinical.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        summary = json.loads((job / "metrics.json").read_text(encoding="utf-8"))
        limits = {"n": 2, "bias": 11.0, "sd": 1.4142, "lower": 8.228, "upper": 13.772}
        summary["agreement"] = {"rv_ef_percent": limits}
        (job / "metrics.json").write_text(json.dumps(summary), encoding="utf-8")
        text = Page(write.write_report(job)).text
        assert "RV ejection fraction % n = 2 62.0 51.0 +11.0 +8.2 to +13.8" in text
        assert "Means over 3 patients with both phases" in text


class TestImplausibleValues:
    def test_they_stand_apart_with_what_is_wrong_and_count_in_no_mean(self, tmp_path):
        folder = jobs.create_job(
            tmp_path / "job", jobs.EvaluateJob(predictions=tmp_path / "p", reference=tmp_path / "r", labels=ACDC)
        )
        for number in (1, 2, 3):
            labels = {"frame01": labels_of(20, 20, 20), "frame12": labels_of(10, 20, 10 if number < 3 else 30)}
            write_acdc(tmp_path / "r", f"patient{number}", labels, images=False)
            for frame, each in labels.items():
                write_labels_of(tmp_path / "p", f"patient{number}_{frame}.nii.gz", each)
        evaluate.evaluate_folder(tmp_path / "p", tmp_path / "r", ACDC, folder, EventLog(folder / "events.jsonl"))
        text = Page(write.write_report(folder)).text
        assert "LV ejection fraction % n = 2 50.0 50.0 +0.0" in text
        assert "+0.0 points bias of LV ejection fraction, 2 patients" in text
        assert "clinical.csv: the LV volume is larger at end-systole than at end-diastole" in text
        assert "Implausible, and left out of the means above: 4 values of 1 patient." in text
        assert "LV ejection fraction -50.0 , reference -50.0 %" in text

    def test_one_patient_has_a_bias_and_no_limits(self, tmp_path):
        job = make_train_job(tmp_path / "job")
        for name in ("metrics.json", "clinical.csv"):
            (job / name).unlink()
        pairs = [
            Pair(f"a{phase}", "a", phase, *(job / "validation" / f"patient004_frame0{at}.nii.gz" for _ in range(2)))
            for at, phase in enumerate(("ED", "ES"))
        ]
        evaluate.evaluate_pairs(pairs, ACDC, job)
        text = Page(write.write_report(job)).text
        assert "+0.0 points bias of LV ejection fraction, 1 patient" in text
        assert "LV ejection fraction % 50.0 50.0 +0.0 \N{EN DASH}" in text
        assert "Bland-Altman" not in text


class TestUnfinishedJobs:
    def test_a_job_that_has_only_begun(self, tmp_path):
        job = jobs.EvaluateJob(predictions=tmp_path / "p", reference=tmp_path / "r", labels=ACDC)
        folder = jobs.create_job(tmp_path / "job", job)
        text = Page(write.write_report(folder)).text
        assert "Evaluation" in text
        assert "not started" in text

    def test_an_error_comes_first(self, tmp_path):
        job = jobs.EvaluateJob(predictions=tmp_path / "p", reference=tmp_path / "r", labels=ACDC)
        folder = jobs.create_job(tmp_path / "job", job)
        EventLog(folder / "events.jsonl").emit(Failed(what="the disk is full", where="/data", hint="Free some space"))
        text = Page(write.write_report(folder)).text
        assert "ended with an error" in text
        assert "/data: the disk is full. Free some space." in text

    def test_files_that_a_kill_cut_short(self, job, tmp_path):
        folder = tmp_path / "cut"
        folder.mkdir()
        for name in ("job.json", "events.jsonl", "history.csv", "validation.csv"):
            text = (job / name).read_text()
            (folder / name).write_text(text if name == "job.json" else text[: len(text) // 2].rstrip("\n"))
        text = Page(write.write_report(folder)).text
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
        text = Page(write.write_report(folder)).text
        assert "case 3: odd (2 times)." in text
        assert f"{20 - write.WARNINGS_MAX} more" in text

    def test_not_a_job_folder(self, tmp_path):
        with pytest.raises(UserError, match="not a job folder"):
            write.write_report(tmp_path)
        jobs.create_job(tmp_path / "inside", jobs.EvaluateJob(predictions=tmp_path, reference=tmp_path, labels=ACDC))
        with pytest.raises(UserError, match=r"There is one in it: .*inside"):
            write.write_report(tmp_path)
        with pytest.raises(UserError, match="no such folder"):
            write.write_report(tmp_path / "nowhere")

    def test_without_matplotlib_it_says_how_to_get_it(self, job, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(UserError, match="pip install matplotlib"):
            write.write_report(job)


def make_seeds(folder: Path, shifts: tuple[int, ...], preset: str) -> Path:
    """A training with a seed for each shift, of the same validation volumes."""
    for seed, shift in enumerate(shifts):
        make_train_job(folder / f"seed{seed}", preset=preset, shift=shift)
    shutil.move(folder / "seed0" / "job.json", folder)
    return folder


def test_seeds_give_mean_and_standard_deviation(tmp_path):
    folder = make_seeds(tmp_path / "seeds", (0, 4), "default")
    text = Page(write.write_report(folder)).text
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
            write_labels(out / path.name, labels_of(size, 10, size), ACDC)
            log.emit(Result(kind="segmentation", path=(out / path.name).as_posix(), case=stem(path)))
        frames = [labels_of(10, 10, size) for size in (10, 30, 15)]
        write_series(out / cine.name, [Volume(frame.array, GRID, 0.05 * at) for at, frame in enumerate(frames)])
        log.emit(Result(kind="segmentation", path=(out / cine.name).as_posix(), case="cine"))
        log.emit(Result(kind="segmentation", path="gone.nii.gz", case="gone"))
        return folder

    @pytest.fixture
    def text(self, folder) -> str:
        return Page(write.write_report(folder)).text

    def test_does_without_torch_also_where_the_model_is_a_zip(self, folder):
        code = (
            "import sys; sys.modules['torch'] = None\n"
            f"from semicardiac.report.write import write_report\nwrite_report({str(folder)!r})"
        )
        subprocess.run([sys.executable, "-c", code], env=engine_environment(), check=True, timeout=60)
        assert "Volumes in ml." in Page(folder / "report.html").text

    def test_without_its_model_the_files_are_listed(self, folder, tmp_path):
        (tmp_path / "model.zip").unlink()
        text = Page(write.write_report(folder)).text
        assert "cine.nii.gz" in text
        assert "Volumes in ml." not in text

    def test_volumes_and_files(self, text):
        assert "4 inputs segmented." in text
        assert "anna_frame01 0.8 0.4 0.8" in text  # ml of the three structures
        assert "gone.nii.gz" in text

    def test_what_no_heart_has_is_marked_and_a_frame_without_a_cavity_is_no_phase(self, folder, tmp_path):
        for path, size in zip(sorted((tmp_path / "out").glob("anna*")), (5, 20), strict=True):
            write_labels(path, labels_of(size, 10, size), ACDC)
        frames = [labels_of(10, 10, size) for size in (0, 30, 15)]
        write_series(tmp_path / "out" / "cine.nii.gz", [frame.with_array(frame.array) for frame in frames])
        text = Page(write.write_report(folder)).text
        assert "cine 1.2 0.6 0.6 50.0 0.4" in text  # and not 100 % against the empty frame
        larger = "the {} volume is larger at end-systole than at end-diastole (anna)"
        assert "anna 0.2\N{DAGGER} 0.8\N{DAGGER} -0.6\N{DAGGER} -300.0\N{DAGGER} 0.4 0.2\N{DAGGER}" in text
        assert f"at end-diastole (cine); {larger.format('LV')}; {larger.format('RV')}." in text

    def test_ejection_fraction_of_a_pair_and_of_a_cine(self, text):
        assert "anna 0.8 0.2 0.6 75.0" in text
        assert "cine 1.2 0.4 0.8 66.7" in text
        assert "frame 2, where the LV cavity is largest" in text
