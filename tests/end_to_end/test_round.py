"""What keeps a round fast and small: it is read one round late, reuses its buffers, and needs no memory that grows."""

import jax
import numpy as np
import pytest

import scarlet_jax
from scarlet_jax import build
from scarlet_jax.data import federation
from scarlet_jax.engine import phases
from scarlet_jax.engine.feed import Feed
from scarlet_jax.engine.layout import REPLICATED, device_bytes, make_mesh
from scarlet_jax.preview import compiled
from scarlet_jax.runtime import checkpoint, metrics
from tests.support.compiling import with_round
from tests.support.harness import tiny
from tests.support.shapes import shapes


def test_a_round_is_read_when_the_next_is_on_its_way(finished, tmp_path, monkeypatch, shared_programs):
    """But for rounds that are saved: a checkpoint never runs ahead of the record. (That nothing is read inside a round
    is seen where rounds run on shapes, which have no values: tests/preview/test_dry_run.py.)"""
    events, make = [], build.make_algorithm
    make_row, save = metrics.make_row, checkpoint.Checkpoints.save

    def recording(*args):
        algorithm, count = make(*args), iter(range(100))

        def round_(*args, **kwargs):
            events.append(f"send {next(count)}")
            return algorithm.round(*args, **kwargs)

        return with_round(algorithm, round_)

    def reading(round_, *args):
        events.append(f"read {round_}")
        return make_row(round_, *args)

    def saving(self, rounds, *args):
        events.append(f"save {rounds}")
        save(self, rounds, *args)

    monkeypatch.setattr(build, "make_algorithm", recording)
    monkeypatch.setattr(metrics, "make_row", reading)
    monkeypatch.setattr(checkpoint.Checkpoints, "save", saving)
    scarlet_jax.run(tiny(**{"rounds": 5, "checkpoint.every": 3}), tmp_path / "run")
    assert ", ".join(events) == (
        "send 0, send 1, read 0, send 2, read 1, read 2, save 3, send 3, send 4, read 3, read 4, save 5"
    )


@pytest.mark.parametrize(
    ("method", "duration", "participation"), [("scarlet", 2, 1.0), ("comet", 2, 0.5), ("fedavg", None, 0.5)]
)
def test_the_state_of_the_round_before_gives_its_buffers_to_the_next(method, duration, participation):
    """All but the last broadcast, which is small."""
    config = tiny(**{"participation": participation, "model.conv": "xla"})
    config.method.name, config.cache.duration = method, duration
    mesh = make_mesh(jax.devices()[:1])
    loaded = federation.load(config)
    algorithm = build.make_algorithm(config, loaded.data, loaded.num_classes, mesh)
    feed = Feed(loaded.data, algorithm.schedule, 0, mesh)
    state = algorithm.init(feed.training(0))
    kept = state._replace(broadcast=()) if hasattr(state, "broadcast") else state
    large = [a for a in jax.tree.leaves(kept) if a.nbytes > 100]
    assert len(large) >= (3 if method == "fedavg" else 6)
    after, _ = algorithm.round(state, feed.training(0))
    assert not [a.shape for a in large if not a.is_deleted()], "two of these would be in memory at once"
    assert np.isfinite(jax.tree.leaves(after.server)[0]).all()


def test_memory_beyond_the_stacked_state_does_not_grow_with_the_clients():
    """A block of clients is worked on at a time: a sixteenth of the stacked models, taken out and put back."""
    mesh = make_mesh(jax.devices()[:1])
    sharding = jax.sharding.NamedSharding(mesh, REPLICATED)

    def need(clients):
        config = tiny(**{"num_clients": clients, "public_size": 40, "clients_per_chunk": 2})
        data = phases.abstract(shapes(clients, train=4), sharding)
        algorithm = build.make_algorithm(config, data, 10, mesh)
        calls = [c for c in compiled.record(algorithm, data, data) if c.name in ("train mlp", "server", "evaluate mlp")]
        state = phases.shapes(algorithm.init, data).clients
        return {c.name: compiled.compile_phase(c).temporary for c in calls}, device_bytes(state)

    (few, small), (many, large) = need(64), need(256)
    assert len(few) == 3 and large > 3.9 * small
    for name, own in few.items():
        assert many[name] - own < (large - small) / 7, name
