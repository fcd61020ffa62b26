"""What `auto` and `timed` mean on a machine is measured once, and again where anything that it depends on changes."""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import pytest

from scarlet_jax.models import conv_choice, conv_timing, form_timing
from scarlet_jax.models.conv.native import build
from scarlet_jax.models.conv.triton import primitive
from scarlet_jax.models.conv_choice import Choice, choose, wanted
from scarlet_jax.models.form_timing import Setting, Trial, Work

WORKS = [Work("cnn", 7, 2)]
SETTING = Setting((8, 8, 1), 10, 5, None, False)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> list[Any]:
    """Everything that a fake timer was asked, on a fake GPU; of two forms the second is faster."""
    asked: list[Any] = []

    def attempt(form: str, work: Work, setting: Setting) -> Trial:
        asked.append((form, work, setting))
        return Trial(1.0 if form == "triton" else 2.0, [])

    def seconds(name: str, shape: Any, clients: int, precision: str | None) -> float:
        asked.append((name, clients, precision))
        return 1.0 if name == "gemm" else 2.0

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(primitive, "problem", lambda: None)
    monkeypatch.setattr(build, "problem", lambda: None)
    monkeypatch.setattr(form_timing, "difference", lambda ours, reference: 0.0)
    monkeypatch.setattr(form_timing, "trial", attempt)
    monkeypatch.setattr(conv_timing, "seconds", seconds)
    return asked


def test_auto_is_measured_on_accelerators_only(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wanted("timed") and not wanted("auto") and not wanted("gemm")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert wanted("timed") and wanted("auto") and not wanted("gemm")


def test_a_second_run_measures_nothing(measured: list[Any]) -> None:
    said: list[str] = []

    def stage(what: str) -> contextlib.AbstractContextManager[None]:
        said.append(what)
        return contextlib.nullcontext()

    first = choose("auto", WORKS, SETTING, False, stage)
    assert first.conv == "triton" and "grouped 4000.00 ms, triton 2000.00 ms" in first.why and len(said) == 1
    assert [form for form, *_ in measured] == ["grouped", "triton", "grouped"]  # the last in exact float32
    assert choose("auto", WORKS, SETTING, False, stage) == Choice("triton", " (kept from an earlier run)")
    assert len(measured) == 3 and len(said) == 1
    shapes = choose("timed", WORKS, SETTING, False)
    assert shapes.conv.startswith("grouped ") and shapes.conv.endswith("=gemm") and len(measured) > 3
    before = len(measured)
    assert choose("timed", WORKS, SETTING, False).conv == shapes.conv and len(measured) == before


@pytest.mark.parametrize(
    "other",
    [
        {"works": [Work("cnn", 8, 2)]},
        {"works": [Work("cnn", 7, 2), Work("mlp", 1)]},
        {"setting": SETTING._replace(image_shape=(8, 8, 3))},
        {"setting": SETTING._replace(num_classes=3)},
        {"setting": SETTING._replace(batch_size=6)},
        {"setting": SETTING._replace(precision="bfloat16")},
        {"setting": SETTING._replace(remat=True)},
        {"deterministic": True},
        {"JAX_option": "highest"},
        {"XLA_FLAGS": "--xla_gpu_autotune_level=0"},
        {"sources": "other"},
        *({"machine": name} for name in ("device", "libraries", "driver")),
    ],
    ids=str,
)
def test_it_is_measured_again_where_something_changed(
    measured: list[Any], monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]
) -> None:
    same: dict[str, Any] = {"works": WORKS, "setting": SETTING, "deterministic": False}
    choose("auto", **same)
    before = len(measured)
    if "XLA_FLAGS" in other:
        monkeypatch.setenv("XLA_FLAGS", other["XLA_FLAGS"])
    if "sources" in other:
        monkeypatch.setattr(conv_choice, "sources", lambda: other["sources"])
    if "machine" in other:
        found = conv_choice.machine() | {other["machine"]: "another"}
        monkeypatch.setattr(conv_choice, "machine", lambda: found)
    with jax.default_matmul_precision(other.get("JAX_option")):
        again = {name: value for name, value in other.items() if name in same}
        assert "kept" not in choose("auto", **same | again).why
    assert len(measured) > before


def test_the_key_names_the_device_the_libraries_and_on_a_cpu_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    here = conv_choice.machine()
    assert any(text == f"jax {jax.__version__}" for text in here["libraries"])
    assert here["processor"] and here["threads"][2] == jax.local_device_count()
    monkeypatch.setenv("NPROC", "7")
    assert conv_choice.machine() != here
    assert len(conv_choice.sources()) == 64


def test_what_could_not_be_measured_is_not_kept(measured: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(primitive, "problem", lambda: "triton is not installed (the extra cuda12 brings it)")
        missing = choose("auto", WORKS, SETTING, False)
    assert missing == Choice("grouped", ", not triton: triton is not installed (the extra cuda12 brings it)")
    assert choose("auto", WORKS, SETTING, False).conv == "triton"
