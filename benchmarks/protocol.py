"""(c) The protocol alone: plan, aggregate, sharpen, commit, catch-up and both ledgers, without models.

Against what one writes first: dictionaries and one NumPy row per client and sample. Both sides run the same rounds on
the same uploads; bytes and labels are compared before anything is timed.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.common import alternate, seconds, write
from scarlet_jax.protocol import label_cache, ledger
from scarlet_jax.protocol.draws import Draws, GroupSize
from scarlet_jax.protocol.round import Labels, Protocol, Settings
from scarlet_jax.protocol.sharpen import enhanced_era, masked_mean

PUBLIC, PER_ROUND, DURATION, BETA = 2_000, 1_000, 2, 2.0
ROUNDS = 10  # measured together, after as many that fill the cache: hits, expiry and catch-up all occur
PARTICIPATION = 0.5


class Ours:
    """Two jitted functions a round, and Python integers for the bytes."""

    def __init__(self, clients: int, classes: int):
        participants = int(clients * PARTICIPATION)
        draws = Draws(0, (GroupSize(clients, participants),), PUBLIC, PER_ROUND)
        self.protocol = Protocol(draws, Settings(classes, DURATION))
        self.codec = ledger.soft_label(ledger.Channel(classes, 32, False))
        self.format = ledger.make_format(self.codec, self.codec, True)
        self.classes = classes
        empty = self.protocol.empty_broadcast(jnp.zeros((PER_ROUND, classes)))
        self.start = label_cache.init(PUBLIC, classes), self.protocol.init_held(), empty

    @functools.partial(jax.jit, static_argnums=0)
    def _step(self, state, round_, probs):
        cache, held, last = state
        plan, held = self.protocol.plan(round_, cache.stamp, held, last)
        sent = jnp.broadcast_to(~plan.lookup.hit, probs.shape[:2])
        labels = Labels(enhanced_era(masked_mean(probs, sent), BETA))
        counts = self.protocol.counts(plan, sent, last)
        cache, served = self.protocol.serve(cache, plan, labels, sent, round_, self.codec)
        cache, last = self.protocol.publish(cache, served, served.target)
        return (cache, held, last), (plan.ids, plan.draw, counts)

    def play(self, state, first: int, probs):
        """ROUNDS rounds; returns the state, what was drawn and the bytes."""
        drawn, counted = [], []
        for r in range(first, first + ROUNDS):
            state, (ids, draw, counts) = self._step(state, jnp.int32(r), probs)
            drawn.append((ids, draw))
            counted.append(counts)
        billed = [
            (ledger.reference_bytes(counts, self.format, self.classes), ledger.wire_bytes(counts, self.format))
            for counts in jax.device_get(counted)
        ]
        return jax.block_until_ready(state), drawn, billed


class Loop:
    """The same in dictionaries: sample -> (round, row) at the server, sample -> round of the copy at every client."""

    def __init__(self, clients: int, classes: int):
        self.classes = classes
        self.cache: dict = {}
        self.held: list[dict] = [{} for _ in range(clients)]
        self.last: list = []  # (sample, row, hit, stamp before the commit)

    def round(self, r: int, ids, draw, probs):
        """One round; `ids` and `draw` are given, probs [M, P, C]."""
        requested = [(j, i) for j, i in enumerate(draw) if i not in self.cache or r - self.cache[i][0] > DURATION]
        asked = {i for _, i in requested}
        row_bytes, reference, wire_down = 4 * self.classes, [0, 0], []
        for k in ids:
            entries, copies = 0, self.held[k]
            for sample, _, hit, stamp in self.last:
                own = copies.get(sample, -1)
                if own != stamp:
                    reference[1] += (row_bytes + 8) if stamp >= 0 else 8
                    entries += hit
            for sample, _, _, _ in self.last:
                copies.pop(sample, None)
                if sample in self.cache:
                    copies[sample] = self.cache[sample][0]
            fresh = sum(not hit for _, _, hit, _ in self.last)
            reference[0] += len(requested) * (row_bytes + 8)
            reference[1] += fresh * row_bytes + 16 * len(self.last) + 8 * len(requested)
            bits = 32 * (len(requested) + len(self.last)) + fresh * 8 * row_bytes + 2 * len(self.last)
            wire_down.append(-(-(bits + entries * (32 + 8 * row_bytes)) // 8))
        wire = (len(ids) * len(requested) * row_bytes, sum(wire_down))
        teachers = {}
        for j, sample in requested:
            total = np.zeros(self.classes, np.float32)
            for m in range(len(ids)):
                total += probs[m, j]
            mean = total / len(ids)
            powered = (mean / mean.max()) ** BETA
            teachers[sample] = powered / powered.sum()
        listed = [(i, teachers[i], False) for _, i in requested]
        listed += [(i, self.cache[i][1], True) for i in draw if i not in asked]
        self.last = [(i, row, hit, self.cache[i][0] if i in self.cache else -1) for i, row, hit in listed]
        for sample in asked:
            if sample in self.cache:
                del self.cache[sample]
            else:
                self.cache[sample] = (r, teachers[sample])
        return tuple(reference), wire


def measure(clients: int, classes: int) -> dict:
    """One K and C: seconds of ROUNDS rounds on both sides, after a comparison of what they compute."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(classes), (int(clients * PARTICIPATION), PER_ROUND)).astype(np.float32)
    on_device = jnp.asarray(probs)
    ours, loop = Ours(clients, classes), Loop(clients, classes)
    state, drawn, billed = ours.play(ours.start, 0, on_device)

    def replay(first: int, drawn) -> list:
        return [
            loop.round(first + r, np.asarray(ids).tolist(), np.asarray(draw).tolist(), probs)
            for r, (ids, draw) in enumerate(drawn)
        ]

    assert [(tuple(a), tuple(b)) for a, b in billed] == replay(0, drawn), "the two sides bill different bytes"
    for sample, (stamp, row) in loop.cache.items():
        assert int(state[0].stamp[sample]) == stamp
        np.testing.assert_allclose(state[0].target[sample], row, rtol=1e-4, atol=1e-7)
    first, progress = ROUNDS, {"state": state}

    def ours_once() -> float:
        # Always from the same state: what is measured is the same rounds.
        return seconds(lambda: ours.play(progress["state"], first, on_device))

    _, again, _ = ours.play(state, first, on_device)
    saved = dict(loop.cache), [dict(copies) for copies in loop.held], list(loop.last)

    def loop_once() -> float:
        loop.cache, loop.held, loop.last = dict(saved[0]), [dict(c) for c in saved[1]], list(saved[2])
        return seconds(lambda: replay(first, again))

    taken = alternate({"ours": ours_once, "loop": loop_once})
    return taken | {"ratio": taken["loop"]["median"] / taken["ours"]["median"], "rounds": ROUNDS}


def main() -> None:
    """Measure and write."""
    result = {}
    for clients in (10, 100, 1000):
        for classes in (10, 100):
            result[f"K={clients} C={classes}"] = case = measure(clients, classes)
            print(f"K = {clients}, C = {classes}: {case['ratio']:.0f} x", flush=True)
    write("protocol", {"public": PUBLIC, "per_round": PER_ROUND, "participation": PARTICIPATION, "cases": result})


if __name__ == "__main__":
    main()
