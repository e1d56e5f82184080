"""Settings: presets, overrides, and mistakes that name what was meant."""

from __future__ import annotations

import json

import pytest
from semicardiac.base.errors import UserError
from semicardiac.base.settings import Section, parse, parse_assignments
from semicardiac.config import PRESETS, TrainConfig, make_config


class TestPresets:
    def test_the_default_preset_is_the_defaults_of_the_models(self):
        assert make_config() == TrainConfig()

    @pytest.mark.parametrize("preset", PRESETS)
    def test_a_preset_knows_its_name_and_survives_a_file(self, preset: str):
        config = make_config(preset)
        assert config.preset == preset
        assert TrainConfig.model_validate_json(config.model_dump_json()) == config

    def test_paper_is_the_published_recipe(self):
        config = make_config("paper")
        assert (config.optim.learning_rate, config.optim.momentum, config.optim.weight_decay) == (0.01, 0.9, 5e-4)
        assert sum(config.optim.batch_mixed) == 16
        assert config.method.given["supervised"] == "ce"
        assert (config.schedule.warmup, config.schedule.warmup_steps, config.schedule.ramp) == (0, 0, 0)
        assert config.locate.method == "center"

    def test_supervised_differs_from_default_only_in_what_it_leaves_out(self):
        plain, full = make_config("supervised").model_dump(), make_config().model_dump()
        different = {section for section in full if plain[section] != full[section]}
        assert different == {"preset", "method"}

    def test_an_unknown_preset_names_the_nearest(self):
        with pytest.raises(UserError, match="Did you mean 'supervised'"):
            make_config("superwised")


class TestVolumes:
    def test_batches_and_spacing_are_those_of_blocks(self):
        config = make_config("default", {"network": {"dimensions": 3}})
        assert config.volumetric
        assert config.optim.batch_labeled < make_config().optim.batch_labeled
        assert config.optim.batch_mixed[1] >= 2  # the contrast needs another volume beside each
        assert config.preprocess.spacing_mm > make_config().preprocess.spacing_mm
        assert config.augment.flip == 0  # left and right are not alike in a whole heart

    def test_what_is_asked_for_wins(self):
        asked = {"network": {"dimensions": 3}, "optim": {"batch_labeled": 5}, "preprocess": {"spacing_mm": 1.0}}
        config = make_config("supervised", asked)
        assert (config.optim.batch_labeled, config.preprocess.spacing_mm) == (5, 1.0)
        assert config.method.name == "supervised"

    def test_the_shape_is_that_of_what_the_network_sees(self):
        assert make_config("default", {"preprocess": {"crop": 96}}).shape == (96, 96)
        sides = {"network": {"dimensions": 3}, "preprocess": {"crop": 96, "depth": 40}}
        assert make_config("default", sides).shape == (40, 96, 96)

    def test_the_published_recipe_is_one_for_slices(self):
        with pytest.raises(UserError, match="published recipe") as caught:
            make_config("paper", {"network": {"dimensions": 3}})
        assert caught.value.where == "network.dimensions"

    def test_a_block_that_fits_into_no_memory(self):
        with pytest.raises(UserError, match="512 x 512 x 512 voxels"):
            make_config("default", {"preprocess": {"crop": 512, "depth": 512}})

    @pytest.mark.parametrize("value", [1, 4, "3d"])
    def test_other_dimensions(self, value: object):
        with pytest.raises(UserError) as caught:
            make_config("default", {"network": {"dimensions": value}})
        assert caught.value.where.endswith("network.dimensions")


class TestOverrides:
    def test_an_override_wins_over_the_preset_and_leaves_the_rest(self):
        config = make_config("paper", {"optim": {"learning_rate": 0.3}})
        assert config.optim.learning_rate == 0.3
        assert config.optim.weight_decay == 5e-4

    @pytest.mark.parametrize(
        ("overrides", "place", "hint"),
        [
            ({"metod": {"lambda_u": 1}}, "metod", "method"),
            ({"optim": {"emma": 1}}, "optim.emma", "ema"),
            ({"schedule": {"minute": 3}}, "schedule.minute", "minutes"),
            ({"learning_rate": 3}, "learning_rate", "locate.learning_rate"),
        ],
    )
    def test_an_unknown_key_names_the_nearest(self, overrides: dict, place: str, hint: str):
        with pytest.raises(UserError) as caught:
            make_config("default", overrides)
        assert caught.value.where.endswith(place)
        assert f"Did you mean '{hint}'" in caught.value.hint

    @pytest.mark.parametrize(
        ("overrides", "place", "allowed"),
        [
            ({"optim": {"ema": 1.0}}, "optim.ema", "less than 1"),
            ({"preprocess": {"crop": 100}}, "preprocess.crop", "multiple of 16"),
            ({"locate": {"method": "hard"}}, "locate.method", "'network' or 'center'"),
            ({"optim": {"batch_labeled": "many"}}, "optim.batch_labeled", "integer"),
            ({"network": 3}, "network", "dictionary"),
            ({"preprocess": {"clip": [4, -3]}}, "preprocess.clip", "must be the lower one"),
            ({"augment": {"scale": [1.3, 0.7]}}, "augment.scale", "must be the lower one"),
            ({"augment": {"gamma": [0, 1]}}, "augment.gamma", "greater than 0"),
            ({"network": {"widths": [16]}}, "network.widths", "at least 2"),
            ({"locate": {"size": 96, "widths": [8] * 6}}, "locate.widths", "no multiple of 64"),
            ({"optim": {"batch_mixed": [0, 4]}}, "optim.batch_mixed", "greater than 0"),
        ],
    )
    def test_a_value_out_of_bounds_says_what_is_allowed(self, overrides: dict, place: str, allowed: str):
        with pytest.raises(UserError, match=allowed) as caught:
            make_config("default", overrides)
        assert place in caught.value.where


