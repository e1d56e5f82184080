"""Settings: presets, overrides, and mistakes that name what was meant."""

from __future__ import annotations

import pytest
from semicardiac.config import PRESETS, TrainConfig, make_config, parse, parse_assignments
from semicardiac.errors import UserError


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
        assert config.loss.supervised == "ce"
        assert (config.schedule.warmup, config.schedule.warmup_steps, config.schedule.ramp) == (0, 0, 0)
        assert config.locate.method == "center"

    def test_supervised_differs_from_default_only_in_what_it_leaves_out(self):
        plain, full = make_config("supervised").model_dump(), make_config().model_dump()
        different = {section for section in full if plain[section] != full[section]}
        assert different == {"preset", "loss", "schedule"}

    def test_an_unknown_preset_names_the_nearest(self):
        with pytest.raises(UserError, match="Did you mean 'supervised'"):
            make_config("superwised")


class TestOverrides:
    def test_an_override_wins_over_the_preset_and_leaves_the_rest(self):
        config = make_config("paper", {"optim": {"learning_rate": 0.3}})
        assert config.optim.learning_rate == 0.3
        assert config.optim.weight_decay == 5e-4

    @pytest.mark.parametrize(
        ("overrides", "place", "hint"),
        [
            ({"loss": {"lamda_u": 1}}, "loss.lamda_u", "lambda_u"),
            ({"los": {"lambda_u": 1}}, "los", "loss"),
            ({"schedule": {"minute": 3}}, "schedule.minute", "minutes"),
            ({"lambda_u": 3}, "lambda_u", "loss.lambda_u"),
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
            ({"loss": {"lambda_u": -1}}, "loss.lambda_u", "greater than or equal to 0"),
            ({"optim": {"ema": 1.0}}, "optim.ema", "less than 1"),
            ({"preprocess": {"crop": 100}}, "preprocess.crop", "multiple of 16"),
            ({"loss": {"gamma": "hard"}}, "loss.gamma", "'confidence' or 'binary'"),
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


class TestAssignments:
    def test_a_preset_among_the_settings_is_refused(self):
        """It would give the settings of one preset the name of another."""
        with pytest.raises(UserError, match=r"no setting by itself.*--preset"):
            make_config("default", {"preset": "paper"})

    def test_a_training_has_one_measure(self):
        with pytest.raises(UserError, match="both minutes and steps are given"):
            make_config("default", {"schedule": {"minutes": 3, "steps": 5}})

    def test_values_are_read_as_json_where_they_are(self):
        texts = ["loss.lambda_u=0.5", "optim.batch_mixed=[2, 4]", "loss.dptm=false", "loss.alpha=null"]
        assert parse_assignments([*texts, "network.name=unet"]) == {
            "loss": {"lambda_u": 0.5, "dptm": False, "alpha": None},
            "optim": {"batch_mixed": [2, 4]},
            "network": {"name": "unet"},
        }

    def test_the_last_one_wins(self):
        assert parse_assignments(["seed=1", "seed=2"]) == {"seed": 2}

    @pytest.mark.parametrize("text", ["loss.lambda_u", "=3", " =3"])
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
