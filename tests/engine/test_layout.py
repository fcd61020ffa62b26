"""How clients are laid out on the devices: every participant has one place, and no place is kept beyond the devices."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scarlet_jax.engine import fleet, phases
from scarlet_jax.engine.layout import CLIENTS, make_layout, make_mesh
from scarlet_jax.preview import compiled


@given(
    devices=st.integers(1, 9), clients=st.integers(1, 300), share=st.floats(0.01, 1), chunk=st.integers(1, 400)
)  # fmt: skip
def test_each_participant_has_one_place_and_a_device_at_most_its_share(devices, clients, share, chunk):
    participants = max(1, int(clients * share))
    layout = make_layout(SimpleNamespace(size=devices), clients, participants, chunk)
    for held, number in ((layout.capacity, participants), (layout.stored, clients)):
        assert number <= held < number + devices and held % devices == 0, "the next multiple of the devices"
    places = np.concatenate([layout.places(block) for block in range(layout.blocks)], axis=1)
    assert sorted(places.ravel()) == list(range(layout.capacity))
    assert layout.chunk == min(chunk, layout.own) and layout.block % layout.chunk == 0
    chunks = -(-layout.own // layout.chunk)
    assert layout.block * layout.blocks <= 1.05 * chunks * layout.chunk, "few places without a client"
    assert layout.block >= 2 * layout.chunk or chunks == 1
    assert layout.blocks <= 17 or layout.block == 2 * layout.chunk


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
    before = np.asarray(models["w"])
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
