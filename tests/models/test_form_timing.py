"""Choosing between whole forms of the convolution: what is timed, what is compared, and why `grouped` is taken."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from scarlet_jax.models import form_timing
from scarlet_jax.models.conv.triton import primitive
from scarlet_jax.models.form_timing import FLOOR, MOST, TIMES, Setting, Trial, Work, choose, difference, trial

SETTING = Setting((8, 8, 1), 10, 6, None, False)
NUMBERS = [np.ones((2, 3), np.float32)]


@pytest.fixture(autouse=True)
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(primitive, "problem", lambda: None)


def fake(seconds: dict[Any, float], numbers: Any = None) -> Any:
    """A timer: seconds by form, or by form and model."""

    def attempt(form: str, work: Work, setting: Setting) -> Trial:
        taken = seconds[form] if form in seconds else seconds[form, work.model]
        return Trial(taken, numbers if numbers is not None and form == "triton" else NUMBERS)

    return attempt


def test_the_faster_form_is_taken_if_clearly_faster() -> None:
    works = [Work("cnn", 7)]
    assert choose(works, SETTING, fake({"grouped": 2.0, "triton": 1.0})).form == "triton"
    assert choose(works, SETTING, fake({"grouped": 1.0, "triton": 0.96})).form == "grouped"
    assert choose(works, SETTING, fake({"grouped": 1.0, "triton": 2.0})).form == "grouped"


def test_the_groups_of_a_round_count_by_their_steps() -> None:
    taken = {("grouped", "cnn"): 2.0, ("triton", "cnn"): 1.0, ("grouped", "resnet20"): 1.0, ("triton", "resnet20"): 1.6}
    assert choose([Work("cnn", 7, 1), Work("resnet20", 7, 1)], SETTING, fake(taken)).form == "triton"
    assert choose([Work("cnn", 7, 1), Work("resnet20", 7, 2)], SETTING, fake(taken)).form == "grouped"


@pytest.mark.parametrize("precision", [None, "tf32", "float32", "bfloat16"])
@pytest.mark.parametrize("rounding", [0.0, 0.1])
def test_what_is_further_from_exact_numbers_than_the_default_form_is_refused(
    precision: str | None, rounding: float
) -> None:
    asked: list[Any] = []

    def attempt(form: str, work: Work, setting: Setting) -> Trial:
        asked.append((form, work.clients, setting.precision))
        off = error if form == "triton" else 0.0 if setting.precision == "float32" else rounding
        return Trial(1.0 if form == "triton" else 2.0, [NUMBERS[0] * (1 + off)])

    allowed = (0 if precision == "float32" else TIMES * rounding) + FLOOR
    for error in (0.9 * allowed, 1.1 * allowed, np.nan, np.inf):
        verdict = choose([Work("cnn", 7)], SETTING._replace(precision=precision), attempt)
        right = error < allowed
        assert verdict.form == ("triton" if right else "grouped") and verdict.measured == right, error
    assert "gradients of cnn differ from exact ones by inf, above" in verdict.why
    exact = [] if precision == "float32" else [("grouped", 2, "float32")]
    assert asked[: 2 + len(exact)] == [("grouped", 7, precision), ("triton", 7, precision), *exact]


def test_a_step_that_is_mostly_rounding_shows_nothing() -> None:
    def attempt(form: str, work: Work, setting: Setting) -> Trial:
        return Trial(1.0 if form == "triton" else 2.0, [NUMBERS[0] * (1.0 if setting.precision == "float32" else 1.6)])

    verdict = choose([Work("cnn", 7)], SETTING._replace(precision="bfloat16"), attempt)
    assert verdict.form == "grouped" and f"above {MOST}" in verdict.why


def test_what_does_not_run_is_said_in_one_line() -> None:
    def attempt(form: str, work: Work, setting: Setting) -> Trial:
        if form == "triton":
            raise ValueError("TTIR->TTGIR pass failed!\nmany more lines")
        return Trial(1.0, NUMBERS)

    verdict = choose([Work("cnn", 7)], SETTING, attempt)
    assert verdict == ("grouped", ", not triton: it does not run: TTIR->TTGIR pass failed!", False)


def test_nothing_is_tried_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert choose([Work("cnn", 7)], SETTING, lambda *_: pytest.fail("tried")) == ("grouped", "", False)


def test_differences_are_relative_and_of_all_arrays() -> None:
    a, b = np.ones(3, np.float32), np.full((2, 2), 2.0, np.float32)
    assert difference([a, b], [a, b]) == 0
    assert difference([a, b + 1], [a, b]) == pytest.approx(np.sqrt(4 / 19))
    assert difference([a, b * np.nan], [a, b]) == difference([a], [0 * a]) == np.inf


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_of_the_fused_form_is_about_as_exact_as_one_of_the_default(
    precision: str, monkeypatch: pytest.MonkeyPatch, quick_compilation: None
) -> None:
    """The pure form of `triton`, which rounds where the kernels round."""
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    monkeypatch.setattr(form_timing, "REPEATS", 1)
    monkeypatch.setattr(form_timing, "STEPS", 1)
    setting, exact = (SETTING._replace(precision=name) for name in (precision, "float32"))
    ours, default = (trial(form, Work("cnn", 3), setting) for form in ("triton", "grouped"))
    right = trial("grouped", Work("cnn", 2), exact).numbers
    assert ours.seconds > 0 and all(a.shape[0] == 2 for a in ours.numbers)
    allowed = TIMES * difference(default.numbers, right) + FLOOR
    assert difference(ours.numbers, right) < allowed < MOST
    spoiled = [a.copy() for a in ours.numbers]
    spoiled[np.argmax([np.abs(a).sum() for a in spoiled])] *= 0.5
    assert difference(spoiled, right) > allowed
