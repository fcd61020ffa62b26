"""The models as a whole: sizes, padding rows, initial weights, learning."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from scarlet_jax.errors import UserError
from scarlet_jax.models import MODELS, build_model, resolve_conv_for
from scarlet_jax.models.conv.api import resolve_conv

pytestmark = pytest.mark.usefixtures("quick_compilation")


def count(params: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def shapes(name: str, num_classes: int, image: tuple[int, ...]) -> tuple[Any, Any]:
    model = build_model(name, num_classes)
    out, variables = jax.eval_shape(
        lambda key, x: model.init_with_output(key, x, True), jax.random.key(0), jnp.zeros((2, *image))
    )
    return out, variables


# The published sizes: CIFAR ResNets 0.27, 0.46, 0.66, 0.85, 1.7 million (He et al., table 6); ResNet-18 as in
# torchvision.
@pytest.mark.parametrize(
    ("name", "num_classes", "image", "parameters"),
    [
        ("resnet20", 10, (32, 32, 3), 269_722),
        ("resnet32", 10, (32, 32, 3), 464_154),
        ("resnet44", 10, (32, 32, 3), 658_586),
        ("resnet56", 10, (32, 32, 3), 853_018),
        ("resnet110", 10, (32, 32, 3), 1_727_962),
        ("resnet18", 1000, (224, 224, 3), 11_689_512),
        ("resnet18_64", 200, (64, 64, 3), 11_271_432),
        # Without its linear layer it has 11,176,512.
        ("resnet18_torchvision", 200, (64, 64, 3), 11_176_512 + 512 * 200 + 200),
        ("cnn", 10, (8, 8, 1), 16 * 9 + 32 + 32 * 16 * 9 + 64 + 2 * 2 * 32 * 10 + 10),
        ("cnn", 10, (32, 32, 3), 16 * 27 + 32 + 32 * 16 * 9 + 64 + 8 * 8 * 32 * 10 + 10),
        ("mlp", 10, (8, 8, 1), 64 * 128 + 128 + 128 * 10 + 10),
    ],
)
def test_sizes(name: str, num_classes: int, image: tuple[int, ...], parameters: int) -> None:
    out, variables = shapes(name, num_classes, image)
    assert out.shape == (2, num_classes)
    assert count(variables["params"]) == parameters


def test_stages_of_resnet18() -> None:
    """The feature maps halve from 56x56 to 7x7 after the ImageNet stem, from 64x64 to 8x8 without it."""
    for name, size, last in (("resnet18", 224, 7), ("resnet18_64", 64, 8)):
        model = build_model(name, 10)
        seen: list[tuple[int, ...]] = []

        def record(next_call: Any, args: Any, kwargs: Any, context: Any, seen: Any = seen) -> Any:
            out = next_call(*args, **kwargs)
            if type(context.module).__name__ == "BasicBlock":
                seen.append(out.shape[1:])
            return out

        with nn.intercept_methods(record):
            jax.eval_shape(lambda x, model=model: model.init(jax.random.key(0), x, True), jnp.zeros((1, size, size, 3)))
        assert seen[::2] == [(last * 2**i, last * 2**i, 512 // 2**i) for i in (3, 2, 1, 0)]


def test_unknown_names() -> None:
    with pytest.raises(UserError, match=r"'resnet21'.*resnet20.*mlp"):
        build_model("resnet21", 10)
    with pytest.raises(UserError, match=r"'cudnn'"):
        build_model("cnn", 10, conv="cudnn")
    with pytest.raises(UserError, match="cudnn"):
        resolve_conv_for(["mlp"], "cudnn")
    assert build_model("cnn", 10).conv == resolve_conv("auto")
    assert build_model("resnet20", 10, "grouped").conv == "grouped"
    assert set(MODELS) >= {"resnet20", "resnet110", "resnet18", "resnet18_64", "resnet18_torchvision", "cnn", "mlp"}


def test_initial_weights_are_he_normal() -> None:
    model = build_model("resnet20", 10)
    variables = jax.jit(lambda key: model.init(key, jnp.zeros((1, 32, 32, 3)), False))(jax.random.key(1))
    kernel = np.asarray(variables["params"]["layer3_1"]["conv1"]["kernel"])
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.02)
    assert np.abs(kernel).max() > 3 * kernel.std()  # not truncated at two deviations
    linear = variables["params"]["linear"]
    assert np.asarray(linear["kernel"]).std() == pytest.approx(np.sqrt(2 / 64), rel=0.1) and not np.any(linear["bias"])
    stats = variables["batch_stats"]["layer1_0"]["bn2"]
    assert not np.any(stats["mean"]) and np.all(np.asarray(stats["var"]) == 1)


def test_resnet18_starts_as_torchvisions() -> None:
    """Convolutions He-normal by fan-out, the linear layer uniform between -1/sqrt(in) and 1/sqrt(in)."""
    model = build_model("resnet18_torchvision", 200, "xla")
    params = jax.jit(lambda key: model.init(key, jnp.zeros((1, 32, 32, 3)), False))(jax.random.key(2))["params"]
    for path, kernel in jax.tree_util.tree_leaves_with_path(params):
        if kernel.ndim == 4:
            size, _, _, features = kernel.shape
            expected = np.sqrt(2 / (size * size * features))
            assert float(kernel.std()) == pytest.approx(expected, rel=4 / np.sqrt(kernel.size)), path
    for values in params["linear"].values():
        bound = 1 / np.sqrt(512)
        assert 0.9 * bound < float(jnp.abs(values).max()) <= bound
        assert float(values.std()) == pytest.approx(bound / np.sqrt(3), rel=4 / np.sqrt(values.size))


def windows(x: np.ndarray, size: int, stride: int, padding: int, value: float = 0) -> np.ndarray:
    """f64[B, H', W', channels, size, size] of images [B, H, W, channels]."""
    edge = (padding, padding)
    padded = np.pad(x, ((0, 0), edge, edge, (0, 0)), constant_values=value)
    return np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))[:, ::stride, ::stride]


def plain_resnet18(variables: Any, x: np.ndarray) -> np.ndarray:
    """The evaluation of torchvision's ResNet-18 in NumPy, from its definition."""
    params, stats = (jax.tree.map(lambda a: np.asarray(a, np.float64), variables[n]) for n in ("params", "batch_stats"))

    def conv(x: np.ndarray, kernel: np.ndarray, stride: int, padding: int) -> np.ndarray:
        return np.einsum("bhwcij,ijco->bhwo", windows(x, len(kernel), stride, padding), kernel, optimize=True)

    def norm(x: np.ndarray, own: Any, moments: Any) -> np.ndarray:
        return (x - moments["mean"]) / np.sqrt(moments["var"] + 1e-5) * own["scale"] + own["bias"]

    x = np.maximum(norm(conv(x, params["conv1"]["kernel"], 2, 3), params["bn1"], stats["bn1"]), 0)
    x = windows(x, 3, 2, 1, -np.inf).max((-1, -2))
    for stage in (1, 2, 3, 4):
        for index in (0, 1):
            name, stride = f"layer{stage}_{index}", 2 if stage > 1 and index == 0 else 1
            own, moments, before = params[name], stats[name], x
            x = np.maximum(norm(conv(x, own["conv1"]["kernel"], stride, 1), own["bn1"], moments["bn1"]), 0)
            x = norm(conv(x, own["conv2"]["kernel"], 1, 1), own["bn2"], moments["bn2"])
            if stride > 1:
                before = conv(before, own["shortcut_conv"]["kernel"], stride, 0)
                before = norm(before, own["shortcut_bn"], moments["shortcut_bn"])
            x = np.maximum(x + before, 0)
    return x.mean((1, 2)) @ params["linear"]["kernel"] + params["linear"]["bias"]


