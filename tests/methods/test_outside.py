"""A method from outside the package runs with everything that one of the table has."""

import json
import subprocess
import sys

import pytest

import scarlet_jax
from configs import base
from scarlet_jax import build, methods
from scarlet_jax.options import fields, rules
from scarlet_jax.preview import checks
from tests.support import harness
from tests.support.harness import rows, tiny

MODULE = """
import jax.numpy as jnp
from scarlet_jax.methods.base import Method
from scarlet_jax.protocol.round import Labels

def momentum(share: float = 0.9) -> Method:
    '''The teacher moves towards each round's mean: a method with a state of its own.'''

    def init(data):
        return jnp.zeros(10)

    def aggregate(state, uploads):
        state = share * state + (1 - share) * jnp.mean(uploads.mean(), 0)
        target = uploads.mean() + state
        return Labels(target / jnp.sum(target, -1, keepdims=True)), state

    return Method(aggregate, init)

def needy(power: int) -> Method:
    return momentum(0.5)
"""


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """A package beside the user's work: `mine.of_mine`."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "of_mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "mine.of_mine:momentum"


def configured(name, **parameters):
    config = tiny(rounds=4, checkpoint__every=1)
    base.set_method(config, name + "+cache", 2, **parameters)
    return config


def test_its_state_is_carried_checkpointed_and_resumed(outside, tmp_path, monkeypatch, quick_compilation):
    config = configured(outside, share=0.5)
    scarlet_jax.run(config, tmp_path / "whole", quiet=True)
    config.rounds = 2
    scarlet_jax.run(config, tmp_path / "parts", quiet=True)
    config.rounds = 4
    scarlet_jax.run(config, tmp_path / "parts", quiet=True)
    harness.assert_same_run(tmp_path / "parts", tmp_path / "whole")
    states = [
        array
        for name, array in harness.saved(tmp_path / "whole").items()
        if name.endswith(".method") or "method" in name
    ]
    assert len(states) == 1 and states[0].shape == (10,)
    # The state after four rounds of means that sum to 1: 1 - 0.5 ** 4.
    assert states[0].sum() == pytest.approx(1 - 0.5**4, rel=1e-5)
    own = harness.starts(tmp_path / "whole")[-1]["choices"]["cache"]
    assert own == {"duration": 2, "own": 0} and rows(tmp_path / "whole")[-1]["hit"] > 0
    assert build.make_planner(config, 10).run().total("wire").uplink > 0


def test_the_command_line_knows_its_parameters(outside, tmp_path):
    flags = [*harness.flags(method__name=outside, cache__duration=1, rounds=2), "--config.method.share=0.25"]
    command = [sys.executable, str(harness.ROOT / "launch.py"), *flags, "--workdir=run"]
    command = [arg.replace("configs/", f"{harness.ROOT}/configs/") for arg in command]
    done = subprocess.run(command, cwd=tmp_path, env=harness.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["method"]["name"] == outside and config["method"]["share"] == 0.25
    misspelt = subprocess.run(
        [*command, "--config.method.shar=1"], cwd=tmp_path, env=harness.environment(), capture_output=True, text=True
    )
    assert misspelt.returncode == 1 and "did you mean config.method.share?" in misspelt.stderr
    described = subprocess.run(
        [*command, "--help"], cwd=tmp_path, env=harness.environment(), capture_output=True, text=True
    )
    assert described.returncode == 0 and f"method.share open {outside}: (open: 0.9)" in " ".join(
        described.stdout.split()
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mine.of_mine:nothing", "gives AttributeError"),
        ("mine.nowhere:momentum", "gives ModuleNotFoundError"),
        ("mine.of_mine:MODULE:x", "gives AttributeError"),
        ("mine.of_mine:jnp", "is no function"),
        ("momentun", "allowed is one of scarlet, "),
    ],
)
def test_what_cannot_be_loaded_is_one_sentence(outside, name, words):
    with pytest.raises(scarlet_jax.UserError, match=words) as refusal:
        rules.validate(configured(name))
    assert str(refusal.value).startswith(f"config.method.name is {name!r}") and str(refusal.value).endswith(".")


def test_a_parameter_without_a_default_is_asked_for(outside):
    config = configured("mine.of_mine:needy")
    fields.add_method_parameters(config, "mine.of_mine:needy")
    assert config.method.get_type("power") is int
    with pytest.raises(scarlet_jax.UserError, match=r"config\.method\.power is None; .* has no default for it"):
        rules.validate(config)
    config.method.power = 3
    rules.validate(config)
    checks.check(config)


def test_a_registered_name_is_a_method_like_the_others(outside, tmp_path, monkeypatch, quick_compilation):
    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))
    import mine.of_mine

    scarlet_jax.register("momentum", mine.of_mine.momentum, duration=1)
    config = tiny(rounds=2)
    config.cache.duration = None
    base.set_method(config, "momentum", 2, share=0.5)
    scarlet_jax.run(config, tmp_path / "run", quiet=True)
    own = harness.starts(tmp_path / "run")[-1]["choices"]["cache"]
    assert own == {"duration": 2, "own": 1}
    with pytest.raises(scarlet_jax.UserError, match="already"):
        scarlet_jax.register("scarlet", mine.of_mine.momentum)
