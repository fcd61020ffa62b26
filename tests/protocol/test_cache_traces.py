"""The protocol, replayed on the reference's cache traces: requests, signals, teachers, caches, packages, bytes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.protocol import label_cache, ledger
from scarlet_jax.protocol.draws import Draws, GroupSize
from scarlet_jax.protocol.round import Labels, Protocol, Settings
from scarlet_jax.protocol.sharpen import enhanced_era, masked_mean
from tests.support.golden_files import golden

# Means of a few float32 rows, raised to a power and renormalised.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-30}


class Replay:
    """Our server on a trace's draws and uploads, and clients that really hold copies of labels."""

    def __init__(self, trace, ratio=1.0):
        self.trace = trace
        self.rounds, self.size = trace["drawn"].shape
        self.pool, self.classes = int(trace["num_public"]), trace["uploaded"].shape[-1]
        self.clients = int(trace.get("num_clients", trace["uploaded"].shape[1]))
        settings = Settings(self.classes, int(trace["duration"]), on_expiry="drop", cache_ratio=ratio)
        groups = (GroupSize(self.clients, trace["uploaded"].shape[1]),)
        self.codec = ledger.soft_label(ledger.Channel(self.classes, 32, full_participation=False))
        self.protocol = Protocol(Draws(0, groups, self.pool, self.size), settings)
        self.cache = label_cache.init(self.pool, self.classes)
        self.held = self.protocol.init_held()
        self.last = self.protocol.empty_broadcast(jnp.zeros((self.size, self.classes)))
        self.copies = np.full((self.clients, self.pool, self.classes), np.nan, np.float32)
        self.beta = float(trace["beta"])

    @functools.cached_property
    def step(self):
        def step(ids, draw, r, cache, held, last, uploaded):
            everyone = label_cache.behind(held[:, last.samples], last.stamp, last.keep)
            plan, held = self.protocol.plan_for(ids, draw, r, cache.stamp, held, last)
            sent = jnp.broadcast_to(~plan.lookup.hit, uploaded.shape[:2])
            labels = Labels(enhanced_era(masked_mean(uploaded, sent), self.beta))
            new_cache, served = self.protocol.serve(cache, plan, labels, sent, r, self.codec)
            new_cache, new = self.protocol.publish(new_cache, served, served.target)
            return plan, everyone, held, new_cache, new, self.protocol.counts(plan, sent, last)

        return jax.jit(step)

    def play(self, r, ids):
        """Round r; returns what happened, and leaves the state after it."""
        before, list_ = self.cache, self.last
        plan, everyone, self.held, self.cache, self.last, counts = self.step(
            jnp.asarray(ids, jnp.int32), jnp.asarray(self.trace["drawn"][r], jnp.int32), jnp.int32(r), self.cache,
            self.held, self.last, self.trace["uploaded"][r],
        )  # fmt: skip
        teachers = [self._apply(k, np.asarray(plan.behind[i]), list_, before) for i, k in enumerate(ids)]
        return plan, everyone, counts, np.array(teachers)

    def _apply(self, client, behind, list_, cache):
        """A participant applies the last list: catch-up entries first, then its own copies for hits; what it stores is
        decided by the stamps after the commit. Returns the rows it distils from."""
        copies, teacher = self.copies[client], []
        for j, sample in enumerate(np.asarray(list_.samples)):
            if not list_.keep[j]:
                continue
            if list_.hit[j]:
                if behind[j]:
                    copies[sample] = cache.target[sample]
                teacher.append(copies[sample].copy())
                continue
            teacher.append(np.asarray(list_.payload[j]))
            copies[sample] = list_.payload[j] if int(cache.stamp[sample]) != label_cache.EMPTY else np.nan
        return teacher


def signals(before, after, samples, hit):
    """Names of what happened to each listed sample, from the stamps before and after the commit."""
    was, now = before[samples], after[samples]
    return np.select([hit, was >= 0, now >= 0], ["hit", "expired", "new"], "unstored")


