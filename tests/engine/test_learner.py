"""The training loops against the reference's, and the learner's laws: padding, order, empty clients, scores."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scarlet_jax.engine import learner as learner_module
from scarlet_jax.engine.learner import Augmentation, Learner, kl_divergence
from scarlet_jax.engine.optimizers import sgd
from scarlet_jax.engine.training import Training
from scarlet_jax.models import build_model
from scarlet_jax.types import ModelState
from tests.support.golden_files import golden
from tests.support.torch_layout import images, resnet_path, resnet_variables, to_our_layout

PLAIN = Augmentation(private=False, public=False, flip=False, crop=False)


@pytest.fixture
def as_stored(monkeypatch):
    """The golden files hold normalised images, used in the stored order."""
    monkeypatch.setattr(learner_module, "normalize", lambda x: x)
    monkeypatch.setattr(jax.random, "bits", lambda key, shape, dtype: jnp.arange(shape[0], dtype=dtype))


@functools.cache
def reference_loop(kind, dtype):
    """Two epochs of the golden file, compiled once for every rate: `f(rate, params, batch_stats) -> state, metrics`."""
    g, everyone, key = golden("local_training"), jnp.arange(20), jax.random.key(0)

    @jax.jit
    def loop(rate, params, stats):
        training = Training(int(g["epochs"]), int(g["batch_size"]), sgd(rate, 0, 0))
        learner = Learner(build_model("resnet20", 10), training, training, PLAIN)
        optimizer = training.optimizer.init(params)
        state = ModelState(params, stats, optimizer, optimizer)
        if kind == "fit":
            x, y = jnp.asarray(images(g["private_x"], dtype)), jnp.asarray(g["private_y"].astype(np.int32))
            state, metrics = learner.fit(state, key, x, y, everyone, jnp.int32(20))
        else:
            x, target = jnp.asarray(images(g["public_x"], dtype)), jnp.asarray(g["teacher"].astype(dtype))
            state, metrics = learner.distil(state, key, x, everyone, target, jnp.int32(20))
        return state.params, state.batch_stats, metrics

    return loop


def reference_run(phase, rate, dtype):
    """Variables, metrics and probe logits after a phase: `a` fit, `b` distil after `a`, `c` distil from the start."""
    variables, metrics = resnet_variables(golden("resnet20"), "weights/", dtype), None
    params, stats = jax.tree.map(jnp.asarray, (variables["params"], variables["batch_stats"]))
    for kind in {"a": ["fit"], "b": ["fit", "distil"], "c": ["distil"]}[phase]:
        params, stats, metrics = reference_loop(kind, dtype)(dtype(rate), params, stats)
    variables = {"params": params, "batch_stats": stats}
    probe = images(golden("local_training")["probe"], dtype)
    return variables, metrics, build_model("resnet20", 10).apply(variables, probe, train=False)


def assert_parameters(variables, prefix, tolerance):
    g, compared = golden("local_training"), 0
    for name in (n for n in g if n.startswith(prefix + "/")):
        path = resnet_path(name[len(prefix) + 1 :])
        if path is not None:
            ours = functools.reduce(lambda node, part: node[part], path, variables)
            np.testing.assert_allclose(ours, to_our_layout(g[name]), rtol=tolerance, atol=tolerance)
            compared += 1
    assert compared >= 6


# The golden README: everything at the low rate to 1e-6, phases a and c at rate 0.1 to 1e-4; b there amplifies too much.
@pytest.mark.parametrize(
    ("phase", "prefix", "tolerance"),
    [("a", "lo_", 1e-6), ("b", "lo_", 1e-6), ("c", "lo_", 1e-6), ("a", "", 1e-4), ("c", "", 1e-4)],
)
def test_golden_training_in_float64(phase, prefix, tolerance, as_stored):
    g = golden("local_training")
    with jax.enable_x64(True):
        variables, metrics, probe = reference_run(phase, float(g[f"{prefix}lr"]), np.float64)
        np.testing.assert_allclose(probe, g[f"{prefix}{phase}_probe_eval_f64"], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(metrics.loss, g[f"{prefix}{phase}_avg_loss_f64"], rtol=tolerance)
        assert_parameters(variables, f"{prefix}{phase}_param_f64", tolerance)
        if phase == "a":
            np.testing.assert_allclose(metrics.accuracy, g[f"{prefix}a_avg_acc_f64"], rtol=1e-12)


@pytest.mark.parametrize("phase", ["a", "c"])
def test_golden_training_in_float32(phase, as_stored):
    """A single ReLU that flips through rounding moves the logits by 1e-3: 1e-2, as the golden README says."""
    g = golden("local_training")
    _, metrics, probe = reference_run(phase, float(g["lo_lr"]), np.float32)
    np.testing.assert_allclose(probe, g[f"lo_{phase}_probe_eval"], rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(metrics.loss, g[f"lo_{phase}_avg_loss"], rtol=1e-2)


def small_learner(model="mlp", batch_size=4, epochs=2, **options):
    training = Training(epochs, batch_size, sgd(0.1, **{"momentum": 0.0, "weight_decay": 0.0} | options))
    return Learner(build_model(model, 3), training, training, PLAIN)


def start(learner):
    return jax.jit(lambda key: learner.init(key, (8, 8, 1)))(jax.random.key(1))


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    image, label = rng.integers(0, 256, (30, 8, 8, 1), dtype=np.uint8), rng.integers(0, 3, 30).astype(np.int32)
    return jnp.asarray(image), jnp.asarray(label)


def assert_same(one, other, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), one, other)


def test_padding_of_the_index_changes_no_bit(pictures):
    """A client's training depends on its own images alone, not on how long others' lists are."""
    image, label = pictures
    learner = small_learner()
    state = start(learner)
    fit = jax.jit(learner.fit)
    rows = jnp.arange(10, 20, dtype=jnp.int32)
    one, _ = fit(state, jax.random.key(2), image, label, rows, jnp.int32(10))
    padded = jnp.concatenate([rows, jnp.zeros(13, jnp.int32)])
    other, _ = fit(state, jax.random.key(2), image, label, padded, jnp.int32(10))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_nothing_to_learn_from_changes_nothing(pictures):
    image, label = pictures
    learner = small_learner(momentum=0.9, weight_decay=0.1)
    state = start(learner)
    rows, none = jnp.zeros(6, jnp.int32), jnp.int32(0)
    after, metrics = jax.jit(learner.fit)(state, jax.random.key(2), image, label, rows, none)
    jax.tree.map(np.testing.assert_array_equal, after, state)
    after, _ = jax.jit(learner.distil)(state, jax.random.key(2), image, rows, jnp.full((6, 3), 1 / 3), none)
    jax.tree.map(np.testing.assert_array_equal, after, state)
    assert float(metrics.loss) == 0


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "weight_decay": 0.01}])
def test_distillation_is_a_plain_loop(pictures, options):
    """Batches of 4 over a list of 10: two full ones and one of 2, in order, divided by their real size."""
    image, _ = pictures
    learner = small_learner("cnn", **options)
    state = start(learner)
    rows = jnp.array([5, 3, 8, 1, 9, 0, 2, 7, 6, 4, 20, 21])  # the last two are beyond the list
    target = jnp.asarray(np.random.default_rng(1).dirichlet(np.ones(3), 12).astype(np.float32))
    ours, metrics = jax.jit(learner.distil)(state, jax.random.key(0), image, rows, target, jnp.int32(10))

    def loss(p, stats, x, t):
        logits, new = learner.model.apply({"params": p, "batch_stats": stats}, x, train=True, mutable=["batch_stats"])
        return jnp.mean(optax.kl_divergence(jax.nn.log_softmax(logits), t)), new.get("batch_stats", {})

    gradient_of = jax.jit(jax.value_and_grad(loss, has_aux=True))
    params, stats = state.params, state.batch_stats
    momentum, decay = options.get("momentum", 0), options.get("weight_decay", 0)
    velocity = jax.tree.map(jnp.zeros_like, params)
    for _ in range(2):
        losses = []
        for begin in range(0, 10, 4):
            batch, t = rows[begin : min(begin + 4, 10)], target[begin : min(begin + 4, 10)]
            x = (image[batch].astype(jnp.float32) / 255 - 0.5) / 0.5
            (value, stats), gradient = gradient_of(params, stats, x, t)
            gradient = jax.tree.map(lambda g, p: g + decay * p, gradient, params)
            velocity = jax.tree.map(lambda v, g: momentum * v + g, velocity, gradient)
            params = jax.tree.map(lambda p, v: p - 0.1 * v, params, velocity)
            losses.append(float(value) * len(batch))
    # Six float32 steps at rate 0.1 on a small network; sums are in another order.
    assert_same((ours.params, ours.batch_stats), (params, stats), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(metrics.loss, sum(losses) / 10, rtol=1e-3)


class Watched(nn.Module):
    """A linear model that tells which images it is trained on; `watch` is called with the pixels of each batch."""

    watch: Callable

    @nn.compact
    def __call__(self, x, train, mask=None):
        if train:
            jax.debug.callback(self.watch, x, mask)
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


def test_every_sample_is_used_once_an_epoch(pictures):
    """Images whose pixels are their number: 10 samples in batches of 4, in two different orders."""
    _, label = pictures
    numbered = jnp.broadcast_to(jnp.arange(30, dtype=jnp.uint8)[:, None, None, None], (30, 8, 8, 1))
    seen = []

    def watch(x, mask):
        pixels = np.round((np.asarray(x)[:, 0, 0, 0] * 0.5 + 0.5) * 255).astype(int)
        seen.append(pixels[np.asarray(mask)].tolist())

    training = Training(2, 4, sgd(0.1, 0, 0))
    learner = Learner(Watched(watch), training, training, PLAIN)
    state = start(learner)
    jax.block_until_ready(
        jax.jit(learner.fit)(state, jax.random.key(2), numbered, label, jnp.arange(10, 22), jnp.int32(10))
    )
    jax.effects_barrier()
    assert sorted(map(len, seen)) == [2, 2, 4, 4, 4, 4]
    one, other = (sum(seen[e : e + 3], []) for e in (0, 3))
    assert sorted(one) == sorted(other) == list(range(10, 20)) and one != other


def test_scores_are_a_plain_loop(pictures):
    image, label = pictures
    learner = small_learner()
    state = start(learner)
    rows = jnp.array([4, 9, 2, 2, 0, 0])
    scores = learner.evaluate(state, image, label, rows, jnp.int32(3), "client")
    probs = np.asarray(learner.predict(state, image, rows[:3]))
    truth = label[np.asarray(rows[:3])]
    assert float(scores.sums["top1"]) == sum(probs[i].argmax() == truth[i] for i in range(3))
    assert float(scores.sums["top5"]) == float(scores.samples) == 3
    np.testing.assert_allclose(scores.sums["loss"], -np.log(probs[range(3), truth]).sum(), rtol=1e-5)


def test_scores_do_not_depend_on_the_batch(pictures):
    image, label = pictures
    state, rows = start(small_learner()), jnp.arange(30)
    training = Training(1, 8, sgd(0.1))
    for batch in (1, 7, 30, 250):
        learner = Learner(small_learner().model, training, training, PLAIN, evaluation_batch=batch)
        scores = learner.evaluate(state, image, label, rows, jnp.int32(29), "server")
        expected = small_learner().evaluate(state, image, label, rows, jnp.int32(29), "server")
        assert scores.samples == expected.samples
        assert all(scores.sums[name] == expected.sums[name] for name in ("top1", "top5"))
        np.testing.assert_allclose(scores.sums["loss"], expected.sums["loss"], rtol=1e-5)


def test_predictions_beyond_the_size_are_not_computed(pictures):
    image, _ = pictures
    learner = small_learner()
    state, rows, key = start(learner), jnp.arange(30), jax.random.key(3)
    everything = np.asarray(learner.predict(state, image, rows, key))
    broken = np.array(image, np.float32)  # a NaN would show where it was computed
    batch = 4  # of `small_learner`
    broken[2 * batch :] = np.nan
    broken = jnp.asarray(broken)
    for size in (0, 1, batch, batch + 1):
        probs = np.asarray(learner.predict(state, broken, rows, key, jnp.int32(size)))
        computed = -(-size // batch) * batch
        np.testing.assert_array_equal(probs[:computed], everything[:computed])
        assert not probs[computed:].any()


def test_constant_or_nan_logits_score_no_better_than_chance(pictures):
    image, label = pictures
    learner = small_learner()
    state = start(learner)
    everyone = jnp.arange(30)
    for value, right in ((0.0, int(np.sum(label == 0))), (np.nan, 0)):
        constant = state._replace(params=jax.tree.map(lambda a, v=value: jnp.full_like(a, v), state.params))
        scores = learner.evaluate(constant, image, label, everyone, jnp.int32(30), "server")
        assert int(scores.sums["top1"]) == right


def test_kl_divergence_with_zeros_in_the_target():
    logits = jnp.array([[0.3, -1.0, 2.0]])
    np.testing.assert_allclose(kl_divergence(logits, jax.nn.softmax(logits)), [0], atol=1e-7)
    one_hot = jnp.array([[0.0, 1.0, 0.0]])
    np.testing.assert_allclose(kl_divergence(logits, one_hot), -jax.nn.log_softmax(logits)[:, 1], rtol=1e-6)
