"""The phantom: hearts that are plausible, labels that are exact, volumes that a seed decides on bit by bit."""

from __future__ import annotations

import functools
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from semicardiac.base.errors import UserError
from semicardiac.cli.main import main
from semicardiac.data.discover import discover
from semicardiac.evaluation.matching import match
from semicardiac.images.volumes import Volume, read_labels, read_series, read_volume, same_geometry
from semicardiac.phantom.heart import ANGLES, END_SYSTOLE, PATHOLOGIES, draw_heart, ejected
from semicardiac.phantom.patient import LABELS, Patient
from semicardiac.phantom.scanner import SCANNERS, acquire, scanner_at, smooth_noise
from semicardiac.phantom.study import CYCLE_S, LABELED_PATHOLOGIES, MILD, make_heart, write_cine, write_study

from Testing.engine.support import engine_environment

RV, MYO, LV = (LABELS.role_index(role) for role in ("rv", "myo", "lv"))
ROLES = {"rv": RV, "myo": MYO, "lv": LV}
CASES = [(3, "NOR", "A"), (4, "DCM", "B"), (5, "HCM", "C"), (6, "MINF", "A"), (7, "RV", "B"), (8, "NOR", "C")]
"""Seeds with all pathologies and scanners."""


@functools.lru_cache
def patient(seed: int, pathology: str, scanner: str) -> Patient:
    return Patient(seed, pathology=pathology, scanner=scanner)


@functools.lru_cache
def frame(case: tuple[int, str, str], phase: float) -> tuple[Volume, Volume]:
    return patient(*case).frame(phase)


def base_first(case: tuple[int, str, str], volume: Volume) -> np.ndarray:
    return volume.array[::-1] if SCANNERS[case[2]].apex_first else volume.array


def counted_ml(labels: Volume) -> dict[str, float]:
    return {role: float((labels.array == label).sum() * labels.voxel_ml) for role, label in ROLES.items()}


def digest(*volumes: Volume) -> str:
    return hashlib.sha256(
        b"".join(part.tobytes() for each in volumes for part in (each.array, each.ijk_to_ras))
    ).hexdigest()


