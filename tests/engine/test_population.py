"""What all algorithms share: starting weights, participants by group, padding, the order of clients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.engine import fleet
from tests.support.populations import client, linear_learner, noise, population, started

pytestmark = pytest.mark.usefixtures("quick_compilation")
DATA = noise([3] * 8, [2] * 8)


def test_groups_have_consecutive_ids():
    made = population(((5, 3), (3, 2)))
    assert made.client_ids == {"kind0": range(5), "kind1": range(5, 8)}
    assert made.blocks == sum(layout.blocks for layout in made.layouts)
    ids = made.local_ids(jnp.array([0, 2, 4, 5, 7]))
    for own, layout, expected in zip(ids, made.layouts, ([0, 2, 4], [0, 2]), strict=True):
        own = np.asarray(own)
        assert own.size == layout.capacity and own[: len(expected)].tolist() == expected
        assert (own[len(expected) :] >= layout.stored).all(), "padding is no client"


def test_a_padded_id_is_that_of_the_groups_last_client():
    group = population().groups[1]
    local = fleet.participant_ids(group.layout, jnp.array([0, 2]))
    assert [int(group.layout.client_id(k)) for k in local] == [5, 7, *[7] * (group.layout.capacity - 2)]


@pytest.mark.parametrize("same_init", [True, False])
def test_models_start_alike_or_each_in_its_own_way(same_init):
    made = population(same_init=same_init)
    state = started(made, DATA)
    kernels = [client(state.clients[g].params, k)["linear"]["kernel"] for g, k in ((0, 0), (0, 4), (1, 0), (1, 2))]
    server = np.asarray(state.server.params["linear"]["kernel"])
    equal = [np.array_equal(kernel, server) for kernel in kernels]
    assert equal == [same_init] * 4
    if not same_init:
        assert len({kernel.tobytes() for kernel in kernels}) == 4
        # A client starts with weights of its own number, whatever its group is.
        alone = started(population(((8, 8),), same_init=False), DATA).clients[0].params
        np.testing.assert_allclose(kernels[2], client(alone, 5)["linear"]["kernel"], rtol=1e-6)


def test_padding_is_undone():
    made = population(((5, 3), (3, 2)), chunk=2)
    state = started(made, DATA)
    stripped = made.strip(state)
    assert [jax.tree.leaves(c)[0].shape[0] for c in stripped.clients] == [5, 3]
    again = made.pad(stripped)
    assert [jax.tree.leaves(c)[0].shape[0] for c in again.clients] == [layout.stored for layout in made.layouts]
    jax.tree.map(np.testing.assert_array_equal, made.strip(again), stripped)


def test_outputs_are_joined_in_the_order_of_clients():
    made = population(((5, 3), (3, 2)), chunk=2)
    outputs = [np.arange(10 * g, 10 * g + layout.capacity) for g, layout in enumerate(made.layouts)]
    assert np.asarray(jax.jit(made.in_client_order)(outputs)).tolist() == [0, 1, 2, 10, 11]


def test_only_clients_are_divided_over_the_devices():
    made = population()
    state = started(made, DATA)
    shardings = made.shardings(state)
    assert set(jax.tree.leaves(shardings.clients)) == {made.stacked}
    assert set(jax.tree.leaves(shardings.server)) == {made.replicated}


def test_clients_without_models_of_their_own_are_not_stored():
    made = population(((6, 3),), own_models=False, learner=linear_learner())
    state = started(made, DATA)
    assert state.clients == () and made.strip(state).clients == ()
