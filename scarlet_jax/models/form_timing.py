"""Times a training step of whole models in each form of the convolution: on a GPU, what `model.conv = auto` means.

`triton` is fused with the normalisation around it, so that it pays for a block and not for a convolution. It is taken
where it was measured to be faster on the card in use, and where its gradients are those of `grouped`.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scarlet_jax.errors import first_line
from scarlet_jax.models import build_model
from scarlet_jax.models.conv.triton import primitive
from scarlet_jax.models.precision import resolved

_log = logging.getLogger(__name__)

DEFAULT, FUSED = "grouped", "triton"

# A step's gradients and statistics may be this many times as far from those of exact float32 as the default form's are,
# plus a floor for the order of summation: relative errors in norm. How far that is depends on model and precision, for
# rounding decides which values a ReLU passes. A wrong tap, or a sum that is lost, is further off.
TIMES, FLOOR, MOST = 2, 1e-3, 0.5

STEPS = 5  # in a row, which hide the cost of dispatching a single one
REPEATS = 5  # rows of steps, of which the median counts
_GAIN = 0.95  # the fused form is taken if it needs less than this share of the default's time


class Work(NamedTuple):
    """Clients of one architecture that are trained together on a device."""

    model: str
    clients: int
    rows: int = 1  # such groups of clients, one after another, in a round


class Setting(NamedTuple):
    """What a training step depends on, besides its model and its clients."""

    image_shape: tuple[int, ...]  # [H, W, channels]
    num_classes: int
    batch_size: int
    precision: str | None
    remat: bool


class Trial(NamedTuple):
    """A training step of stacked clients in one form."""

    seconds: float
    numbers: list[Any]  # gradients, statistics and loss of the first and the last client, from the same start


class Verdict(NamedTuple):
    """The form that a run takes."""

    form: str
    why: str
    measured: bool  # False: something prevented it, which may be another at the next start


Try = Callable[[str, Work, Setting], Trial]


def trial(form: str, work: Work, setting: Setting) -> Trial:
    """Take a few training steps of random images.

    Raises:
        Exception: the form cannot be compiled, or memory does not suffice.
    """
    model = build_model(work.model, setting.num_classes, form, setting.precision, setting.remat)
    rng = np.random.default_rng(0)
    batch = setting.batch_size
    kind = jnp.minimum(jnp.arange(work.clients), 1)  # clients have images of two kinds: the first its own
    images = jnp.asarray(rng.normal(size=(2, batch, *setting.image_shape)), jnp.float32)[kind]
    labels = jnp.asarray(rng.integers(0, setting.num_classes, (2, batch)), jnp.int32)[kind]
    mask = jnp.ones((work.clients, batch), bool)

    def start(key: jax.Array) -> Any:
        variables = model.init(key, jnp.zeros((1, *setting.image_shape)), train=False)
        both = variables["params"], variables.get("batch_stats", {})
        return jax.tree.map(lambda a: jnp.broadcast_to(a, (work.clients, *a.shape)), both)

    def one(params: Any, stats: Any, x: jax.Array, label: jax.Array, mask: jax.Array) -> Any:
        def objective(params: Any) -> Any:
            variables = {"params": params, "batch_stats": stats}
            logits, updated = model.apply(variables, x, train=True, mask=mask, mutable=["batch_stats"])
            losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), label[:, None], 1)[:, 0]
            return jnp.sum(jnp.where(mask, losses, 0)) / jnp.sum(mask), updated.get("batch_stats", {})

        (loss, moved), gradient = jax.value_and_grad(objective, has_aux=True)(params)
        return jax.tree.map(lambda p, g: p - 1e-3 * g, params, gradient), moved, (gradient, moved, loss)

    step = jax.jit(jax.vmap(one))
    params, stats = jax.jit(start)(jax.random.key(0))
    params, stats, made = step(params, stats, images, labels, mask)
    numbers = [np.asarray(leaf[np.array([0, -1])], np.float32) for leaf in jax.tree.leaves(made)]
    taken = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        for _ in range(STEPS):
            params, stats, made = step(params, stats, images, labels, mask)
        jax.block_until_ready(made)
        taken.append((time.perf_counter() - begun) / STEPS)
    return Trial(statistics.median(taken), numbers)


def difference(ours: list[Any], reference: list[Any]) -> float:
    """Relative error in norm over all arrays; infinite where one of them is not finite."""
    total = sum(float(np.sum(np.square(b, dtype=np.float64))) for b in reference)
    apart = sum(float(np.sum(np.square(a - b, dtype=np.float64))) for a, b in zip(ours, reference, strict=True))
    ratio = math.sqrt(apart / total) if total else math.inf
    return ratio if math.isfinite(ratio) else math.inf


def choose(works: Iterable[Work], setting: Setting, attempt: Try) -> Verdict:
    """Time both forms; the default where the fused one cannot be used, is not right, or is not clearly faster.

    Args:
        works: what a device trains in a round; the server's model is left out, for its part is small.
        setting: of all of them.
        attempt: `trial` outside of tests.
    """
    if jax.default_backend() != "gpu":
        return Verdict(DEFAULT, "", False)
    if missing := primitive.problem():
        return _not_fused(missing)
    seconds = {DEFAULT: 0.0, FUSED: 0.0}
    exact = setting._replace(precision="float32")
    for work in works:
        reference = attempt(DEFAULT, work, setting)
        try:
            ours = attempt(FUSED, work, setting)
        except Exception as error:  # whatever a compiler raises, there is a form that works
            _log.debug("%s with %s", work, FUSED, exc_info=True)
            return _not_fused(f"it does not run: {first_line(error)}")
        right = reference
        if resolved(setting.precision) != "float32":
            right = attempt(DEFAULT, work._replace(clients=min(work.clients, 2)), exact)
        allowed = min(TIMES * difference(reference.numbers, right.numbers) + FLOOR, MOST)
        if (apart := difference(ours.numbers, right.numbers)) > allowed:
            return _not_fused(f"gradients of {work.model} differ from exact ones by {apart:.2g}, above {allowed:.2g}")
        seconds[DEFAULT] += work.rows * reference.seconds
        seconds[FUSED] += work.rows * ours.seconds
    form = FUSED if seconds[FUSED] < _GAIN * seconds[DEFAULT] else DEFAULT
    times = ", ".join(f"{name} {1e3 * value:.2f} ms" for name, value in seconds.items())
    return Verdict(form, f" (training steps: {times})", True)


def _not_fused(why: str) -> Verdict:
    return Verdict(DEFAULT, f", not {FUSED}: {why.rstrip('.')}", False)
