"""How clients are laid out on the devices: every participant has one place, and no place is kept beyond the devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AbstractMesh, NamedSharding

from scarlet_jax.engine import fleet, phases
from scarlet_jax.engine.layout import CLIENTS, REPLICATED, device_bytes, make_layout, make_mesh
from scarlet_jax.preview import compiled


@settings(max_examples=200)
@given(st.integers(1, 3000), st.floats(0.01, 1), st.integers(1, 400), st.integers(1, 9), st.integers(0, 50))
def test_each_participant_has_one_place_and_a_device_at_most_its_share(clients, share, chunk, devices, first):
    participants = max(1, int(clients * share))
    layout = make_layout(AbstractMesh((devices,), ("clients",)), clients, participants, chunk, first)
    assert layout.full == (participants == clients) and layout.first == first
    for held, number in ((layout.capacity, participants), (layout.stored, clients)):
        assert number <= held < number + devices and held % devices == 0, "the next multiple of the devices"
    places = np.concatenate([layout.places(block) for block in range(layout.blocks)], axis=1)
    assert sorted(places.ravel()) == list(range(layout.capacity))
    assert layout.chunk == min(chunk, layout.own) and layout.block % layout.chunk == 0
    chunks = -(-layout.own // layout.chunk)  # that a device has to compute
    assert chunks <= layout.block * layout.blocks // layout.chunk <= 1.05 * chunks, "few places without a client"
    assert layout.block >= min(chunks, 2) * layout.chunk


def test_a_device_computes_neighbours_in_each_block():
    layout = make_layout(AbstractMesh((2,), ("clients",)), 100, 100, 1)
    for block in range(layout.blocks):
        for device, own in enumerate(layout.places(block)):
            assert np.diff(own).tolist() == [1] * (own.size - 1)
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


@pytest.mark.parametrize("updates", [True, False])
@pytest.mark.parametrize(("clients", "participants"), [(7, 7), (9, 5)])
@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_a_fleet_runs_each_participant_once_whatever_its_chunks(clients, participants, chunk, updates):
    """Where blocks do not divide a device's clients, the places beyond them change nothing."""
    layout = make_layout(make_mesh(jax.devices()[:1]), clients, participants, chunk)

    def one(model, client_id, active, data):
        return {"w": model["w"] + jnp.where(active, data, 1000.0)}, (client_id, model["w"] * 2, active)

    ids = np.sort(np.random.default_rng(0).permutation(clients)[:participants]).astype(np.int32)
    models = {"w": jnp.arange(layout.stored * 3, dtype=jnp.float32).reshape(-1, 3)}
    before = np.array(models["w"])
    run = fleet.Fleet(one, layout, "step", updates)
    after, (client_ids, doubled, active) = run(models, fleet.participant_ids(layout, jnp.asarray(ids)), jnp.float32(5))
    assert client_ids[:participants].tolist() == ids.tolist() and active[:participants].all()
    np.testing.assert_array_equal(doubled[:participants], 2 * before[ids])
    before[ids] += 5 if updates else 0
    np.testing.assert_array_equal(after["w"][:clients], before[:clients])


def test_blocks_that_do_not_divide_the_clients_copy_a_block_and_not_the_stack():
    mesh = make_mesh(jax.devices()[:1])
    layout = make_layout(mesh, 50, 50, 1)
    assert layout.own % layout.block and layout.blocks > 10
    stacked = jax.sharding.NamedSharding(mesh, CLIENTS)
    models = jax.ShapeDtypeStruct((50, 100_000), jnp.float32, sharding=stacked)
    ids = jax.ShapeDtypeStruct((50,), jnp.int32, sharding=stacked)
    with phases.recording() as calls:
        fleet.Fleet(lambda model, client_id, active: (model * 2, client_id), layout, "step")(models, ids)
    (size,) = compiled.compile_all([call for call in calls if call.name == "step"])
    assert size.temporary < 4 * layout.block * 400_000 < 50 * 400_000 / 2 and size.results < 1000