@pytest.mark.parametrize("conv", ["xla", "auto", "grouped"])
def test_resnet18_computes_what_torchvisions_does(conv: str) -> None:
    """With few channels, for speed. All parameters and statistics are random."""
    model = build_model("resnet18_torchvision", 7, conv).clone(features=(8, 12, 16, 20))
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (3, 64, 64, 3)).astype(np.float32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), x[:1], False))
    variables = jax.tree.map(lambda a: rng.uniform(0.1, 0.5, a.shape) * rng.choice([-1, 1], a.shape), shapes)
    variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
    variables = jax.tree.map(lambda a: a.astype(np.float32), variables)
    logits, expected = jax.jit(lambda v: model.apply(v, x, False))(variables), plain_resnet18(variables, x)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_a_training_step_of_the_published_stem_lowers_for_cuda() -> None:
    """7x7 with stride 2, of stacked clients: XLA's own convolution alone, no call that only a CPU has."""
    model = build_model("resnet18_torchvision", 7, "grouped").clone(features=(8, 12, 16, 20))
    x, labels = jnp.zeros((2, 3, 64, 64, 3)), jnp.zeros((2, 3), int)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), x[0], False))
    stacked = jax.tree.map(lambda a: jax.ShapeDtypeStruct((2, *a.shape), a.dtype), variables)
    step = jax.jit(jax.vmap(lambda v, x, labels: loss_and_all(model, v, x, labels, None)))
    text = step.trace(stacked, x, labels).lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.convolution" in text and "feature_group_count = 2" in text and "custom_call" not in text