@pytest.mark.parametrize("name", ["cache_trace_partial", "cache_trace_ratio"])
def test_partial_participation(name, monkeypatch):
    trace = golden(name)
    replay = Replay(trace, float(trace["cache_ratio"]))
    names = np.array(["unstored", "hit", "new", "expired"])
    selected = {r: trace["selected_indices"][r][: trace["num_selected"][r]] for r in range(replay.rounds)}
    chosen_by_reference = np.zeros((replay.rounds, replay.size), bool)
    for r in range(replay.rounds):
        chosen_by_reference[r] = np.isin(trace["drawn"][r], selected[r])
    current = {}

    def replayed(key, new, ratio):
        mask = jnp.asarray(chosen_by_reference)[current["round"]]
        return jnp.asarray(new) & mask

    monkeypatch.setattr(label_cache, "choose_new", replayed)
    fmt = ledger.make_format(replay.codec, replay.codec, cached=True)
    original = replay.step.__wrapped__

    def with_round(ids, draw, r, *rest):
        current["round"] = r  # traced: the replayed choice is looked up inside the compiled step
        return original(ids, draw, r, *rest)

    replay.__dict__["step"] = jax.jit(with_round)
    skipped = 0
    for r in range(replay.rounds):
        ids, previous = trace["sampled"][r], replay.last
        stamp_before = np.asarray(replay.cache.stamp)
        label_before = np.asarray(replay.cache.target)
        plan, everyone, counts, teachers = replay.play(r, ids)
        np.testing.assert_array_equal(~np.asarray(plan.lookup.hit), trace["requested"][r])
        np.testing.assert_array_equal(replay.last.samples, trace["server_indices"][r])
        np.testing.assert_allclose(replay.last.payload, trace["server_teacher"][r], **TOLERANCE)
        stamp = np.asarray(replay.cache.stamp)
        ours = signals(stamp_before, stamp, trace["server_indices"][r], np.asarray(replay.last.hit))
        np.testing.assert_array_equal(ours, names[trace["signals"][r]])
        assert int(np.sum(ours != "hit")) == trace["num_downlink_labels"][r]
        check_cache(replay.cache, trace, r)
        others = 0
        if r > 0:
            others = check_packages(everyone, previous, label_before, trace, r - 1, ids)
            np.testing.assert_array_equal(trace["next_sampled"][r - 1], ids)
            np.testing.assert_allclose(replay.copies, trace["local_cache"][r - 1], **TOLERANCE)
            told = trace["client_distilled"][r - 1]
            skipped += int(np.sum(~told))
            np.testing.assert_allclose(teachers[told], trace["client_teacher"][r - 1][told], **TOLERANCE)
            # We distil in rounds that broadcast no label, too; then from the server's own labels.
            server_side = np.broadcast_to(trace["server_teacher"][r - 1], teachers.shape)
            np.testing.assert_allclose(teachers, server_side, **TOLERANCE)
        billed = ledger.reference_bytes(counts, fmt, replay.classes)
        assert billed.uplink == trace["uplink_bytes"][r]
        assert billed.downlink == trace["downlink_bytes"][r] - others
    assert (skipped > 0) == (name == "cache_trace_partial"), "one trace has a round whose broadcast carries no label"


def check_cache(cache, trace, r):
    """Stamps and labels of the full slots; empty slots are empty in both."""
    full = ~np.isnan(trace["cache_labels"][r]).any(-1)
    stamp = np.asarray(cache.stamp)
    np.testing.assert_array_equal(stamp != label_cache.EMPTY, full)
    np.testing.assert_array_equal(stamp[full], trace["cache_stamps"][r][full])
    np.testing.assert_allclose(np.asarray(cache.target)[full], trace["cache_labels"][r][full], **TOLERANCE)


def check_packages(everyone, list_, label, trace, r, ids):
    """The reference's packages for all clients; returns the bytes of those that nobody received."""
    unreceived = 0
    samples = np.asarray(list_.samples)
    full = np.asarray(list_.stamp) != label_cache.EMPTY
    for k, behind in enumerate(np.asarray(everyone)):
        updates = np.sort(samples[behind & full])
        stale = np.sort(samples[behind & ~full])
        n, m = trace["catchup_num_updates"][r][k], trace["catchup_num_stale"][r][k]
        np.testing.assert_array_equal(updates, trace["catchup_update_indices"][r][k][:n])
        np.testing.assert_array_equal(stale, trace["catchup_stale_indices"][r][k][:m])
        if k not in ids:
            unreceived += int(n) * (8 + 4 * label.shape[1]) + int(m) * 8
    return unreceived


@pytest.mark.parametrize("duration", [1, 3, 5])
def test_full_participation_on_the_main_branch(duration):
    """The main branch asks with `age >= D` and expires with `age > D`; we follow its second predicate everywhere.

    So everything is compared by public index except what it requests, and distils its server from, at age exactly D.
    """
    trace = golden(f"cache_trace_full_D{duration}")
    replay = Replay(trace)
    ids = np.arange(replay.clients)
    names = np.array(["hit", "new", "expired"])
    at_duration = 0
    for r in range(replay.rounds):
        stamp_before = np.asarray(replay.cache.stamp)
        plan, _, counts, _ = replay.play(r, ids)
        listed, order = trace["server_indices"][r], np.argsort(np.asarray(replay.last.samples))
        reference = np.argsort(listed)
        hit = np.asarray(replay.last.hit)
        ours = signals(stamp_before, np.asarray(replay.cache.stamp), np.asarray(replay.last.samples), hit)
        np.testing.assert_array_equal(ours[order], names[trace["signals"][r]][reference])
        differs = trace["teacher_differs"][r][reference]
        payload = np.asarray(replay.last.payload)[order]
        np.testing.assert_allclose(payload, trace["client_teacher"][r][reference], **TOLERANCE)
        server = trace["server_teacher"][r][reference]
        np.testing.assert_allclose(payload[~differs], server[~differs], **TOLERANCE)
        drawn = trace["drawn"][r]
        exact = (stamp_before[drawn] >= 0) & (r - stamp_before[drawn] == duration)
        np.testing.assert_array_equal(~np.asarray(plan.lookup.hit)[~exact], trace["requested"][r][~exact])
        assert trace["requested"][r][exact].all() and np.asarray(plan.lookup.hit)[exact].all()
        at_duration += int(exact.sum())
        check_cache(replay.cache, trace, r)
        assert not np.asarray(counts.caught_up).any(), "with full participation nobody ever needs catching up"
        if r > 0:
            np.testing.assert_allclose(replay.copies[0], trace["local_cache_client0"][r - 1], **TOLERANCE)
    assert at_duration, "the trace exercises age = D"
