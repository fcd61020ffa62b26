"""A whole federation against a plain loop over clients, and the laws of a round."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from scarlet_jax import build as registry
from scarlet_jax.data import federation as federation_data
from scarlet_jax.engine.layout import make_mesh
from scarlet_jax.keys import Purpose, derive
from scarlet_jax.protocol.sharpen import enhanced_era

pytestmark = pytest.mark.usefixtures("quick_compilation")
K, P, N = 5, 12, 30


def tiny(**fields):
    """Five clients of unequal size, an MLP on digits, augmentation on."""
    config = base.get_config()
    config.update_from_flattened_dict(
        {
            "num_clients": K, "public_size": N, "public_per_round": P, "epochs": 1, "kd_epochs": 2, "batch_size": 8,
            "kd_batch_size": 5, "data.private": "digits", "data.public": "digits", "data.train_size": 60,
            "data.test_size": 40, "data.flip": False, "partition.name": "label_dirichlet", "partition.alpha": 0.5,
            "model.client": "mlp", "model.server": "mlp", "cache.duration": 1, "participation": 0.6,
        }
        | fields
    )  # fmt: skip
    return config


def build(config):
    federation = federation_data.load(config)
    mesh = make_mesh()
    algorithm = registry.make_algorithm(config, federation.data, federation.num_classes, mesh)
    return algorithm, jax.device_put(federation.data)


class PlainFederation:
    """The same federation as a script: one client after another, labels in dictionaries, no masks.

    It borrows the learner's functions (tested against the reference elsewhere) and the keys; not the fleet, the cache
    or the round.
    """

    def __init__(self, algorithm, data, config):
        owner = algorithm.round.__self__
        self.learner, self.seed, self.data, self.duration = (
            owner.population.server(owner.population.host_numbers),
            config.seed,
            data,
            config.cache.duration,
        )
        self.beta = 2.0
        state = algorithm.init(data)
        self.clients = [jax.tree.map(lambda a, k=k: a[k], state.clients[0]) for k in range(K)]
        self.server = state.server
        self.entries: dict[int, tuple[int, np.ndarray]] = {}  # sample -> stamp, label
        self.last: list[tuple[int, np.ndarray]] = []
        self.fit, self.distil = jax.jit(self.learner.fit), jax.jit(self.learner.distil)
        self.predict = jax.jit(self.learner.predict)

    def key(self, purpose, r, *client):
        return derive(self.seed, purpose, jnp.int32(r), *(jnp.int32(k) for k in client))

    def teach(self, model, key, labelled):
        """Distil from a list; padded to P, which the learner ignores beyond its size."""
        samples, rows = np.zeros(P, np.int32), np.full((P, 10), 0.1, np.float32)
        for j, (sample, row) in enumerate(labelled):
            samples[j], rows[j] = sample, row
        return self.distil(model, key, self.data.public_image, samples, rows, jnp.int32(len(labelled)))[0]

    def round(self, r, participants, draw):
        probs, data = {}, self.data
        hits = [s for s in draw if s in self.entries and r - self.entries[s][0] <= self.duration]
        requested = [s for s in draw if s not in hits]
        draw = requested + hits  # what the cache serves is not predicted
        for k in participants:
            model = self.teach(self.clients[k], self.key(Purpose.DISTIL, r, k), self.last)
            model, _ = self.fit(
                model, self.key(Purpose.FIT, r, k), data.private_image, data.private_label, data.train.rows[k],
                data.train.size[k],
            )  # fmt: skip
            probs[k] = np.asarray(
                self.predict(model, data.public_image, jnp.asarray(draw), self.key(Purpose.PREDICT, r, k))
            )
            self.clients[k] = model
        self.last = []
        for s in requested:
            column = draw.index(s)
            row = np.asarray(enhanced_era(np.mean([probs[k][column] for k in participants], 0), self.beta))
            self.last.append((s, row))
            if s in self.entries:
                del self.entries[s]
            else:
                self.entries[s] = (r, row)
        self.last += [(s, self.entries[s][1]) for s in hits]
        self.server = self.teach(self.server, self.key(Purpose.SERVER_DISTIL, r), self.last)
        return requested


def close(ours, expected):
    # Some steps at rate 0.1 on an MLP; the mean over clients and the fused loops round in another order.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4), ours, expected)


def test_a_federation_is_a_plain_loop():
    config = tiny()
    algorithm, data = build(config)
    assert len(set(np.asarray(data.train.size).tolist())) > 1, "clients of unequal size"
    plain, state = PlainFederation(algorithm, data, config), algorithm.init(data)
    protocol, hits = algorithm.round.__self__.protocol, 0
    for r in range(4):
        plan, _ = protocol.plan(state.round, state.cache.stamp, state.held, state.broadcast)
        participants, draw = np.asarray(plan.ids).tolist(), np.asarray(plan.draw).tolist()
        assert participants == sorted(set(participants)) and len(participants) == 3
        assert len(set(draw)) == P and set(draw) <= set(range(N))
        state, report = algorithm.round(state, data)
        requested = plain.round(r, participants, draw)
        hits += int(report.counts.hit)
        assert int(report.counts.requested) == len(requested)
        assert report.counts.sent.tolist() == [len(requested)] * 3
        assert np.asarray(state.broadcast.samples)[: len(plain.last)].tolist() == [s for s, _ in plain.last]
        np.testing.assert_allclose(state.broadcast.payload, [row for _, row in plain.last], rtol=2e-3, atol=2e-4)
        close(state.server, plain.server)
        for k in range(K):
            close(jax.tree.map(lambda a, k=k: a[k], state.clients[0]), plain.clients[k])
        stamps = {int(i): int(s) for i, s in enumerate(state.cache.stamp) if s >= 0}
        assert stamps == {s: stamp for s, (stamp, _) in plain.entries.items()}
    assert hits


def test_who_else_takes_part_changes_no_bit_of_a_client():
    """Round 0: participants of a partial round end with the same models as in the full one."""
    partial, data = build(tiny())
    full, _ = build(tiny(participation=1.0))
    state, report = partial.round(partial.init(data), data)
    everyone, _ = full.round(full.init(data), data)
    ids = np.asarray(report.participants)
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(np.asarray(a)[ids], np.asarray(b)[ids]),
        state.clients[0].params, everyone.clients[0].params,
    )  # fmt: skip
    absent = np.setdiff1d(np.arange(K), ids)
    start = partial.init(data).clients[0].params
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(np.asarray(a)[absent], np.asarray(b)[absent]),
        state.clients[0].params, start,
    )  # fmt: skip


def test_without_a_cache_everything_is_requested_and_nothing_is_kept():
    config = tiny(**{"cache.duration": 0})
    algorithm, data = build(config)
    state = algorithm.init(data)
    assert state.cache.stamp.size == state.held.size == 0
    for r in range(3):
        state, report = algorithm.round(state, data)
        c = report.counts
        assert (int(c.requested), int(c.hit), int(c.stale)) == (P, 0, 0)
        assert not np.any(c.caught_up) and not np.any(c.updates) and not np.any(c.stale_marks)
        billed, listed = algorithm.bill(report), P if r else 0
        assert billed["reference"] == (3 * P * 48, 3 * (listed * (40 + 8) + 8 * P))
        assert billed["wire"] == (3 * P * 40, 3 * (listed * (40 + 4) + 4 * P))


def test_a_round_with_only_hits_sends_nothing_and_still_distils():
    config = tiny(**{"public_per_round": N, "cache.duration": 50})
    algorithm, data = build(config)
    state, _ = algorithm.round(algorithm.init(data), data)
    before = jax.device_get(state.server.params)
    state, report = algorithm.round(state, data)
    assert int(report.counts.requested) == 0 and int(report.counts.hit) == N
    assert algorithm.bill(report)["wire"].uplink == 0
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(jax.device_get(state)) if x.dtype != jnp.uint32)
    assert np.asarray(state.broadcast.keep).all()
    changed = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, jax.device_get(state.server.params))
    assert any(jax.tree.leaves(changed))


@pytest.mark.parametrize("bits", [8, 16])
def test_label_bits_reach_what_is_distilled(bits):
    """Every broadcast row is a multiple of its decoded step: q / sum q with whole q."""
    algorithm, data = build(tiny(**{"comm.label_bits": bits}))
    state, report = algorithm.round(algorithm.init(data), data)
    rows = np.asarray(state.broadcast.payload, np.float64)
    for row in rows:
        smallest = row[row > 0].min()
        # Some whole denominator up to 2^b - 1 + C turns the row into whole numbers.
        candidates = np.arange(2**bits - 12, 2**bits + 12)
        error = np.abs(row * candidates[:, None] - np.round(row * candidates[:, None])).max(1).min()
        assert error < 0.02 and smallest > 0
    assert algorithm.bill(report)["wire"].uplink == 3 * P * 10 * bits // 8


def test_same_init_and_its_opposite():
    for same in (True, False):
        algorithm, data = build(tiny(same_init=same))
        state = algorithm.init(data)
        leaf = np.asarray(jax.tree.leaves(state.clients[0].params)[-1])
        server = np.asarray(jax.tree.leaves(state.server.params)[-1])
        assert (leaf == leaf[:1]).all() == same
        assert (leaf[0] == server).all() == same
