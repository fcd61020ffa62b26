"""The form `triton`, pure as it is without a GPU, against other forms and against autodiff."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.errors import UserError
from scarlet_jax.models import build_model
from scarlet_jax.models.conv.api import resolve_conv
from scarlet_jax.models.conv.forms import Geometry, plain
from scarlet_jax.models.conv.triton import fused, launches, primitive
from scarlet_jax.models.conv.triton.fused import Pending
from scarlet_jax.models.conv.triton.launches import Problem

pytestmark = pytest.mark.usefixtures("quick_compilation")

MASK = jnp.array([True, True, False])


def definition(y: Any, factor: Any, offset: Any, shortcut: Any, mask: Any, w: Any, stride: int) -> Any:
    """z, out and its sums as the module's docstring has them, for autodiff."""
    z = y if factor is None else y * factor + offset
    z = z if shortcut is None else z + shortcut
    z = z if factor is None else jnp.maximum(z, 0)
    z = z if mask is None else jnp.where(mask[:, None, None, None], z, 0)
    out = plain(z, w, Geometry(stride, w.shape[0] // 2))
    return out, jnp.stack([jnp.sum(out, (0, 1, 2)), jnp.sum(out**2, (0, 1, 2))]), z


def draw(inputs: int, outputs: int, size: int, clients: int = 2, image: int = 5) -> tuple[Any, ...]:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(rng.normal(size=(clients, *shape)), jnp.float32)

    real = np.asarray(MASK)[None, :, None, None, None]
    y, shortcut = (normal(3, image, image, inputs) * real for _ in range(2))
    return y, normal(inputs), normal(inputs), shortcut, normal(size, size, inputs, outputs)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_values_and_gradients_are_those_of_the_definition(stride: int, size: int, added: bool, keep: bool) -> None:
    """The gradients of both sums, and of z where others read it, included; `vmap` inside and outside."""
    y, factor, offset, shortcut, w = draw(16, 32, size)
    shortcut = shortcut if added else None

    def weigh(out: Any, sums: Any, z: Any) -> Any:
        own = jnp.sum(jnp.sin(out) * MASK[:, None, None, None]) + jnp.sum(jnp.cos(sums))  # no loss sees a padding row
        return own + (jnp.sum(z**2) if keep else 0)

    def ours(y: Any, factor: Any, offset: Any, shortcut: Any, w: Any) -> Any:
        made, z = fused.fused_conv(Pending(y, factor, offset, shortcut, MASK), w, stride, keep)
        return weigh(*made, z)

    def reference(y: Any, factor: Any, offset: Any, shortcut: Any, w: Any) -> Any:
        return weigh(*definition(y, factor, offset, shortcut, MASK, w, stride))

    wanted = (0, 1, 2, 3, 4) if added else (0, 1, 2, 4)
    arrays = (y, factor, offset, shortcut, w)
    inside = jax.vmap(jax.value_and_grad(ours, wanted))(*arrays)
    outside = jax.grad(lambda *a: jnp.sum(jax.vmap(ours)(*a)), wanted)(*arrays)
    value, gradients = jax.vmap(jax.value_and_grad(reference, wanted))(*arrays)
    np.testing.assert_allclose(inside[0], value, rtol=1e-5)
    for a, b, c in zip(inside[1], outside, gradients, strict=True):
        scale = float(jnp.abs(c).max())
        np.testing.assert_allclose(a, c, atol=2e-5 * scale)
        np.testing.assert_allclose(b, c, atol=2e-5 * scale)


def test_images_have_a_gradient_too() -> None:
    x, _, _, _, w = draw(3, 16, 3, clients=1)

    def ours(x: Any) -> Any:
        return jnp.sum(jnp.sin(fused.fused_conv(x, w[0], 1, False)[0].y))

    def reference(x: Any) -> Any:
        return jnp.sum(jnp.sin(definition(x, None, None, None, None, w[0], 1)[0]))

    np.testing.assert_allclose(jax.grad(ours)(x[0]), jax.grad(reference)(x[0]), atol=1e-4)


def test_sums_are_of_what_is_stored() -> None:
    y, factor, offset, _, w = (a[0] for a in draw(16, 16, 3))
    made, _ = fused.fused_conv(Pending(y.astype(jnp.bfloat16), factor, offset), w, 1, False)
    stored = made.y.astype(jnp.float32)
    assert made.y.dtype == jnp.bfloat16 and made.sums.dtype == jnp.float32
    expected = jnp.stack([jnp.sum(stored, (0, 1, 2)), jnp.sum(stored**2, (0, 1, 2))])
    np.testing.assert_allclose(made.sums, expected, rtol=1e-5, atol=1e-3)


def outputs(conv: str, name: str, size: int, remat: bool = False, dtype: str = "float32", mask: Any = None) -> Any:
    """Logits of real rows in both modes, moved statistics, gradients; of two clients."""
    model = build_model(name, 10, conv, dtype, remat)
    variables = model.init(jax.random.key(0), jnp.zeros((1, size, size, 3)), train=False)
    stacked = jax.tree.map(lambda a: jnp.stack([a, 1.1 * a]), variables)
    x = jax.random.normal(jax.random.key(1), (2, 4, size, size, 3))
    masks = jnp.array([[True] * 4, [True, True, True, False]]) if mask is None else mask

    def one(variables: Any, x: Any, mask: Any) -> Any:
        def loss(params: Any) -> Any:
            logits, updates = model.apply({**variables, "params": params}, x, True, mask, mutable=["batch_stats"])
            logits = jnp.where(mask[:, None], logits, 0)
            return jnp.sum(jnp.sin(logits)), (logits, updates)

        gradient, (logits, updates) = jax.grad(loss, has_aux=True)(variables["params"])
        return model.apply(variables, x, False), logits, updates, gradient

    return jax.jit(jax.vmap(one))(stacked, x, masks)


@pytest.mark.parametrize(
    ("name", "size", "remat", "tolerance"),
    # The last images of resnet18 are single pixels here: BatchNorm over three values magnifies rounding.
    [("resnet20", 8, True, 2e-5), ("cnn", 8, False, 2e-5), ("resnet18", 32, False, 2e-3)],
)
def test_a_model_is_that_of_the_reference_form(name: str, size: int, remat: bool, tolerance: float) -> None:
    """resnet18 brings what kernels do not cover (7x7), a maximum, and projections."""
    ours, reference = outputs("triton", name, size, remat), outputs("xla", name, size)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(reference), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, float(jnp.abs(b).max())))


