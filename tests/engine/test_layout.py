"""Blocks and chunks of any federation on any number of devices."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AbstractMesh, NamedSharding

from scarlet_jax.engine.layout import CLIENTS, REPLICATED, device_bytes, make_layout, make_mesh

clients = st.integers(1, 3000)


@settings(max_examples=200)
@given(clients, st.floats(0.01, 1), st.integers(1, 40), st.integers(1, 9), st.integers(0, 50))
def test_every_participant_has_one_place_and_padding_is_small(num_clients, share, chunk, devices, first):
    participants = max(1, int(num_clients * share))
    layout = make_layout(AbstractMesh((devices,), ("clients",)), num_clients, participants, chunk, first)
    places = np.concatenate([layout.places(block).reshape(-1) for block in range(layout.blocks)])
    assert sorted(places.tolist()) == list(range(layout.capacity)) and layout.capacity >= participants
    assert layout.block % chunk == 0 and layout.first == first
    chunks = -(-participants // (devices * chunk))  # that a device has to compute
    assert chunks <= layout.block * layout.blocks // chunk <= 1.05 * chunks
    assert layout.block >= min(chunks, 2) * chunk
    assert layout.full == (participants == num_clients)
    assert layout.stored >= num_clients and layout.stored % devices == 0
    if not layout.full:
        assert layout.stored < num_clients + devices  # only participants are padded to whole blocks


def test_a_device_computes_neighbours_in_each_block():
    layout = make_layout(AbstractMesh((2,), ("clients",)), 100, 100, 1)
    for block in range(layout.blocks):
        for device, own in enumerate(layout.places(block)):
            assert np.diff(own).tolist() == [1] * (layout.block - 1)
            # Device d holds the d-th half of the stacked models, so no model moves to another device.
            assert {int(place) // (layout.capacity // 2) for place in own} == {device}


def test_a_large_round_has_about_sixteen_blocks():
    counts = [make_layout(AbstractMesh((1,), ("clients",)), k, k, 1).blocks for k in range(200, 3000, 7)]
    assert min(counts) >= 12 and max(counts) <= 16


def test_bytes_of_a_device():
    mesh = make_mesh(jax.devices()[:1])
    whole, divided = jnp.zeros((8, 5)), jnp.zeros(3, jnp.int8)
    assert device_bytes({"a": whole, "b": divided}) == 8 * 5 * 4 + 3
    described = [
        jax.ShapeDtypeStruct((8, 5), jnp.float32, sharding=NamedSharding(mesh, spec)) for spec in (CLIENTS, REPLICATED)
    ]
    assert [device_bytes(shape) for shape in described] == [160, 160]
    four = AbstractMesh((4,), ("clients",))
    shares = [jax.ShapeDtypeStruct((8, 5), jnp.float32, sharding=NamedSharding(four, s)) for s in (CLIENTS, REPLICATED)]
    assert [device_bytes(shape) for shape in shares] == [40, 160]
