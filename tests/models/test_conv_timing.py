"""Choosing a convolution for each shape by timing: which shapes there are, what is chosen, what is computed then."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scarlet_jax
from scarlet_jax.errors import UserError
from scarlet_jax.models import MODELS, build_model, conv_timing, resolve_conv_for
from scarlet_jax.models.conv.api import conv, resolve_conv
from scarlet_jax.models.conv.native import build as native
from scarlet_jax.models.conv_timing import choose, seconds, shapes
from scarlet_jax.models.form_timing import Setting, Work
from tests.support import harness

DIGITS = (8, 8, 1)
FIRST, SECOND = "8x8x1-3x3x16-1-1", "4x4x16-3x3x32-1-1"  # the two convolutions of the small CNN on digits
DEFAULT = resolve_conv("auto")


def program(function, *args) -> str:
    return jax.jit(function).lower(*args).as_text()


def test_shapes_are_each_listed_once():
    listed = [(shape.x, shape.w, *shape.geometry) for shape in shapes(build_model("resnet20", 10), (32, 32, 3), 50)]
    assert listed == [
        ((50, 32, 32, 3), (3, 3, 3, 16), 1, 1),
        ((50, 32, 32, 16), (3, 3, 16, 16), 1, 1),
        ((50, 32, 32, 16), (3, 3, 16, 32), 2, 1),
        ((50, 16, 16, 32), (3, 3, 32, 32), 1, 1),
        ((50, 16, 16, 32), (3, 3, 32, 64), 2, 1),
        ((50, 8, 8, 64), (3, 3, 64, 64), 1, 1),
    ]
    assert not shapes(build_model("mlp", 10), (32, 32, 3), 50)


def test_the_fastest_is_chosen_for_each_shape_if_clearly_faster():
    asked = []

    def measure(name, shape, clients, precision):
        asked.append((name, shape.w[2], clients, precision))
        fast = {1: "gemm", 16: DEFAULT}[shape.w[2]]
        return 1.0 if name == fast else 2.0

    works, setting = [Work("cnn", 7), Work("cnn", 1)], Setting(DIGITS, 10, 5, "bfloat16", False)
    assert choose(works, setting, measure) == f"{DEFAULT} {FIRST}=gemm"
    assert {(inputs, clients) for _, inputs, clients, _ in asked} == {(1, 7), (16, 7)}  # not again for the second model
    assert {precision for *_, precision in asked} == {"bfloat16"}
    assert {name for name, inputs, *_ in asked if inputs == 16} >= {DEFAULT, "gemm", "winograd"}

    def nearly_equal(name, shape, clients, precision):
        return 1.0 if name == DEFAULT else 0.96

    assert choose(works, setting, nearly_equal) == DEFAULT


def test_a_choice_by_shape_is_what_is_computed():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 8, 8, 1)), jnp.float32)
    w = jnp.asarray(rng.normal(size=(3, 3, 1, 16)), jnp.float32)
    choice = f"xla {FIRST}=gemm {SECOND}=winograd"
    here, elsewhere, gemm, xla = (
        program(lambda x, w, name=name, stride=stride: conv(x, w, stride, 1, name), x, w)
        for name, stride in ((choice, 1), (choice, 2), ("gemm", 1), ("xla", 2))
    )
    assert here == gemm and elsewhere == xla  # the very same programs
    assert resolve_conv(choice) == choice
    with pytest.raises(UserError, match="'fast'"):
        resolve_conv(f"xla {FIRST}=fast")


def test_out_of_memory_is_no_candidate(monkeypatch):
    shape = shapes(build_model("cnn", 10), DIGITS, 2)[0]

    def explode(message):
        def call(*_):
            raise jax.errors.JaxRuntimeError(message)

        monkeypatch.setattr(conv_timing, "conv", call)

    assert 0 < seconds("gemm", shape, 2, "float32") < 60
    explode("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
    assert seconds("gemm", shape, 2, "float32") == float("inf")
    explode("INTERNAL: something else")
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        seconds("gemm", shape, 2, "float32")


def test_a_run_records_its_choice_and_keeps_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # nothing is kept from other runs
    fields = {"model__client": "cnn", "model__server": "cnn", "model__conv": "timed", "rounds": 2}
    times = iter(range(100))

    def falling(name, shape, clients, precision):  # whatever is tried later is faster
        return 1.0 / (1 + next(times))

    monkeypatch.setattr(conv_timing, "seconds", falling)
    scarlet_jax.run(harness.tiny(**fields), tmp_path / "run")
    chosen = harness.starts(tmp_path / "run")[-1]["choices"]["conv"]
    assert chosen.startswith(f"{DEFAULT} {FIRST}=") and SECOND in chosen
    monkeypatch.setattr(conv_timing, "seconds", None)  # a resumed run does not time anything
    scarlet_jax.run(harness.tiny(**fields | {"rounds": 3}), tmp_path / "run")
    assert harness.starts(tmp_path / "run")[-1]["choices"]["conv"] == chosen
    scarlet_jax.run(harness.tiny(**fields | {"rounds": 1}), tmp_path / "other")  # nor does another run
    assert harness.starts(tmp_path / "other")[-1]["choices"]["conv"] == chosen
    assert f"convolution: {chosen} (kept from an earlier run)" in capsys.readouterr().out


def test_a_run_without_a_convolution_looks_for_none(monkeypatch):
    """What has one is asked of the modules themselves."""
    monkeypatch.setattr(native, "problem", lambda: pytest.fail("looked for the native convolution"))
    sizes = {"resnet18": 64, "resnet18_64": 64}
    without = [m for m in MODELS if not shapes(build_model(m, 10, "xla"), (sizes.get(m, 32),) * 2 + (3,), 2)]
    assert without == ["mlp"]
    for name in without:
        build_model(name, 10)
        assert resolve_conv_for([name], "auto", "cpu") == resolve_conv_for([name], "timed", "gpu") == "xla"
    assert resolve_conv_for(["mlp", "cnn"], "auto", "gpu") == "grouped"
