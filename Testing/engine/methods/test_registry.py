"""Methods by their names: found without PyTorch, their settings checked by their own class."""

from __future__ import annotations

import ast
import inspect
from itertools import pairwise
from pathlib import Path

import pytest
from semicardiac.base.errors import UserError
from semicardiac.config import make_config, upgrade
from semicardiac.methods import method as interface
from semicardiac.methods import registry

SHARED = {"method", "losses", "threshold_map", "ema"}


@pytest.mark.parametrize("name", registry.METHODS)
class TestEveryMethod:
    def test_it_names_its_reference_and_explains_every_setting(self, name: str):
        kind = registry.load(name)
        assert issubclass(kind, interface.Method)
        if registry.METHODS[name].unlabeled:
            assert any(year in inspect.getmodule(kind).__doc__ for year in ("20",))
        source = inspect.getsource(kind.Settings)
        documented = _documented(source)
        own = set(kind.Settings.model_fields) - set(interface.MethodSettings.model_fields)
        assert own - documented == set()

    def test_it_imports_what_methods_share_and_no_other_method(self, name: str):
        tree = ast.parse(Path(inspect.getsourcefile(registry.load(name))).read_text(encoding="utf-8"))
        imported = {
            part
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.level == 1
            for part in ([node.module] if node.module else [alias.name for alias in node.names])
        }
        assert imported <= SHARED
        above = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 2}
        assert above <= {"base.settings"}

    def test_completing_gives_every_setting_and_is_the_same_twice(self, name: str):
        config = registry.complete(make_config("default", {"method": {"name": name}}))
        assert set(config.method.given) == set(registry.load(name).Settings.model_fields)
        assert registry.complete(config) == config


def _documented(source: str) -> set[str]:
    body = ast.parse(source).body[0].body
    return {
        node.target.id
        for node, after in pairwise(body)
        if isinstance(node, ast.AnnAssign) and isinstance(after, ast.Expr)
    }


@pytest.mark.parametrize(
    ("settings", "place", "words"),
    [
        ({"lamda_u": 1}, "method.lamda_u", "Did you mean 'lambda_u'"),
        ({"lambda_u": -1}, "method.lambda_u", "greater than or equal to 0"),
        ({"lambda_u": float("nan")}, "method.lambda_u", "finite"),
        ({"tau": "warm"}, "method.tau", "number"),
        ({"gamma": "hard"}, "method.gamma", "'confidence' or 'binary'"),
        ({"name": "fixmatch", "tau": 1}, "method.tau", "no such setting"),
        ({"name": "supervised", "lambda_u": 1}, "method.lambda_u", "no such setting"),
        ({"name": "fixmach"}, "method.name", "Did you mean 'fixmatch'"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict, place: str, words: str):
    with pytest.raises(UserError) as caught:
        registry.complete(make_config("default", {"method": settings}))
    assert caught.value.where.endswith(place)
    assert words in f"{caught.value.what} {caught.value.hint}"


def test_ours_is_the_default():
    assert make_config().method.name == registry.DEFAULT


def test_what_a_preset_sets_of_its_method_is_not_for_another_one():
    assert make_config("paper").method.given["alpha"] == 0.99
    assert make_config("paper", {"method": {"name": "fixmatch"}}).method.given == {}
    assert make_config("paper", {"method": {"name": "dptm_rem_cc"}}).method.given["alpha"] == 0.99


def test_the_section_of_before_is_named_by_its_new_name():
    with pytest.raises(UserError, match="'method'") as caught:
        make_config("default", {"loss": {"lambda_u": 1}})
    assert "method.lambda_u" in caught.value.hint


class TestEarlierConfigurations:
    LOSS = {"dptm": False, "rem": True, "lambda_u": 0.5, "supervised": "ce"}  # noqa: RUF012 - a constant

    def test_ours(self):
        upgraded = upgrade({"preset": "default", "loss": self.LOSS, "seed": 3})
        assert upgraded == {"preset": "default", "method": {"name": "dptm_rem_cc", **self.LOSS}, "seed": 3}
        assert registry.complete(make_config("default", {"method": upgraded["method"]})).method.lambda_u == 0.5

    def test_the_supervised_preset_is_the_supervised_method(self):
        loss = {**self.LOSS, "rem": False, "lambda_u": 0.0}
        upgraded = upgrade({"preset": "supervised", "loss": loss, "schedule": {"warmup": 1.0}})
        assert upgraded["method"] == {"name": "supervised", "supervised": "ce"}

    @pytest.mark.parametrize("config", [None, 3, {}, {"loss": 3}, {"method": {"name": "x"}, "loss": {}}])
    def test_anything_else_is_left_alone(self, config: object):
        assert upgrade(config) == config
