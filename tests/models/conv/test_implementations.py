"""Every implementation of the table against `lax.conv_general_dilated` and its autodiff.

A new implementation is tested here without a line of its own. One that covers only some shapes, or computes in its own
precision, gets a class with other attributes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.errors import UserError
from scarlet_jax.models import build_model, conv_timing
from scarlet_jax.models.conv import CONVS, Implementation, api, names
from scarlet_jax.models.conv.native import build
from scarlet_jax.models.form_timing import Setting, Work
from scarlet_jax.options.rules import RULES
from tests.support.convolutions import ConvLaws, bound, draw, exact, value_and_gradients

for _name, _entry in CONVS.items():
    # `native` runs on CPU only, and without a C++ compiler not at all; the program then computes with pure JAX.
    if not _entry.only_on or (jax.default_backend() in _entry.only_on and build.find_compiler()):
        _own = {"implementation": _name, "checked": _name != "native"}
        globals()[f"Test_{_name}"] = type(f"Test_{_name}", (ConvLaws,), _own)


def own(x, w, geometry):
    """A toy: the products by einsum over all windows, for 1x1 kernels without padding."""
    return jnp.einsum("bhwi,io->bhwo", x[:, :: geometry.stride, :: geometry.stride], w[0, 0])


def is_point(x, w, geometry):
    return w.shape[:2] == (1, 1) and geometry.padding == 0


def missing():
    return "the toy is not installed"


@pytest.fixture
def toy(monkeypatch):
    """A new implementation is one entry."""
    here = __name__
    entry = Implementation(
        f"{here}:own", "a toy", covers=f"{here}:is_point", otherwise="xla", timed=("cpu",),
        needs=f"{here}:missing", needed_on=("tpu",), only_on=("cpu", "tpu"),
    )  # fmt: skip
    monkeypatch.setitem(CONVS, "toy", entry)


def test_a_new_implementation_is_one_entry(toy):
    assert names()[-1] == "toy" and RULES["model.conv"].accepts("toy") and RULES["model.conv"].words().endswith(", toy")
    for shape in ((2, 5, 6, 3, 4, 1, 2, 0), (2, 5, 6, 3, 4, 3, 1, 1)):  # covered, and left to another one
        x, w = draw(shape, "float32")
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4),
            value_and_gradients(bound(shape, "toy"), x, w),
            value_and_gradients(exact(shape), x, w),
        )
    point = (2, 5, 6, 3, 4, 1, 2, 0)
    assert "dot_general" in str(jax.make_jaxpr(bound(point, "toy"))(*draw(point, "float32")))
    assert api.resolve_conv("toy", "cpu") == "toy" and build_model("cnn", 10, "toy").conv == "toy"
    with pytest.raises(UserError, match="'toy', but the toy is not installed"):
        api.resolve_conv("toy", "tpu")
    with pytest.raises(UserError, match="'toy', but it runs on CPU and TPU only"):
        api.resolve_conv("toy", "cuda")
    geometry = api.Geometry(2, 0)
    assert "toy" in api.timed((2, 5, 6, 3), (1, 1, 3, 4), geometry)
    assert "toy" not in api.timed((2, 5, 6, 3), (3, 3, 3, 4), geometry)

    def measure(name, shape, clients, precision):
        return 1.0 if name == "toy" else 2.0

    chosen = conv_timing.choose([Work("resnet18_64", 1)], Setting((64, 64, 3), 10, 2, None, False), measure)
    assert chosen.count("=toy") == 3 and "64x64x64-1x1x128-2-0=toy" in chosen  # its three projections


def test_what_is_chosen_automatically_comes_from_the_table(toy, monkeypatch):
    api.works.cache_clear()
    monkeypatch.setitem(CONVS, "toy", CONVS["toy"]._replace(auto="accelerator"))
    assert api.resolve_conv("auto", "tpu") == "grouped"
    reordered = {"toy": CONVS["toy"], **{name: entry for name, entry in CONVS.items() if name != "toy"}}
    monkeypatch.setattr(api, "CONVS", reordered)
    assert api.resolve_conv("auto", "tpu") == "grouped"  # the toy is first, and is not installed there
    monkeypatch.setattr(f"{__name__}.missing", lambda: None)
    api.works.cache_clear()
    assert api.resolve_conv("auto", "tpu") == "toy"
    api.works.cache_clear()
