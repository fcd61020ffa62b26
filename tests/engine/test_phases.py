"""Phases: recorded without computing, named, and every one of them lowered for CUDA."""

import re

import jax
import jax.numpy as jnp
import pytest

from scarlet_jax import build
from scarlet_jax.engine import phases
from scarlet_jax.engine.layout import REPLICATED, make_mesh
from scarlet_jax.methods import METHODS
from scarlet_jax.preview import compiled
from tests.support.federations import cacheable
from tests.support.harness import tiny
from tests.support.shapes import shapes

CACHED = [(name, duration) for name in METHODS if cacheable(name) for duration in (0, 2)]
CASES = [*CACHED, *((name, None) for name in METHODS if not cacheable(name))]

# What JAX itself lowers to a call for CUDA. Everything else would be looked up at run time: a kernel of ours for CPU is
# not found there.
ALLOWED = {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape", "cu_threefry2x32_ffi"}


def recorded(config, mesh=None):
    mesh = mesh or make_mesh()
    data = phases.abstract(shapes(config.num_clients), jax.sharding.NamedSharding(mesh, REPLICATED))
    return compiled.record(build.make_algorithm(config, data, 10, mesh), data, data)


def case(name, duration, **fields):
    config = tiny(**{"public_size": 40, "model.conv": "grouped", "clients_per_chunk": 2} | fields)
    config.method.name, config.cache.duration = name, duration
    return config


def custom_calls(call):
    text = call.traced.lower(lowering_platforms=("cuda",)).as_text()
    return set(re.findall(r"custom_call @(\w+)", text))


@pytest.mark.parametrize(("name", "duration"), CASES)
def test_every_phase_of_every_method_lowers_for_cuda(name, duration):
    share = 1.0 if name == "centralized" else 0.5
    calls = recorded(case(name, duration, participation=share))
    names = [call.name for call in calls]
    assert names[:1] == ["init"] and names[-1:] == ["evaluate server"]
    assert any(name.startswith("train") for name in names) and len(set(names)) == len(names)
    for call in calls:
        assert custom_calls(call) <= ALLOWED, call.name


@pytest.mark.parametrize("conv", ["grouped", "gemm", "winograd", "xla"])
def test_every_convolution_lowers_for_cuda(conv):
    fields = {"model.client": "cnn", "model.server": "cnn", "model.conv": conv}
    for call in recorded(case("scarlet", 2, **fields)):
        assert custom_calls(call) <= ALLOWED, call.name


def test_a_call_of_our_own_for_cpu_is_seen():
    from scarlet_jax.models.conv.forms import Geometry
    from scarlet_jax.models.conv.native import ops

    phase = phases.Phase("native", lambda x, w: ops.conv(x, w, Geometry(1, 1)))
    with phases.recording() as calls:
        phase(jnp.zeros((2, 8, 8, 16)), jnp.zeros((3, 3, 16, 16)))
    (call,) = calls
    assert custom_calls(call) == {"scarlet_conv_forward"}
