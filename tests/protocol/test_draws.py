"""Participants and public samples of any federation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scarlet_jax.protocol.draws import Draws, GroupSize

pytestmark = pytest.mark.usefixtures("quick_compilation")
ROUNDS = 400


def rounds(draws, count=ROUNDS):
    """Participants [R, M] and public samples [R, P] of the first rounds."""
    one = jax.jit(jax.vmap(lambda r: (draws.participants(r), draws.public(r))))
    return [np.asarray(drawn) for drawn in one(jnp.arange(count))]


group = st.integers(1, 6).flatmap(lambda k: st.tuples(st.just(k), st.integers(1, k)))


@settings(max_examples=8)
@given(st.lists(group, min_size=1, max_size=3), st.integers(0, 2**31 - 1), st.integers(1, 9), st.integers(0, 9))
def test_ids_are_ascending_and_stratified_and_samples_distinct(groups, seed, drawn, left):
    draws = Draws(seed, tuple(GroupSize(*sizes) for sizes in groups), drawn + left, drawn)
    participants, public = rounds(draws, 5)
    edges = np.cumsum([0, *(clients for clients, _ in groups)])
    assert (draws.num_clients, draws.num_participants) == (edges[-1], sum(m for _, m in groups))
    assert draws.full_participation == all(k == m for k, m in groups)
    for ids, samples in zip(participants.tolist(), public.tolist(), strict=True):
        assert ids == sorted(set(ids)) and len(ids) == draws.num_participants
        for first, end, (_, own) in zip(edges, edges[1:], groups, strict=False):
            assert sum(first <= k < end for k in ids) == own
        assert len(set(samples)) == drawn and set(samples) <= set(range(drawn + left))


def test_every_client_and_every_sample_is_drawn_equally_often():
    """Within five standard deviations of a binomial count, over 400 rounds."""
    participants, public = rounds(Draws(5, (GroupSize(12, 3), GroupSize(4, 2)), 30, 6))
    for drawn, number, share in ((participants[:, :3], 12, 1 / 4), (participants[:, 3:] - 12, 4, 1 / 2),
                                 (public, 30, 1 / 5)):  # fmt: skip
        counts = np.bincount(drawn.reshape(-1), minlength=number)
        assert counts.sum() == drawn.size and len(counts) == number
        assert np.abs(counts - ROUNDS * share).max() < 5 * np.sqrt(ROUNDS * share * (1 - share))


def test_samples_are_in_no_order():
    """The list of a round is not sorted: each place is as likely the smallest one of its round."""
    _, public = rounds(Draws(5, (GroupSize(2, 1),), 30, 6))
    smallest = np.bincount(public.argmin(1), minlength=6)
    assert np.abs(smallest - ROUNDS / 6).max() < 5 * np.sqrt(ROUNDS / 6 * 5 / 6)


def test_draws_depend_on_seed_and_round_alone():
    base = Draws(5, (GroupSize(12, 3), GroupSize(4, 2)), 30, 6)
    participants, public = rounds(base, 20)
    other = [rounds(draws, 20) for draws in (base._replace(public_size=40), base._replace(groups=(GroupSize(12, 3),)))]
    np.testing.assert_array_equal(other[0][0], participants)  # another pool, the same participants
    np.testing.assert_array_equal(other[1][0], participants[:, :3])  # another group does not matter to the first
    np.testing.assert_array_equal(other[1][1], public)
    for one in (rounds(base._replace(seed=6), 20), rounds(base, 21)):
        assert not np.array_equal(one[0][-20:], participants) and not np.array_equal(one[1][-20:], public)


def test_participants_that_are_given_leave_the_public_samples_as_they_are():
    drawn = Draws(5, (GroupSize(12, 3), GroupSize(4, 2)), 30, 6)
    table = np.random.default_rng(0).integers(0, 16, (20, 5)).astype(np.int32)
    participants, public = rounds(drawn._replace(given=table), 20)
    np.testing.assert_array_equal(participants, table)
    np.testing.assert_array_equal(public, rounds(drawn, 20)[1])


def test_all_clients_of_a_whole_group_take_part():
    participants, _ = rounds(Draws(5, (GroupSize(3, 3), GroupSize(4, 1)), 5, 2), 30)
    assert (participants[:, :3] == np.arange(3)).all() and set(participants[:, 3]) == {3, 4, 5, 6}
