"""The README's example of a new method runs as it stands."""

import re
import sys
import types
from pathlib import Path

import pytest

import scarlet_jax
from configs import digits
from scarlet_jax import build
from scarlet_jax.methods import METHODS, Entry
from tests.support.harness import rows, tiny

pytestmark = pytest.mark.usefixtures("quick_compilation")
README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.fixture
def confident(monkeypatch):
    section = README.split("## Your own method")[1]
    module = types.ModuleType("confident")
    exec(re.search(r"```python\n(.*?)```", section, re.DOTALL)[1], module.__dict__)
    monkeypatch.setitem(sys.modules, "confident", module)
    monkeypatch.setitem(METHODS, "confident", Entry("confident:confident"))
    return module.confident


def test_it_runs_with_a_cache_and_with_groups(confident, tmp_path):
    config = tiny(rounds=3, participation=0.75, model__client="mlp:2,cnn:2")
    config.method.name, config.cache.duration = "confident", 1
    scarlet_jax.run(config, tmp_path / "run")
    history = rows(tmp_path / "run")
    assert len(history) == 3 and all(row["server_kd_loss"] > 0 for row in history)


def test_its_parameter_is_a_field(confident):
    config = digits.get_config("confident")
    with config.unlocked():
        config.method.power = 0.0
    build.make_method(config)
    assert build.cache_duration(config) == 0
    config.method.beta = 2.0
    with pytest.raises(scarlet_jax.errors.UserError, match="confident has method.power"):
        build.make_method(config)
