"""A round's decisions against the same protocol written with dictionaries, sample by sample and client by client."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scarlet_jax.protocol import label_cache, ledger
from scarlet_jax.protocol.draws import Draws, GroupSize
from scarlet_jax.protocol.round import Labels, Protocol, Settings

pytestmark = pytest.mark.usefixtures("quick_compilation")
CLIENTS, POOL, DRAWN, CLASSES = 4, 9, 5, 2
CODEC = ledger.soft_label(ledger.Channel(CLASSES, 32, full_participation=False))


class Script:
    """The protocol as a script: no masks, no arrays. Labels are numbers, payloads their negatives."""

    def __init__(self, duration, on_expiry):
        self.duration, self.on_expiry = duration, on_expiry
        self.entries = {}  # sample -> (stamp, label)
        self.held = [{} for _ in range(CLIENTS)]  # sample -> stamp of the client's copy
        self.list = []  # (sample, hit, stamp before, label) of the last round
        self.after = {}  # stamps after the last round's commit

    def round(self, r, ids, draw, sent, kept, label):
        """Returns the list in order, and what is counted."""
        entries, duration = dict(self.entries), self.duration
        hits = [s for s in draw if s in entries and r - entries[s][0] <= duration]
        stale = [s for s in draw if s in entries and s not in hits]
        requested = [s for s in draw if s not in hits]
        counted = {"requested": len(requested), "hit": len(hits), "stale": len(stale), "listed": len(self.list)}
        counted["fresh"] = sum(not hit for _, hit, _, _ in self.list)
        catch_up = {"caught_up": [], "updates": [], "stale_marks": []}
        for k in ids:
            differs = [(s, hit, stamp) for s, hit, stamp, _ in self.list if self.held[k].get(s) != stamp] * self.cached
            catch_up["caught_up"].append(sum(hit for _, hit, _ in differs))
            catch_up["updates"].append(sum(stamp is not None for _, _, stamp in differs))
            catch_up["stale_marks"].append(sum(stamp is None for _, _, stamp in differs))
            for s, *_ in self.list:
                self.held[k].pop(s, None)
                if s in self.after:
                    self.held[k][s] = self.after[s]
        position = {s: j for j, s in enumerate(draw)}
        answered = [s for s in requested if any(own[position[s]] for own in sent) and kept[position[s]]]
        counted["sent"] = [sum(own[position[s]] for s in requested) for own in sent]
        self.list = []
        for s in [*[s for s in requested if s in answered], *hits]:
            stamp = entries[s][0] if s in entries else None
            self.list.append((s, s in hits, stamp, entries[s][1] if s in hits else label[position[s]]))
            if s in hits or not self.cached:
                continue
            if stamp is None or self.on_expiry == "refresh":
                self.entries[s] = (r, label[position[s]])
            else:
                del self.entries[s]
        self.after = {s: stamp for s, (stamp, _) in self.entries.items()}
        return self.list, counted | catch_up

    @property
    def cached(self):
        return self.duration > 0


def protocol(duration, on_expiry="drop", target_is_payload=True):
    draws = Draws(3, (GroupSize(CLIENTS, 2),), POOL, DRAWN)
    return Protocol(draws, Settings(CLASSES, duration, on_expiry), target_is_payload)


@functools.cache
def compiled(duration, on_expiry, target_is_payload):
    """One round, for given participants, draws and labels."""
    made = protocol(duration, on_expiry, target_is_payload)

    def step(state, round_, ids, draw, sent, kept, label):
        cache, held, last = state
        plan, held = made.plan_for(ids, draw, round_, cache.stamp, held, last)
        sent = sent & ~plan.lookup.hit
        rows = jnp.broadcast_to(label[:, None], (DRAWN, CLASSES))
        cache, served = made.serve(cache, plan, Labels(rows, keep=kept), sent, round_, CODEC)
        counts = made.counts(plan, sent, last)
        cache, last = made.publish(cache, served, served.target if target_is_payload else -served.target)
        return (cache, held, last), (served, counts)

    start = label_cache.init(made.entries, CLASSES, None if target_is_payload else (CLASSES,))
    shape = jnp.zeros((DRAWN, CLASSES))
    return jax.jit(step), (start, made.init_held(), made.empty_broadcast(shape))


flags = st.lists(st.booleans(), min_size=DRAWN, max_size=DRAWN)
one_round = st.tuples(
    st.lists(st.integers(0, CLIENTS - 1), min_size=2, max_size=2, unique=True).map(sorted),
    st.lists(st.integers(0, POOL - 1), min_size=DRAWN, max_size=DRAWN, unique=True),
    st.lists(flags, min_size=2, max_size=2),
    flags,
)


@settings(max_examples=40)
@given(st.lists(one_round, min_size=3, max_size=12), st.sampled_from([0, 1, 3]), st.sampled_from(["drop", "refresh"]),
       st.booleans())  # fmt: skip
def test_a_round_is_the_script(history, duration, on_expiry, target_is_payload):
    step, state = compiled(duration, on_expiry, target_is_payload)
    script = Script(duration, on_expiry)
    for r, (ids, draw, sent, kept) in enumerate(history):
        label = [float(DRAWN * r + j + 1) for j in range(DRAWN)]
        expected, counted = script.round(r, ids, draw, sent, kept, label)
        state, (served, counts) = step(
            state, jnp.int32(r), *(jnp.array(x) for x in (ids, draw, sent, kept)), jnp.array(label)
        )
        assert jax.tree.map(lambda x: np.asarray(x).tolist(), counts._asdict()) == counted, r
        cache, held, last = state
        size = len(expected)
        assert np.asarray(last.keep).tolist() == [True] * size + [False] * (DRAWN - size)
        assert sorted(np.asarray(last.samples).tolist()) == sorted(draw)
        ours = zip(*(np.asarray(x)[:size].tolist() for x in (last.samples, last.hit, last.stamp)), strict=True)
        stamps = [stamp if stamp is not None else label_cache.EMPTY for *_, stamp, _ in expected]
        assert list(ours) == [(s, hit, stamp) for (s, hit, _, _), stamp in zip(expected, stamps, strict=True)]
        rows = np.array([[label] * CLASSES for *_, label in expected]).reshape(size, CLASSES)
        np.testing.assert_array_equal(np.asarray(served.target)[:size], rows)
        np.testing.assert_array_equal(np.asarray(last.payload)[:size], rows if target_is_payload else -rows)
        if duration:
            assert {s: int(x) for s, x in enumerate(cache.stamp) if x >= 0} == script.after
            for s, (_, own) in script.entries.items():
                assert float(cache.target[s, 0]) == own
                assert cache.payload is None or float(cache.payload[s, 0]) == -own
            assert [{s: int(x) for s, x in enumerate(own) if x >= 0} for own in held] == script.held


def test_without_a_cache_nothing_is_kept_and_the_list_is_the_draw():
    made = protocol(0)
    assert not made.cached and made.entries == 0 and made.init_held().shape == (CLIENTS, 0)
    last = made.empty_broadcast(jnp.zeros((DRAWN, CLASSES)))
    plan, _ = made.plan(jnp.int32(4), jnp.zeros(0, jnp.int32), made.init_held(), last)
    assert plan.order.tolist() == plan.place.tolist() == list(range(DRAWN))
    assert plan.draw.tolist() == made.draws.public(jnp.int32(4)).tolist()
    assert plan.ids.tolist() == made.draws.participants(jnp.int32(4)).tolist()
    assert not plan.behind.any() and not plan.lookup.hit.any()


def test_the_list_before_the_first_round_is_empty():
    last = protocol(3).empty_broadcast(jnp.zeros((DRAWN, CLASSES)))
    assert not last.keep.any() and not last.hit.any() and (last.stamp == label_cache.EMPTY).all()


@pytest.mark.parametrize("ratio", [0.5, 1.0])
def test_a_part_of_the_new_labels_is_stored(ratio):
    made = protocol(3)._replace(settings=Settings(CLASSES, 3, cache_ratio=ratio))
    cache = label_cache.init(POOL, CLASSES)
    plan, _ = made.plan(jnp.int32(0), cache.stamp, made.init_held(), made.empty_broadcast(jnp.zeros((DRAWN, CLASSES))))
    keep = jnp.array([True, True, False, True, True])
    cache, written = made.commit(cache, plan, keep, jnp.int32(0))
    assert written.sum() == int(ratio * 4) and not (written & ~keep).any()
    assert set(np.flatnonzero(cache.stamp == 0).tolist()) == set(plan.draw[written].tolist())


def test_a_duration_that_is_an_argument_is_a_cache():
    assert protocol(jnp.int32(2)).cached and protocol(jnp.int32(2)).entries == POOL
    assert protocol(1).cached


def test_what_is_broadcast_is_what_the_server_distils_from():
    """With 8 bits a label, clients receive whole steps; the server distils from the same rows."""
    channel = ledger.Channel(CLASSES, 8, full_participation=False)
    rows = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(CLASSES), DRAWN), jnp.float32)
    for target_is_payload in (True, False):
        made = protocol(3, target_is_payload=target_is_payload)
        cache = label_cache.init(POOL, CLASSES, None if target_is_payload else (CLASSES,))
        start = made.empty_broadcast(rows)
        plan, _ = made.plan(jnp.int32(0), cache.stamp, made.init_held(), start)
        sent = jnp.ones((2, DRAWN), bool)
        _, served = made.serve(cache, plan, Labels(rows), sent, jnp.int32(0), ledger.soft_label(channel))
        quantised = np.round(np.asarray(rows) * 255)
        quantised /= quantised.sum(1, keepdims=True)
        expected = quantised if target_is_payload else rows
        np.testing.assert_allclose(served.target, np.asarray(expected)[np.asarray(served.order)], rtol=1e-6)
