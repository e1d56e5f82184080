"""What the report says that unlabeled cases brought: only what two trainings can tell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("matplotlib")

from semicardiac.jobs.record import read_record
from semicardiac.report import compare, write

from Testing.engine.report.support import Page, make_train_job


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    return make_train_job(tmp_path_factory.mktemp("jobs") / "alone", preset="supervised", shift=6)


class TestClaims:
    """What is said of the unlabeled cases where they were never used, or the trainings differ in more than these."""

    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({}, ""),
            ({"steps": 1700}, ""),  # as many as fit into the same time
            ({"steps": 240}, "the trainings differ in their steps (240 and 2,000)"),
            ({"joins_at": 1.0, "steps": 60}, "they never came into play, and the trainings differ in their steps (60"),
            ({"settings": {"seed": 1}}, "the trainings differ in their seeds"),
            ({"settings": {"optim": {"learning_rate": 0.01}}}, "differ in their settings (optim.learning_rate)"),
            ({"settings": {"optim": {"batch_mixed": (4, 8)}}}, "differ in their images (18,000 and 12,000)"),
            ({"settings": {"method": {"lambda_u": 0.5}, "schedule": {"minutes": 9, "ramp": 0.2}}}, ""),
        ],
    )
    def test_a_gain_is_claimed_only_of_trainings_that_differ_in_nothing_else(self, tmp_path, alone, changes, why):
        found = compare.compare(*map(read_record, (make_train_job(tmp_path / "job", shift=2, **changes), alone)))
        if why:
            assert "What unlabeled cases bring cannot be told from this: " in found.sentence
            assert why in found.sentence
        else:
            assert found.sentence == "The unlabeled volumes raised the mean Dice from 0.600 to 0.867."

    def test_a_baseline_that_has_hardly_learned_is_no_baseline(self, tmp_path):
        """Cut off after a few steps, it would lose to anything."""
        ours = make_train_job(tmp_path / "job", shift=2)
        theirs = make_train_job(tmp_path / "alone", preset="supervised", shift=20)
        found = compare.compare(read_record(ours), read_record(theirs))
        assert found.theirs < compare.LEARNED
        assert not found.fair
        assert found.doubts == ("a training with a mean Dice below 0.3 has hardly learned yet",)
        page = Page(write.write_report(ours, baseline=theirs)).text
        assert found.doubts[0] in page
        assert f"+{found.ours - found.theirs:.3f} mean Dice" not in page

    def test_no_other_part_of_the_page_claims_it(self, tmp_path, alone):
        pages = []
        for joins_at in (0.5, 1.0):
            job = make_train_job(tmp_path / str(joins_at), shift=2, joins_at=joins_at)
            pages.append(Page(write.write_report(job, baseline=alone)).text)
        claims = ["raised the", "What the unlabeled volumes changed", "+0.267 mean Dice", "with unlabeled"]
        claims += ["on 1 labeled patient and 6 unlabeled volumes"]
        assert [[claim in text for claim in claims] for text in pages] == [[True] * 5, [False] * 5]
        assert "they never came into play" in pages[1]

    def test_labeled_cases_that_differ_and_a_history_that_is_gone_are_named(self, tmp_path, alone):
        job = make_train_job(tmp_path / "job", shift=2)
        text = (job / "job.json").read_text(encoding="utf-8")
        (job / "job.json").write_text(text.replace('"patient000_frame00"', '"another"', 1), encoding="utf-8")
        (job / "history.csv").unlink()
        assert compare.compare(read_record(job), read_record(alone)).sentence.endswith(
            "nothing tells whether they took part, and the trainings differ in their labeled cases and "
            "their steps (unknown and 2,000)."
        )

    def test_without_a_baseline_it_says_that_they_were_never_used(self, tmp_path):
        text = Page(write.write_report(make_train_job(tmp_path / "job", joins_at=1.0))).text
        assert "of training on 1 labeled patient , measured on 4 volumes" in text
        assert "The unlabeled cases never came into play." in text

    @pytest.mark.parametrize(
        ("ours", "theirs", "said"),
        [
            (
                [(0.9, 0.7)],
                [(0.6, 0.6)],
                "0.800 with the unlabeled volumes and 0.600 without them, a difference within",
            ),
            ([(0.81, 0.79)], [(0.6, 0.6)], "raised the mean Dice from 0.600 to 0.800"),
            (
                [(0.8,)],
                [(0.6,)],
                "0.800 with the unlabeled volumes and 0.600 without them, a difference that may be chance",
            ),
            ([(0.9,), (0.6,)], [(0.8,), (0.6,)], "a difference within what seeds alone make"),
            ([(0.9,), (0.8,)], [(0.6,), (0.5,)], "raised the mean Dice from 0.550 to 0.850"),
        ],
    )
    def test_a_difference_within_the_noise_is_said_with_care(self, ours, theirs, said):
        """Of mean Dice by patient, for each seed."""
        config = {"optim": {"batch_labeled": 6, "batch_mixed": [2, 4]}}

        def record(dice: tuple[float, ...] = (), seeds: Sequence[SimpleNamespace] = ()) -> SimpleNamespace:
            rows = [{"case": str(at), "patient": str(at), "dice": value} for at, value in enumerate(dice)]
            mean = {"metrics": {"mean": {"dice": {"mean": sum(dice) / max(len(dice), 1)}}}}
            history = [{"step": 20.0, "lambda_u": 0.5}]
            return SimpleNamespace(
                seeds=seeds, metrics=rows, summary=mean, history=history, steps=20, used_unlabeled=True,
                cases=[], job={"config": config},
            )  # fmt: skip

        sides = [
            record(side[0]) if len(side) == 1 else record(seeds=[record(dice) for dice in side])
            for side in (ours, theirs)
        ]
        assert said in compare.compare(*sides).sentence
