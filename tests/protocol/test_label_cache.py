"""The cache's laws: ages around D, both expiry policies, ratio, and catch-up under any participation history."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scarlet_jax.protocol import label_cache

N, C = 8, 3


def cache_with(stamps):
    return label_cache.init(len(stamps), C)._replace(stamp=jnp.array(stamps, jnp.int32))


@pytest.mark.parametrize(
    ("age", "hit", "stale"), [(0, True, False), (2, True, False), (3, True, False), (4, False, True)]
)
def test_ages_around_the_duration(age, hit, stale):
    lookup = label_cache.look_up(jnp.array([10 - age, -1]), jnp.array([0, 1]), jnp.int32(10), 3)
    assert lookup.hit.tolist() == [hit, False]
    assert lookup.stale.tolist() == [stale, False]


def test_duration_zero_is_no_cache():
    lookup = label_cache.look_up(jnp.array([9, 3, -1]), jnp.arange(3), jnp.int32(9), 0)
    assert not lookup.hit.any() and not lookup.stale.any()


@pytest.mark.parametrize(("on_expiry", "after"), [("drop", [9, -1, 9, -1, 2]), ("refresh", [9, 9, 9, -1, 2])])
def test_commit(on_expiry, after):
    """D = 3, r = 9: hit, stale, empty and chosen, empty and not chosen, stale and not kept."""
    cache = cache_with([9, 2, -1, -1, 2])
    samples, keep = jnp.arange(5), jnp.array([True, True, True, True, False])
    lookup = label_cache.look_up(cache.stamp, samples, jnp.int32(9), 3)
    chosen = jnp.array([False, False, True, False, False])
    cache, written = label_cache.commit(cache, samples, lookup, keep, chosen, jnp.int32(9), on_expiry)
    assert cache.stamp.tolist() == after
    assert written.tolist() == [False, on_expiry == "refresh", True, False, False]


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.sampled_from([0.1, 0.29, 0.5, 0.7, 0.99, 1.0]))
def test_ratio_stores_the_floor_of_the_share(new, ratio):
    chosen = np.asarray(label_cache.choose_new(jax.random.key(len(new)), jnp.array(new), ratio))
    assert chosen.sum() == int(ratio * sum(new))
    assert not (chosen & ~np.array(new)).any()


def test_list_order_is_requested_then_hits_then_dropped():
    hit = jnp.array([True, False, False, True, False])
    keep = jnp.array([True, True, False, True, True])
    order, place = label_cache.requested_first(hit)
    assert order.tolist() == [1, 2, 4, 0, 3] and place[order].tolist() == list(range(5))
    assert label_cache.dropped_last(order, keep).tolist() == [1, 4, 0, 3, 2]


history = st.lists(
    st.tuples(
        st.lists(st.integers(0, N - 1), min_size=4, max_size=4, unique=True),
        st.sets(st.integers(0, 3), min_size=1),
        st.lists(st.booleans(), min_size=4, max_size=4),
    ),
    min_size=2,
    max_size=25,
)


@settings(max_examples=60)
@given(history, st.integers(1, 4), st.sampled_from(["drop", "refresh"]), st.sampled_from([0.5, 1.0]))
def test_after_catch_up_every_participant_holds_the_servers_labels(rounds, duration, on_expiry, ratio):
    """Clients that really store copies, each applying the last list with its catch-up entries, against the server.

    A selector drops some fresh samples, too. Each fresh label is new and unique, so that an outdated copy shows.
    """
    cache, held = cache_with([-1] * N), jnp.full((4, N), -1, jnp.int32)
    copies: list[dict[int, float]] = [{} for _ in range(4)]
    last = None
    for r, (draw, participants, kept) in enumerate(rounds):
        if last is not None:
            samples, keep, hit, stamp, rows = last
            for k in participants:
                behind = label_cache.behind(held[k : k + 1, samples], stamp, keep)
                for j, sample in enumerate(samples.tolist()):
                    if not keep[j]:
                        continue
                    if hit[j]:
                        if behind[0, j]:
                            copies[k][sample] = float(cache.target[sample, 0])
                        assert copies[k][sample] == float(cache.target[sample, 0]) == float(rows[j, 0])
                    elif int(cache.stamp[sample]) == -1:
                        copies[k].pop(sample, None)
                    else:
                        copies[k][sample] = float(rows[j, 0])
                held = held.at[k, samples].set(jnp.where(keep, cache.stamp[samples], held[k, samples]))
        samples = jnp.array(draw)
        lookup = label_cache.look_up(cache.stamp, samples, jnp.int32(r), duration)
        keep = lookup.hit | jnp.array(kept)
        empty = keep & (lookup.stamp == label_cache.EMPTY)
        chosen = label_cache.choose_new(jax.random.key(r), empty, ratio)
        fresh = jnp.arange(1, 5)[:, None] / 10 + r + jnp.zeros((4, C))
        rows = label_cache.restore(cache.target, samples, lookup.hit, fresh)
        cache, written = label_cache.commit(cache, samples, lookup, keep, chosen, jnp.int32(r), on_expiry)
        cache = cache._replace(target=label_cache.write(cache.target, samples, written, rows))
        last = samples, keep, lookup.hit, lookup.stamp, rows
