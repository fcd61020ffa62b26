"""The native convolution against `lax.conv` and its autodiff; its guards; and how it is built.

Without a C++ compiler these tests are skipped: the program then computes with pure JAX.
"""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scarlet_jax.errors import UserError
from scarlet_jax.models.conv.api import conv, resolve_conv
from scarlet_jax.models.conv.forms import Geometry
from scarlet_jax.models.conv.native import build, ops
from tests.support.convolutions import assert_close, bound, draw, value_and_gradients

needs_compiler = pytest.mark.skipif(build.find_compiler() is None, reason="needs a C++ compiler")
# Relative to the largest entry: sums of up to some thousand float32 products in another order.
TOLERANCE = 1e-5
ROOT = Path(__file__).parents[3]

# (batch, height, width, in, out, kernel, stride, padding); output channels divide by 16.
SHAPES = (
    (3, 8, 8, 3, 16, 3, 1, 1),  # first layer: few input channels
    (5, 8, 8, 16, 16, 3, 1, 1),
    (7, 9, 7, 16, 32, 3, 2, 1),  # odd sizes
    (4, 8, 8, 16, 32, 3, 2, 1),
    (2, 4, 6, 64, 64, 3, 1, 1),  # Winograd
    (9, 7, 9, 32, 48, 3, 1, 1),  # Winograd: odd sizes, tiles of several images together, more than fit at once
    (1, 5, 6, 32, 48, 5, 1, 2),
    (3, 6, 6, 16, 32, 1, 2, 0),  # projection shortcut
    (2, 15, 16, 3, 64, 7, 2, 3),  # ImageNet stem
    (2, 7, 8, 5, 16, 2, 2, 1),  # even kernel
    (2, 7, 8, 32, 16, 3, 3, 2),
)


@pytest.fixture(scope="module", autouse=True)
def _built():
    if build.find_compiler() is not None:
        assert build.problem() is None


def jaxpr(shape, function=None):
    x, w = draw(shape, "float32")
    return str(jax.make_jaxpr(lambda x, w: value_and_gradients(function or bound(shape, "native"), x, w))(x, w))


@needs_compiler
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_equals_the_reference(shape):
    x, w = draw(shape, "float32")
    reference = value_and_gradients(bound(shape, "xla"), x, w)
    assert_close(value_and_gradients(bound(shape, "native"), x, w), reference, TOLERANCE)
    assert "scarlet_conv_forward" in jaxpr(shape) and "scarlet_conv_weight_gradient" in jaxpr(shape)


@needs_compiler
@settings(max_examples=10)
@given(data=st.data())
def test_random_shapes(data):
    kernel, stride = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    padding, size = data.draw(st.integers(0, kernel - 1)), st.integers(kernel, 9)
    channels = st.sampled_from((1, 3, 16, 20, 32))
    shape = (data.draw(st.integers(1, 5)), data.draw(size), data.draw(size), data.draw(channels), data.draw(channels),
             kernel, stride, padding)  # fmt: skip
    x, w = draw(shape, "float32")
    reference = value_and_gradients(bound(shape, "xla"), x, w)
    assert_close(value_and_gradients(bound(shape, "native"), x, w), reference, TOLERANCE)
    assert ("scarlet_conv" in jaxpr(shape)) == (shape[4] % 16 == 0)


@needs_compiler
@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_other_types_are_left_to_jax(dtype):
    def covers(outputs, dtype):
        x, w = (jax.ShapeDtypeStruct(shape, dtype) for shape in ((2, 8, 8, 16), (3, 3, 16, outputs)))
        return ops.covers(x, w, Geometry(1, 1))

    assert not covers(16, dtype) and covers(16, "float32") and not covers(24, "float32")


@needs_compiler
@pytest.mark.parametrize("stacked", ["both", "images", "weights"])
def test_stacked_clients_are_one_call_with_the_bits_of_single_ones(stacked):
    shape = SHAPES[2]
    x, w = draw(shape, "float32", 3)
    axes = {"both": (0, 0), "images": (0, None), "weights": (None, 0)}[stacked]
    x, w = (a if axis == 0 else a[0] for a, axis in zip((x, w), axes, strict=True))
    one = bound(shape, "native")
    together = jax.vmap(lambda x, w: value_and_gradients(one, x, w), axes)(x, w)
    for k in range(3):
        alone = value_and_gradients(one, x if axes[0] is None else x[k], w if axes[1] is None else w[k])
        jax.tree.map(lambda a, b, k=k: np.testing.assert_array_equal(np.asarray(a)[k], b), together, alone)
    text = str(jax.make_jaxpr(jax.vmap(one, axes))(x, w))
    assert text.count("scarlet_conv_forward") == 1 and "scan" not in text