def loss_and_all(model: Any, variables: Any, x: Any, y: Any, mask: Any) -> Any:
    """Mean cross-entropy over the real rows, with gradients in parameters and images."""

    def loss(params: Any, x: Any) -> Any:
        state = {**variables, "params": params}
        logits, updates = model.apply(state, x, True, mask, mutable=["batch_stats"])
        each = -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1)[:, 0]
        real = jnp.ones(len(y), bool) if mask is None else mask
        return jnp.sum(jnp.where(real, each, 0)) / jnp.maximum(real.sum(), 1), (logits, updates)

    return jax.value_and_grad(loss, (0, 1), has_aux=True)(variables["params"], x)


@pytest.mark.parametrize("kind", ["resnet20", "resnet18_64", "cnn"])
def test_padding_is_never_seen(kind: str) -> None:
    """A padded batch equals the smaller one: loss, logits, gradients, statistics. The padding holds infinities.

    In float64, so that what is compared is the rule and not rounding; on a shortened model and small images, for speed.
    """
    with jax.enable_x64(True):
        model = build_model(kind, 10)
        if kind != "cnn":
            model = model.clone(blocks=(1, 1), features=(8, 16))
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(6, 8, 8, 3)), rng.integers(0, 10, 6)
        mask = np.array([True, True, False, True, False, True])
        padded = np.where(mask[:, None, None, None], x, np.inf)
        init = jax.jit(lambda key: model.init(key, x, True))(jax.random.key(0))
        variables = jax.tree.map(lambda a: a.astype(float), init)
        run = jax.jit(lambda x, y, mask: loss_and_all(model, variables, x, y, mask))
        (loss, (logits, updates)), (grads, dx) = run(padded, y, mask)
        (small_loss, (small_logits, small_updates)), (small_grads, small_dx) = run(x[mask], y[mask], None)
        ours = (loss, logits[mask], updates, grads, dx[mask])
        theirs = (small_loss, small_logits, small_updates, small_grads, small_dx)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11), ours, theirs)
        assert not np.any(dx[~mask]) and np.all(np.isfinite(logits))

        (loss, (logits, updates)), (grads, _) = run(padded, y, np.zeros(6, bool))
        assert loss == 0 and np.all(np.isfinite(logits)) and not any(np.any(g) for g in jax.tree.leaves(grads))
        jax.tree.map(np.testing.assert_array_equal, updates["batch_stats"], variables["batch_stats"])


