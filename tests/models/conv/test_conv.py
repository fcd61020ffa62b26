"""The choice among the forms for CPU, further shapes of each, the names of implementations, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scarlet_jax.errors import UserError
from scarlet_jax.models.conv import CONVS
from scarlet_jax.models.conv.api import conv, resolve_conv
from scarlet_jax.models.conv.cpu import form_for
from scarlet_jax.models.conv.forms import POINTWISE, SLICED, WINDOWS, Geometry
from scarlet_jax.models.conv.winograd import FORM as WINOGRAD
from tests.support.convolutions import ConvLaws, Shape, assert_close, bound, draw, exact, value_and_gradients

LAWS = ConvLaws()
# Beside the shapes of the laws: one for each form that `cpu` chooses among, and the corners of each.
SHAPES: tuple[Shape, ...] = (
    (2, 8, 8, 1, 4, 3, 1, 1),  # digits
    (20, 6, 6, 8, 8, 3, 1, 1),  # weight gradient in two blocks
    (3, 8, 8, 8, 16, 3, 2, 1),  # even sizes, stride 2
    (2, 6, 4, 32, 33, 3, 1, 1),  # Winograd
    (2, 5, 5, 32, 32, 3, 1, 1),  # wide, but odd
    (2, 7, 7, 8, 4, 1, 3, 0),
    (2, 15, 16, 3, 4, 7, 2, 3),  # ImageNet stem
    (2, 9, 9, 8, 4, 5, 1, 2),
    (2, 8, 7, 8, 4, 5, 3, 0),
    (2, 4, 4, 8, 4, 4, 1, 0),  # as large as the image
)


def check(shape: Shape, dtype: str = "float32") -> None:
    x, w = draw(shape, dtype)
    ours, reference = (value_and_gradients(function, x, w) for function in (bound(shape, "cpu"), exact(shape)))
    assert_close(ours, reference, LAWS.tolerance[dtype])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cpu_equals_the_reference(shape: Shape) -> None:
    check(shape)


@pytest.mark.parametrize(
    "shape", [(2, 8, 6, 3, 5, 3, 1, 1), (3, 7, 9, 8, 6, 3, 2, 1), (2, 6, 4, 32, 33, 3, 1, 1), (2, 9, 8, 8, 4, 1, 2, 0)],
    ids=["windows", "sliced", "winograd", "pointwise"],
)  # fmt: skip
def test_every_form_in_float64(shape: Shape) -> None:
    with jax.enable_x64(True):
        check(shape, "float64")


def test_cpu_maps_clients_one_after_another() -> None:
    """A grouped convolution on CPU would be correct, and twenty times slower."""
    shape = (2, 6, 6, 16, 16, 3, 1, 1)
    x, w = draw(shape, "float32", 4)
    text = str(jax.make_jaxpr(lambda x, w: value_and_gradients(jax.vmap(bound(shape, "cpu")), x, w))(x, w))
    assert "feature_group_count=1" in text and "feature_group_count=4" not in text and "batch_group_count=4" not in text


@settings(max_examples=8, deadline=None, derandomize=True)
@given(data=st.data())
def test_random_shapes(data: st.DataObject) -> None:
    kernel, stride = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    padding = data.draw(st.integers(0, kernel - 1))
    size = st.integers(kernel, 9)
    shape = (2, data.draw(size), data.draw(size), data.draw(st.sampled_from((1, 3, 8))), 3, kernel, stride, padding)
    check(shape)


def test_choice_on_cpu() -> None:
    same, halving, alone = Geometry(1, 1), Geometry(2, 1), Geometry(1, 0)
    assert form_for((50, 32, 32, 3), (3, 3, 3, 16), same) is WINDOWS
    assert form_for((50, 32, 32, 16), (3, 3, 16, 16), same) is SLICED
    assert form_for((50, 32, 32, 16), (3, 3, 16, 32), halving) is SLICED
    assert form_for((50, 16, 16, 32), (3, 3, 32, 32), same) is WINOGRAD
    assert form_for((50, 7, 7, 512), (3, 3, 512, 512), same) is SLICED
    assert form_for((50, 8, 8, 64), (1, 1, 64, 128), alone) is POINTWISE


def test_resolve() -> None:
    assert resolve_conv("auto", "cpu") in ("native", "cpu")
    assert resolve_conv("auto", "gpu") == resolve_conv("auto", "cuda") == "grouped"
    assert [resolve_conv(name) for name in list(CONVS)[1:]] == list(CONVS)[1:]
    with pytest.raises(UserError, match=r"'fast'.*auto, timed, native, xla, grouped"):
        resolve_conv("fast")


@pytest.mark.parametrize("stride,padding,w_shape", [(0, 1, (3, 3, 2, 4)), (1, 3, (3, 3, 2, 4)), (1, 1, (3, 3, 5, 4))])
def test_refuses(stride: int, padding: int, w_shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="conv"):
        conv(jnp.zeros((1, 4, 4, 2)), jnp.zeros(w_shape), stride, padding, "cpu")
    with pytest.raises(ValueError, match="unknown convolution 'auto'"):
        conv(jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 2, 4)), 1, 1, "auto")