def numbers() -> list[tuple[str, object]]:
    """Every setting that is a number or holds some, by its key, with its default in the preset `paper`."""
    found = []
    for section, settings in make_config("paper"):
        if section == "method":  # whose settings its own class checks, see methods/test_registry.py
            continue
        of_section = dict(settings) if isinstance(settings, Section) else {"": settings}
        for name, value in of_section.items():
            kinds = value if isinstance(value, tuple) else [value]
            if value is None or all(isinstance(each, int | float) and not isinstance(each, bool) for each in kinds):
                found.append((f"{section}.{name}".strip("."), value))
    return found


class TestNumbers:
    @pytest.mark.parametrize("bad", ["Infinity", "-Infinity", "1e400", "NaN"])
    def test_none_is_infinite_or_no_number(self, bad: str):
        assert len(numbers()) > 35
        for key, value in numbers():
            text = f"[{', '.join([bad] * len(value))}]" if isinstance(value, tuple) else bad
            with pytest.raises(UserError) as caught:
                make_config("paper", parse_assignments([f"{key}={text}"]))
            assert key in caught.value.where

    def test_none_is_beyond_all_bounds(self):
        for key, value in numbers():
            if isinstance(value, tuple | int) and not key.endswith("widths"):  # those are bounded by what they take
                text = json.dumps([10**30] * len(value) if isinstance(value, tuple) else 10**30)
                with pytest.raises(UserError) as caught:
                    make_config("paper", parse_assignments([f"{key}={text}"]))
                assert key in caught.value.where

    @pytest.mark.parametrize("seed", [2**63, 2**64, 10**30])
    def test_a_seed_is_one_that_the_generators_take(self, seed: int):
        assert make_config("default", {"seed": 2**63 - 1}).seed == 2**63 - 1
        with pytest.raises(UserError, match="less than") as caught:
            make_config("default", {"seed": seed})
        assert caught.value.where.endswith("seed")


class TestMessages:
    @pytest.mark.parametrize(
        "value",
        [
            "x" * 10**6,
            {"key": "y" * 10**6},
            list(range(10**5)),
            10**4000,
            json.loads("[" * 900 + "]" * 900),
            {str(number): number for number in range(10**5)},
        ],
    )
    @pytest.mark.parametrize("key", ["optim", "network.widths", "seed", "preset"])
    def test_a_value_is_shortened(self, key: str, value: object):
        section, _, name = key.partition(".")
        with pytest.raises(UserError) as caught:
            parse(TrainConfig, {section: {name: value} if name else value})
        assert len(str(caught.value)) < 400
        assert section in caught.value.where

    def test_a_key_is_shortened(self):
        with pytest.raises(UserError, match="no such setting") as caught:
            parse(TrainConfig, {"x" * 10**6: 1})
        assert len(str(caught.value)) < 500

    def test_what_is_missing_is_told_without_what_is_there(self):
        class Both(Section):
            first: int
            second: int

        with pytest.raises(UserError, match=r"file: second: this is missing\.$"):
            parse(Both, {"first": 3}, where="file")

    def test_brackets_without_end_are_a_text(self):
        with pytest.raises(UserError, match=r"list|tuple"):
            make_config("default", parse_assignments(["network.widths=" + "[" * 10**5]))


class TestAssignments:
    def test_a_preset_among_the_settings_is_refused(self):
        """It would give the settings of one preset the name of another."""
        with pytest.raises(UserError, match=r"no setting by itself.*--preset"):
            make_config("default", {"preset": "paper"})

    def test_a_training_has_one_measure(self):
        with pytest.raises(UserError, match="both minutes and steps are given"):
            make_config("default", {"schedule": {"minutes": 3, "steps": 5}})

    def test_without_either_it_is_ten_minutes(self):
        schedule = make_config().schedule
        assert (schedule.minutes, schedule.steps) == (10, None)
        assert make_config("default", {"schedule": {"steps": 5}}).schedule.minutes is None
        assert make_config("default", {"schedule": {"steps": None}}).schedule.minutes == 10

    def test_values_are_read_as_json_where_they_are(self):
        texts = ["method.lambda_u=0.5", "optim.batch_mixed=[2, 4]", "method.dptm=false", "method.alpha=null"]
        assert parse_assignments([*texts, "network.name=unet"]) == {
            "method": {"lambda_u": 0.5, "dptm": False, "alpha": None},
            "optim": {"batch_mixed": [2, 4]},
            "network": {"name": "unet"},
        }

    def test_the_last_one_wins(self):
        assert parse_assignments(["seed=1", "seed=2"]) == {"seed": 2}

    @pytest.mark.parametrize("text", ["method.lambda_u", "=3", " =3"])
    def test_what_is_no_assignment_is_refused(self, text: str):
        with pytest.raises(UserError, match=r"section\.key=value"):
            parse_assignments([text])


def test_settings_cannot_be_changed_once_made():
    with pytest.raises(ValueError, match="frozen"):
        make_config().seed = 3


def test_parse_names_the_file():
    with pytest.raises(UserError) as caught:
        parse(TrainConfig, {"seeds": 1}, where="job.json: config")
    assert caught.value.where == "job.json: config: seeds"
    assert caught.value.hint == "Did you mean 'seed'"