@pytest.mark.parametrize(("name", "floor"), [("cnn", 0.94), ("mlp", 0.9)])
def test_small_models_learn_digits_quickly(name: str, floor: float) -> None:
    """Plain SGD at the default learning rate: 2 epochs of 30 steps of 50 images, pixels in [-1, 1] as the data come."""
    digits = load_digits()
    x = (digits.images[..., None] / 8 - 1).astype(np.float32)
    y = digits.target.astype(np.int32)
    order = np.random.default_rng(0).permutation(len(y))
    train, test = order[:1500], order[1500:]
    model = build_model(name, 10)
    variables = model.init(jax.random.key(0), x[:1], False)
    assert ("batch_stats" in variables) == (name == "cnn")

    def step(variables: Any, batch: Any) -> tuple[Any, jax.Array]:
        (loss, (_, updates)), (grads, _) = loss_and_all(model, variables, *batch, None)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, variables["params"], grads)
        return {**variables, **updates, "params": params}, loss

    batches = (x[train].reshape(30, 50, 8, 8, 1), y[train].reshape(30, 50))
    epoch = jax.jit(lambda v: jax.lax.scan(step, v, batches)[0])
    variables = epoch(epoch(variables))
    accuracy = np.mean(np.argmax(model.apply(variables, x[test], False), 1) == y[test])
    assert accuracy > floor


def test_bfloat16_rounds_what_is_computed_and_nothing_that_is_kept() -> None:
    """A rounding of bfloat16 is 2^-9, and moves some maxima of the pools and some ReLUs: a few percent in all."""
    rng = np.random.default_rng(0)
    x, labels = rng.uniform(-1, 1, (20, 8, 8, 3)).astype(np.float32), rng.integers(0, 10, 20)

    def gradient(dtype: str) -> Any:
        model = build_model("cnn", 10, "cpu", dtype)
        variables = model.init(jax.random.key(0), x[:1], False)

        def loss(params: Any) -> tuple[jax.Array, Any]:
            logits, updates = model.apply({**variables, "params": params}, x, True, mutable=["batch_stats"])
            rows = jax.nn.log_softmax(logits)[jnp.arange(20), labels]
            return -jnp.mean(rows), (logits, updates["batch_stats"])

        return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

    rounded, exact = gradient("bfloat16"), gradient("float32")
    assert {leaf.dtype for leaf in jax.tree.leaves(rounded)} == {jnp.dtype("float32")}
    ours, expected = (np.concatenate([np.ravel(a) for a in jax.tree.leaves(tree)]) for tree in (rounded, exact))
    difference = np.linalg.norm(ours - expected) / np.linalg.norm(expected)
    assert 1e-4 < difference < 0.1


def test_blocks_computed_again_change_nothing_but_the_order_of_sums() -> None:
    """Stacked clients, as in training. Only fusion differs: float32's rounding, relative to each array's largest."""
    rng = np.random.default_rng(0)
    x, labels = rng.uniform(-1, 1, (2, 6, 8, 8, 3)).astype(np.float32), rng.integers(0, 10, (2, 6))

    def gradients(remat: bool) -> Any:
        model = build_model("resnet20", 10, "cpu", remat=remat)
        variables = build_model("resnet20", 10, "cpu").init(jax.random.key(0), x[0, :1], False)

        def one(x: Any, labels: Any) -> Any:
            (_, (_, updates)), (grads, _) = loss_and_all(model, variables, x, labels, None)
            return grads, updates

        program = jax.jit(jax.vmap(one))
        return program(x, labels), str(jax.make_jaxpr(jax.vmap(one))(x, labels))

    (kept, plain), (again, text) = gradients(False), gradients(True)
    assert "remat" in text and "remat" not in plain
    for ours, expected in zip(jax.tree.leaves(again), jax.tree.leaves(kept), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5 * np.abs(expected).max() + 1e-7)