@needs_compiler
def test_nested_vmap_and_loops():
    shape = SHAPES[1]
    x, w = draw(shape, "float32", 2, 3)
    one = bound(shape, "native")
    nested = jax.vmap(jax.vmap(one))(x, w)
    mapped = jax.lax.map(lambda a: jax.lax.map(lambda b: one(*b), a), (x, w))
    np.testing.assert_array_equal(nested, mapped)


@needs_compiler
def test_what_is_not_finite_is_passed_on():
    shape = SHAPES[1]
    x, w = draw(shape, "float32")
    for value in (np.nan, np.inf):
        x[0, 3, 3, 0] = value
        y = np.asarray(conv(jnp.asarray(x), jnp.asarray(w), 1, 1, "native"))
        assert not np.isfinite(y[0, 2:5, 2:5]).any() and np.isfinite(y[1:]).all()


@needs_compiler
@pytest.mark.parametrize(
    ("x", "w", "y", "why"),
    [
        ((1, 2, 4, 4, 16), (1, 3, 3, 16, 16), (1, 2, 4, 4, 32), "another size"),
        ((1, 2, 4, 4, 16), (1, 3, 3, 16, 16), (1, 2, 5, 4, 16), "another size"),
        ((1, 2, 4, 4, 16), (2, 3, 3, 16, 16), (1, 2, 4, 4, 16), "numbers of clients"),
        ((1, 2, 4, 4, 16), (1, 3, 3, 8, 16), (1, 2, 4, 4, 16), "input channels"),
        ((1, 2, 4, 4, 16), (1, 3, 3, 16, 17), (1, 2, 4, 4, 17), "multiple of 16"),
        ((2, 4, 4, 16), (3, 3, 16, 16), (2, 4, 4, 16), "5 dimensions"),
        ((1, 2, 4, 4, 16), (1, 1, 1, 16, 16), (1, 2, 6, 6, 16), "padding"),
    ],
)
def test_a_wrong_call_is_an_error_and_never_a_crash(x, w, y, why):
    call = jax.ffi.ffi_call("scarlet_conv_forward", jax.ShapeDtypeStruct(y, jnp.float32))
    with pytest.raises(Exception, match=why):
        jax.block_until_ready(call(jnp.zeros(x), jnp.zeros(w), stride=np.int64(1), padding=np.int64(1)))


PROGRAM = """
import hashlib, logging, jax, numpy as np
logging.basicConfig(level=logging.INFO)
from scarlet_jax.models.conv.native import build
from tests.support.convolutions import bound, draw, value_and_gradients
SHAPES = {shapes}
assert build.problem() is None
for shape in SHAPES:
    out = jax.device_get(value_and_gradients(bound(shape, "native"), *draw(shape, "float32")))
    print(hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in jax.tree.leaves(out))).hexdigest())
"""


def python(program, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ | environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@needs_compiler
def test_processes_may_build_at_once_and_threads_change_no_bit(tmp_path):
    """Two processes with different numbers of threads build into one empty folder."""
    program = PROGRAM.replace("{shapes}", repr(SHAPES))
    running = [python(program, NPROC=threads, XDG_CACHE_HOME=str(tmp_path)) for threads in ("1", "3")]
    outputs = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] and len(outputs[0][0].splitlines()) == len(SHAPES)
    assert any("building the native convolution" in error for _, error in outputs)
    files = list((tmp_path / "scarlet_jax" / "native").iterdir())
    assert len(files) == 1 and files[0].suffix == ".so"


RESOLVE = """
from scarlet_jax.models.conv.api import resolve_conv
print(resolve_conv("auto"))
print(resolve_conv("native"))
"""


@pytest.mark.parametrize("compiler", ["none", "failing"])
def test_without_a_working_compiler_pure_jax_computes(compiler, tmp_path):
    path = tmp_path / "compiler"
    if compiler == "failing":
        path.write_text("#!/bin/sh\necho 'x.cc:1: error: it does not work' >&2\n[ $1 = --version ]\n")
        path.chmod(0o755)
    process = python(RESOLVE, CXX=str(path), XDG_CACHE_HOME=str(tmp_path / "cache"))
    output, error = process.communicate(timeout=120)
    assert output == "cpu\n", "auto falls back"
    assert "no native convolution, which would be faster" in error
    last = error.strip().splitlines()[-1]
    assert "model.conv is 'native', but" in last
    assert ("there is no C++ compiler" if compiler == "none" else "error: it does not work") in last


def test_native_is_for_cpu():
    with pytest.raises(UserError, match="runs on CPU only"):
        resolve_conv("native", "cuda")
    assert resolve_conv("auto", "cuda") == "grouped"