class TestDeterminism:
    def test_a_seed_gives_the_same_bits_in_another_process_with_other_threads(self):
        code = (
            "import hashlib, sys; from semicardiac.phantom.study import make_heart\n"
            "volumes = make_heart(12, 0.2, pathology='HCM', scanner='C')\n"
            "parts = [part.tobytes() for each in volumes for part in (each.array, each.ijk_to_ras)]\n"
            "print(hashlib.sha256(b''.join(parts)).hexdigest())"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=engine_environment(OMP_NUM_THREADS="2", OPENBLAS_NUM_THREADS="2", PYTHONHASHSEED="7"),
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == digest(*make_heart(12, 0.2, pathology="HCM", scanner="C"))

    def test_frames_do_not_depend_on_those_drawn_before(self):
        other = Patient(3, pathology="NOR", scanner="A")
        other.frame(0.7)
        assert digest(*other.frame(END_SYSTOLE)) == digest(*frame(CASES[0], END_SYSTOLE))

    def test_the_cycle_closes(self):
        assert digest(*patient(*CASES[0]).frame(1.0)) == digest(*frame(CASES[0], 0.0))

    def test_another_seed_is_another_heart(self):
        one, two = Patient(1, pathology="NOR", scanner="A"), Patient(2, pathology="NOR", scanner="A")
        assert one.heart.volumes_ml(0) != two.heart.volumes_ml(0)
        assert one.stack.center != two.stack.center

    def test_what_is_not_given_is_drawn(self):
        drawn = {Patient(seed).pathology for seed in range(4)}
        assert len(drawn) >= 2
        assert drawn <= set(PATHOLOGIES)


class TestCycle:
    def test_blood_leaves_until_end_systole_and_comes_back(self):
        phases = np.linspace(0, 1, 201)
        gone = np.array([ejected(phase) for phase in phases])
        systole = phases <= END_SYSTOLE
        assert gone[0] == gone[-1] == 0
        assert ejected(END_SYSTOLE) == 1
        assert (np.diff(gone[systole]) > 0).all()
        assert (np.diff(gone[~systole]) <= 0).all()

    @pytest.mark.parametrize("pathology", PATHOLOGIES)
    def test_ejection_fraction_is_that_of_the_pathology(self, pathology: str):
        mean, deviation = PATHOLOGIES[pathology].lv_ef
        fractions = [draw_heart(np.random.default_rng(seed), pathology, 0.0).ejection_fraction for seed in range(5)]
        assert all(abs(fraction - mean) < 2.1 * deviation for fraction in fractions)
        assert abs(np.mean(fractions) - mean) < 1.2 * deviation

    @pytest.mark.parametrize("pathology", PATHOLOGIES)
    def test_the_wall_keeps_its_volume_and_the_cavities_do_not(self, pathology: str):
        heart = draw_heart(np.random.default_rng(1), pathology, 0.0)
        diastole, systole = heart.volumes_ml(0), heart.volumes_ml(END_SYSTOLE)
        assert systole["myo"] == diastole["myo"]
        assert systole["lv"] < 0.95 * diastole["lv"]
        assert systole["rv"] < 0.95 * diastole["rv"]

    @pytest.mark.parametrize("phase", [0.0, 0.15, END_SYSTOLE])
    @pytest.mark.parametrize("pathology", PATHOLOGIES)
    def test_surfaces_enclose_the_stated_volumes(self, pathology: str, phase: float):
        """Integrated along z in millimeters of the moving heart, by another way than over the tables."""
        heart = draw_heart(np.random.default_rng(5), pathology, 0.3)
        z = np.arange(-40, heart.length_mm, step := 0.4) + step / 2
        s = heart.position(z, phase)
        areas = {name: table.sum(axis=1) * np.pi / ANGLES for name, table in heart.surfaces(s, phase)._asdict().items()}
        found = {
            "lv": areas["endo"][s >= 0].sum() * step / 1000,
            "myo": (areas["epi"] - areas["endo"])[s >= 0].sum() * step / 1000,
            "rv": (areas["rv"] - areas["epi"])[s >= heart.rv_top].sum() * step / 1000,
        }
        assert found == pytest.approx(heart.volumes_ml(phase), rel=0.01)

    def test_surfaces_lie_inside_one_another(self):
        heart = draw_heart(np.random.default_rng(2), "MINF", 0.0)
        surfaces = heart.surfaces(np.linspace(0, 0.99, 40), 0.2)
        for inner, outer in zip(
            (surfaces.blood, surfaces.endo, surfaces.epi, surfaces.rv, surfaces.outer),
            (surfaces.endo, surfaces.epi, surfaces.rv, surfaces.outer, surfaces.fat),
            strict=True,
        ):
            assert (inner <= outer + 1e-6).all()

    def test_an_infarct_moves_less_than_the_rest(self):
        heart = draw_heart(np.random.default_rng(4), "MINF", 0.0)
        assert heart.lv_ejection.min() < 0.1 < 2 * heart.ejection_fraction < 2 * heart.lv_ejection.max()

    def test_there_is_nothing_beyond_the_apex(self):
        heart = draw_heart(np.random.default_rng(2), "NOR", 0.0)
        assert not any(table.any() for table in heart.surfaces(np.array([1.0, 1.2]), 0.1))


@pytest.mark.parametrize("phase", [0.0, END_SYSTOLE])
@pytest.mark.parametrize("case", CASES, ids=str)
class TestLabels:
    def test_types_and_values(self, case, phase):
        image, labels = frame(case, phase)
        assert image.array.dtype == np.int16
        assert labels.array.dtype == np.uint8
        assert set(np.unique(labels.array)) == {0, RV, MYO, LV}
        assert image.array.min() >= 0
        assert same_geometry(image, labels) is None

    def test_volumes_are_those_of_the_heart(self, case, phase):
        """Ten thick, misplaced slices are as good as ten thick slices can be."""
        expected = patient(*case).heart.volumes_ml(phase)
        assert counted_ml(frame(case, phase)[1]) == pytest.approx(expected, rel=0.2, abs=5)

    def test_the_heart_lies_in_the_field_of_view(self, case, phase):
        inside = frame(case, phase)[1].array > 0
        assert not inside[:, [0, -1]].any()
        assert not inside[:, :, [0, -1]].any()

    def test_the_wall_encloses_the_cavity_in_the_middle(self, case, phase):
        slices = base_first(case, frame(case, phase)[1])
        with_lv = np.flatnonzero((slices == LV).any(axis=(1, 2)))
        for index in with_lv[1 : max(len(with_lv) * 2 // 3, 2)]:
            cavity, wall = slices[index] == LV, slices[index] == MYO
            assert ndimage.label(cavity)[1] == 1
            assert np.array_equal(ndimage.binary_fill_holes(wall), wall | cavity)
            assert (ndimage.binary_dilation(cavity) <= (wall | cavity)).all()

    def test_the_right_ventricle_leans_on_the_septum(self, case, phase):
        slices = base_first(case, frame(case, phase)[1])
        middle = slices[len(slices) // 2 - 1]
        right, ventricle = middle == RV, np.isin(middle, (MYO, LV))
        rim = ventricle & ndimage.binary_dilation(~ventricle)
        septal = ndimage.binary_dilation(right) & rim
        assert 0.15 * rim.sum() < septal.sum() < 0.6 * rim.sum()
        assert not (ndimage.binary_dilation(right) & (middle == LV)).any()
        parts = np.bincount(ndimage.label(right, np.ones((3, 3)))[0].ravel())[1:]
        assert parts.max() > 0.98 * right.sum()

    def test_it_tapers_from_base_to_apex(self, case, phase):
        slices = base_first(case, frame(case, phase)[1])
        areas = np.isin(slices, (LV, MYO)).sum(axis=(1, 2))
        areas = areas[areas > 0]
        assert areas[-1] < 0.6 * areas[len(areas) // 3]


class TestAcrossHearts:
    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_ejection_fraction_can_be_measured(self, case):
        diastole, systole = (counted_ml(frame(case, phase)[1]) for phase in (0.0, END_SYSTOLE))
        heart = patient(*case).heart
        assert systole["lv"] < diastole["lv"]
        assert systole["rv"] < diastole["rv"]
        assert 1 - systole["lv"] / diastole["lv"] == pytest.approx(heart.ejection_fraction, abs=0.1)
        assert systole["myo"] == pytest.approx(diastole["myo"], rel=0.25)

    def test_counted_volumes_are_right_on_average(self):
        ratios = [
            counted_ml(frame(case, phase)[1])[role] / patient(*case).heart.volumes_ml(phase)[role]
            for case in CASES
            for phase in (0.0, END_SYSTOLE)
            for role in ROLES
        ]
        assert np.mean(ratios) == pytest.approx(1, abs=0.06)

    def test_some_slices_above_the_valve_or_beyond_the_apex_are_empty_but_few(self):
        empty = np.concatenate([~frame(case, phase)[1].array.any(axis=(1, 2)) for case in CASES for phase in (0, 0.36)])
        assert 0 < empty.mean() < 0.3

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_no_threshold_finds_the_blood(self, case):
        """Fat, vessels and stomach are as bright, so that anatomy has to be learned."""
        image, labels = frame(case, 0.0)
        blood = np.isin(labels.array, (LV, RV))
        scores = []
        for threshold in np.percentile(image.array, np.arange(50, 99, 2)):
            bright = image.array > threshold
            scores.append(2 * (bright & blood).sum() / (bright.sum() + blood.sum()))
        assert max(scores) < 0.6

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_blood_is_brighter_than_muscle(self, case):
        image, labels = frame(case, 0.0)
        means = {label: np.median(image.array[labels.array == label]) for label in (RV, MYO, LV)}
        assert means[LV] > 1.3 * means[MYO]
        assert means[RV] > 1.1 * means[MYO]


class TestGeometry:
    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_spacing_size_and_orientation(self, case):
        scanner = SCANNERS[case[2]]
        image, _ = frame(case, 0.0)
        column, row, gap = image.spacing
        assert column == pytest.approx(row)
        assert scanner.spacing_mm[0] <= column <= scanner.spacing_mm[1]
        assert scanner.gap_mm[0] <= gap <= scanner.gap_mm[1]
        assert 7 <= image.array.shape[0] <= 14
        assert all(128 <= size <= 180 for size in image.array.shape[1:])
        directions = image.ijk_to_ras[:3, :3] / image.spacing
        assert directions.T @ directions == pytest.approx(np.eye(3), abs=1e-9)
        assert np.abs(directions).max() < 0.98  # oblique about every axis
        assert np.linalg.det(directions) == pytest.approx(1 if scanner.apex_first else -1)

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_the_heart_points_to_the_left_front_and_down(self, case):
        _, labels = frame(case, 0.0)
        centers = [
            labels.ijk_to_ras @ [*np.argwhere(plane == LV).mean(axis=0)[::-1], k, 1]
            for k, plane in enumerate(labels.array)
            if (plane == LV).any()
        ]
        base, apex = (centers[-1], centers[0]) if SCANNERS[case[2]].apex_first else (centers[0], centers[-1])
        right, anterior, superior = (apex - base)[:3]
        assert right < 0 < anterior
        assert superior < 0

    def test_ends_of_the_cycle_share_a_grid(self):
        assert same_geometry(frame(CASES[2], 0.0)[0], frame(CASES[2], END_SYSTOLE)[0]) is None


class TestScanner:
    def test_noise_in_the_air_is_rayleigh(self):
        air = acquire(np.random.default_rng(0), np.zeros((4, 96, 96), np.float32), 0.1, 0.8, 10_000).astype(float)
        assert air.mean() / air.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.03)

    def test_without_noise_an_even_signal_stays(self):
        image = acquire(np.random.default_rng(0), np.full((2, 40, 50), 0.5, np.float32), 0.0, 0.7, 1000)
        assert (image == 500).all()

    def test_the_band_is_limited(self):
        fine = np.zeros((1, 64, 64), np.float32)
        fine[0, :, ::2] = 1  # the finest pattern there is
        assert np.ptp(acquire(np.random.default_rng(0), fine, 0.0, 0.7, 1000)) <= 1

    def test_smooth_noise_is_smooth_and_of_unit_variance(self):
        values = smooth_noise(np.random.default_rng(0), (20, 200, 180), (8, 20, 18))
        assert values.dtype == np.float32
        assert values.std() == pytest.approx(1, abs=0.1)
        assert abs(np.diff(values, axis=1)).mean() < 0.2

    @pytest.mark.parametrize("site", SCANNERS)
    def test_a_domain_shift_runs_from_the_labeled_site_to_the_scanner_as_it_is(self, site: str):
        here, labeled = SCANNERS[site], SCANNERS["A"]
        assert scanner_at(site, 1) == here
        assert scanner_at(site, 0) == labeled._replace(apex_first=here.apex_first)
        half = scanner_at(site, 0.5)
        assert half.wall == pytest.approx(np.mean([here.wall, labeled.wall], axis=0))

    def test_darker_atria_change_blood_above_the_valves_alone(self):
        case = (3, "NOR", "A")
        seed, pathology, scanner = case
        (plain, labels), (dark, same) = (
            frame(case, END_SYSTOLE),
            Patient(seed, pathology=pathology, scanner=scanner, atria=0.5).frame(END_SYSTOLE),
        )
        assert np.array_equal(labels.array, same.array)
        above = np.flatnonzero(~(labels.array == LV).any(axis=(1, 2)))[0]  # base first: the atrium
        below = int(np.argmax((labels.array == LV).sum(axis=(1, 2))))
        darker = plain.array.astype(int) - dark.array
        blood = np.median(plain.array[labels.array == LV])
        assert above == 0
        assert (darker[above] > 0.3 * blood).sum() * labels.voxel_ml > 2
        assert np.abs(darker[below + 2]).max() <= 1

    @pytest.mark.parametrize(("field", "value"), [("pathology", "HCN"), ("scanner", "D")])
    def test_an_unknown_name_is_an_error_with_a_hint(self, field: str, value: str):
        with pytest.raises(UserError) as caught:
            make_heart(0, **{field: value})
        assert value in caught.value.what
        assert caught.value.hint


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "study"
    write_study(folder, labeled=1, unlabeled=1, validation=1, test=1, seed=3)
    return folder


class TestStudy:
    def test_cases_have_their_roles(self, folder: Path):
        cases = discover([folder])
        assert [case.role for case in cases] == [
            *["labeled"] * 2, *["unlabeled"] * 2, *["validation"] * 2, *["ignore"] * 2
        ]  # fmt: skip
        assert [case.phase for case in cases] == ["ED", "ES"] * 4
        assert len({case.patient for case in cases}) == 4
        assert [case.labels is not None for case in cases] == [True, True, False, False, True, True, False, False]

    def test_hidden_labels_lie_nowhere_but_in_the_reference(self, folder: Path):
        hidden = {case.name for case in discover([folder]) if case.role in ("unlabeled", "ignore")}
        assert {path.name for path in (folder / "reference").rglob("*.nii.gz")} == {f"{name}.nii.gz" for name in hidden}
        beside = {path.name[: -len("_gt.nii.gz")] for path in folder.rglob("*_gt.nii.gz")}
        assert beside == {case.name for case in discover([folder])} - hidden

    def test_the_same_seed_draws_the_same_volumes_as_the_files_hold(self, folder: Path):
        case = discover([folder])[1]
        image, labels = Patient(30_001, pathology="NOR", scanner="A").frame(END_SYSTOLE)
        read = read_volume(case.image)
        assert np.array_equal(read.array, image.array)
        assert read.array.dtype == image.array.dtype
        assert same_geometry(read, image) is None
        assert read.ijk_to_ras == pytest.approx(image.ijk_to_ras, abs=1e-3)
        assert np.array_equal(read_labels(case.labels, LABELS).array, labels.array)

    def test_references_fit_their_images(self, folder: Path):
        for case in discover([folder]):
            if case.role in ("unlabeled", "ignore"):
                role = "unlabeled" if case.role == "unlabeled" else "test"
                truth = read_labels(folder / "reference" / role / f"{case.name}.nii.gz", LABELS)
                assert same_geometry(truth, read_volume(case.image)) is None
                assert set(np.unique(truth.array)) == {0, 1, 2, 3}

    @pytest.mark.parametrize("role", ["unlabeled", "test"])
    def test_an_evaluation_finds_references_with_patient_phase_and_image(self, folder: Path, role: str):
        pairs, unmatched, _ = match(folder / "reference" / role, folder / "reference" / role)
        assert not unmatched
        assert [pair.phase for pair in pairs] == ["ED", "ES"]
        assert all(pair.image is not None and pair.image.is_file() for pair in pairs)

    def test_info_names_frames_and_group(self, folder: Path):
        text = (folder / "patient001" / "Info.cfg").read_text(encoding="utf-8")
        info = dict(line.split(": ") for line in text.splitlines())
        assert list(info) == ["ED", "ES", "Group", "Height", "NbFrame", "Weight"]
        assert (folder / "patient001" / f"patient001_frame{int(info['ES']):02d}.nii.gz").is_file()
        assert 0.3 < (int(info["ES"]) - 1) / int(info["NbFrame"]) < 0.42
        assert info["Group"] in PATHOLOGIES

    def test_it_is_an_acdc_layout_without_its_list(self, folder: Path):
        entries = discover([folder / "patient001", folder / "patient002", folder / "test"])
        assert [entry.phase for entry in entries] == ["ED", "ES"] * 3
        assert [entry.labels is not None for entry in entries] == [True, True, False, False, False, False]

    def test_in_a_mild_study_nobody_has_what_no_label_shows(self, tmp_path: Path):
        """And each scanner sees several pathologies."""
        write_study(tmp_path / "mild", labeled=1, unlabeled=6, seed=3, test=0, difficulty=MILD)
        seen: dict[str, set[str]] = {}
        for number in range(2, 8):
            text = (tmp_path / "mild" / f"patient{number:03d}" / "Info.cfg").read_text(encoding="utf-8")
            seen.setdefault("BCA"[(number - 2) % 3], set()).add(text.partition("Group: ")[2].split("\n")[0])
        assert set().union(*seen.values()) == set(LABELED_PATHOLOGIES)
        assert all(len(pathologies) > 1 for pathologies in seen.values())

    def test_a_folder_in_use_is_left_alone(self, tmp_path: Path):
        (tmp_path / "mine.txt").write_text("x")
        with pytest.raises(UserError, match="not empty"):
            write_study(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


class TestCine:
    def test_a_cycle_with_its_labels(self, tmp_path: Path):
        write_cine(tmp_path / "heart_4d.nii.gz", frames=10, labels=tmp_path / "labels.nii.gz", seed=5, scanner="C")
        images, labels = read_series(tmp_path / "heart_4d.nii.gz"), read_series(tmp_path / "labels.nii.gz")
        assert len(images) == len(labels) == 10
        assert images[1].time_s == pytest.approx(CYCLE_S / 10)
        first, truth = make_heart(5, scanner="C")
        assert np.array_equal(images[0].array, first.array)
        assert np.array_equal(labels[0].array, truth.array)
        assert same_geometry(images[0], labels[0]) is None
        volumes = [counted_ml(each)["lv"] for each in labels]
        assert int(np.argmin(volumes)) in (3, 4)
        assert volumes[0] > 0.9 * max(volumes)

    def test_a_slicer_series(self, tmp_path: Path):
        write_cine(tmp_path / "heart.seq.nrrd", frames=3, seed=5, scanner="C")
        assert len(read_series(tmp_path / "heart.seq.nrrd")) == 3
        assert [path.name for path in tmp_path.iterdir()] == ["heart.seq.nrrd"]


@pytest.mark.parametrize(
    "options",
    [
        {"labeled": -1},
        {"labeled": 0},
        {"unlabeled": -2},
        {"validation": -1},
        {"test": -1},
        {"unlabeled": 10_000},
        {"seed": -1},
        {"cine": -3},
        {"cine": 1},
        {"cine": 100_000},
    ],
    ids=str,
)
def test_a_study_that_cannot_be_is_refused_before_anything_is_drawn(options: dict[str, int], tmp_path: Path, capsys):
    out = tmp_path / "study"
    assert main(["phantom", "--out", str(out), *(f"--{name}={value}" for name, value in options.items())]) == 2
    complaint = capsys.readouterr().err
    assert f"--{next(iter(options))}" in complaint
    assert len(complaint.splitlines()) == 1
    assert not out.exists()


def test_a_study_in_place_of_a_file_is_refused(tmp_path: Path, capsys):
    (tmp_path / "mine").touch()
    assert main(["phantom", "--out", str(tmp_path / "mine")]) == 2
    assert "not a folder" in capsys.readouterr().err