def test_bfloat16_is_float32_rounded() -> None:
    logits, exact = outputs("triton", "cnn", 8, dtype="bfloat16")[1], outputs("triton", "cnn", 8)[1]
    assert 0 < float(jnp.abs(logits - exact).max()) < 0.05 * float(jnp.abs(exact).max())


def test_a_batch_of_padding_changes_nothing() -> None:
    model = build_model("resnet20", 10, "triton")
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    x, nobody = jnp.ones((2, 8, 8, 3)), jnp.zeros(2, bool)
    _, updates = jax.jit(lambda v: model.apply(v, x, True, nobody, mutable=["batch_stats"]))(variables)
    jax.tree.map(np.testing.assert_array_equal, updates["batch_stats"], variables["batch_stats"])


@pytest.mark.parametrize(
    ("change", "dtype", "covered"),
    [
        ({}, "float32", True), ({}, "bfloat16", True), ({}, "float64", False), ({"size": 7}, "float32", False),
        ({"stride": 3}, "float32", False), ({"inputs": 3}, "float32", True), ({"inputs": 15}, "float32", False),
        ({"inputs": 24}, "float32", False), ({"outputs": 8}, "float32", False), ({"outputs": 1024}, "float32", False),
        ({"clients": 2**16}, "float32", False), ({"batch": 2**21}, "float32", False),
    ],
)  # fmt: skip
def test_what_is_covered(change: dict[str, int], dtype: str, covered: bool) -> None:
    problem = Problem(clients=2, batch=3, height=32, width=32, inputs=64, outputs=512, size=3, stride=1)
    assert launches.covers(problem._replace(**change), dtype) is covered


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("precision", ["tf32", "ieee"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("inputs", [1, 3, 16, 64, 512])
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2)])
def test_tiles_fill_their_channels(
    inputs: int, size: int, stride: int, dtype: str, precision: str, capability: int
) -> None:
    """A block that is wider than what it reads would be out of bounds; programs cover all pixels."""
    for outputs_ in (16, 32, 64, 512):
        problem = Problem(3, 5, 9, 7, inputs, outputs_, size, stride)
        for kind in ("forward", "input_gradient", "weight_gradient"):
            if kind == "input_gradient" and problem.few:
                continue
            launch = primitive.Operation(kind, problem, dtype, precision, True).launch(capability)
            constants, backward = dict(launch.constants), kind == "input_gradient"
            assert min(launch.grid) > 0 and launch.grid[1] < 2**16 and launch.grid[2] < 2**16
            if kind == "weight_gradient":
                wide = "BI" in constants and "ROWS" not in constants
                assert wide or (outputs_ % constants["BO"] == 0 and inputs % constants.get("BI", 1) == 0)
                assert constants["PART"] % constants["BP"] == 0
                pixels = problem.batch * problem.out_height * problem.out_width
                assert launch.grid[0] * constants["PART"] >= pixels > (launch.grid[0] - 1) * constants["PART"]
            else:
                columns, depth = (inputs, outputs_) if backward else (outputs_, inputs)
                assert columns % constants["BN"] == 0 and launch.grid[2] * constants["BN"] == columns
                assert problem.few or depth % constants["BK"] == 0


def test_one_form_for_a_whole_model() -> None:
    assert resolve_conv("triton", "cpu") == "triton"
    with pytest.raises(UserError, match="mixes triton with others"):
        resolve_conv("grouped 8x8x16-3x3x16-1-1=triton")


def test_a_gpu_without_triton_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(primitive, "problem", lambda: "jax_triton is not installed")
    with pytest.raises(UserError, match="'triton', but jax_triton is not installed"):
        resolve_conv("triton", "cuda")
