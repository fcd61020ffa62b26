"""Stacked clients against a plain loop over them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.engine import fleet, windows
from scarlet_jax.engine.layout import make_layout, make_mesh
from scarlet_jax.types import Split

pytestmark = pytest.mark.usefixtures("quick_compilation")


def one_client(model, client_id, active, scale, shift):
    """Each client's model changes in a way of its own."""
    new = {"w": model["w"] * scale + client_id, "n": model["n"] + shift[client_id % shift.size]}
    return new, (jnp.sum(model["w"]), jnp.where(active, client_id, -1))


def by_hand(models, ids, scale, shift):
    new = jax.tree.map(np.copy, models)
    outputs = []
    for k in ids:
        outputs.append((models["w"][k].sum(), k))
        new["w"][k] = models["w"][k] * scale + k
        new["n"][k] = models["n"][k] + shift[k % len(shift)]
    return new, outputs


def some_models(count):
    rng = np.random.default_rng(0)
    return {"w": rng.normal(size=(count, 2, 3)).astype(np.float32), "n": np.arange(count, dtype=np.int32)}


@pytest.mark.parametrize(
    ("clients", "ids", "chunk"),
    [
        (7, range(7), 1),  # all take part, one after another
        (7, range(7), 3),  # the last chunk is padded
        (40, range(40), 1),  # several blocks
        (7, [0, 3, 6], 1),
        (9, [1, 2, 4, 8], 2),
        (50, range(3, 46, 2), 2),
        (1, [0], 1),
    ],
)
def test_models_and_outputs_are_those_of_a_loop(clients, ids, chunk):
    ids = list(ids)
    layout = make_layout(make_mesh(jax.devices()[:1]), clients, len(ids), chunk)
    run, done = fleet.Fleet(one_client, layout, "test"), []
    models, scale, shift = some_models(clients), np.float32(2), np.array([5, 7, 11], np.int32)
    expected, outputs = by_hand(models, ids, scale, shift)
    stored = fleet.pad_clients(jax.tree.map(jnp.asarray, models), layout.stored)
    padded = fleet.participant_ids(layout, jnp.array(ids, jnp.int32))
    new, (sums, seen) = run(stored, padded, scale, jnp.asarray(shift), progress=done.append)
    for name in models:
        np.testing.assert_allclose(np.asarray(new[name])[:clients], expected[name], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(sums)[: len(ids)], [total for total, _ in outputs], rtol=1e-5)
    assert np.asarray(seen).tolist() == [*ids, *[-1] * (layout.capacity - len(ids))]
    assert [int(block) for block in done] == list(range(layout.blocks))


def test_models_that_are_only_read_stay_as_they_are():
    layout = make_layout(make_mesh(jax.devices()[:1]), 6, 4, 2)
    run = fleet.Fleet(one_client, layout, "test", updates=False)
    models = jax.tree.map(jnp.asarray, some_models(6))
    stored, ids = fleet.pad_clients(models, layout.stored), jnp.array([0, 2, 3, 5])
    same, (_, seen) = run(stored, fleet.participant_ids(layout, ids), jnp.float32(2), jnp.arange(3))
    assert same is stored and np.asarray(seen)[:4].tolist() == [0, 2, 3, 5]
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(lambda a: np.asarray(a)[:6], same), some_models(6))


def test_padding_copies_the_first_client():
    models = some_models(3)
    padded = fleet.pad_clients(models, 5)
    for name, leaf in models.items():
        np.testing.assert_array_equal(padded[name], leaf[[0, 1, 2, 0, 0]])


@pytest.mark.parametrize("ids", [[0, 1, 2, 3, 4, 5], [0, 2, 5]])
def test_images_on_the_host_are_those_that_a_client_reads(ids):
    """The same function sees a store's rows whether they are on the devices or are sent block by block."""
    mesh, rng = make_mesh(jax.devices()[:1]), np.random.default_rng(1)
    images = rng.integers(0, 256, (30, 2, 2, 1), np.uint8)
    split = Split(rng.permutation(30).reshape(6, 5).astype(np.int32), np.array([5, 0, 3, 1, 5, 2], np.int32))

    def total(model, client_id, active, store, rows, size):
        own = jnp.where(jnp.arange(5) < size[client_id % 6], 1, 0)
        picked = store[rows[client_id % 6]].astype(jnp.int32)
        return model, jnp.sum(picked * own[:, None, None, None])

    layout = make_layout(mesh, 6, len(ids), 1)
    needs = windows.Needs(split, lambda: np.array(ids))
    on_host = windows.HostStore(images, mesh, windows.PendingReads(), needs)
    arguments = jnp.asarray(split.rows), jnp.asarray(split.size)
    padded = fleet.participant_ids(layout, jnp.array(ids))
    models = jnp.zeros((layout.stored, 1))
    run = fleet.Fleet(total, layout, "read", updates=False)
    expected = [int(images[split.rows[k, : split.size[k]]].sum()) for k in ids]
    for store in (jnp.asarray(images), on_host):
        assert np.asarray(run(models, padded, store, *arguments)[1])[: len(ids)].tolist() == expected
