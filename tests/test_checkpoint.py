"""Checkpoints by themselves: bits, damage, and donation right after an asynchronous save."""

import logging
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax import checkpoint
from scarlet_jax.checkpoint import Checkpoints
from scarlet_jax.errors import UserError

FACTS = {"data": 1}


class State(NamedTuple):
    clients: Any
    server: Any
    held: Any
    nothing: Any


def make_state(seed, size=100):
    rng = np.random.default_rng(seed)
    model = {"kernel": rng.normal(size=(3, size)).astype("f4"), "bias": rng.normal(size=(3, 4)).astype("f4")}
    held = rng.integers(-1, 9, (3, 5)).astype("i4")
    return jax.tree.map(jnp.asarray, State((model,), {"kernel": model["kernel"][0]}, held, np.zeros((3, 0), "i4")))


def abstract(state):
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), state)


def copy(state):
    return jax.tree.map(lambda a: np.array(a, copy=True), state)


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture
def two(tmp_path):
    """A workdir with checkpoints after 1 and 2 rounds."""
    manager = Checkpoints(tmp_path, keep=2)
    for rounds in (1, 2):
        manager.save(rounds, make_state(rounds), {"facts": FACTS, "totals": {"up": 2**70 + rounds}})
    manager.close()
    return tmp_path


def restore(workdir, facts=FACTS):
    manager = Checkpoints(workdir, keep=2)
    try:
        return manager.restore(abstract(make_state(0)), facts)
    finally:
        manager.close()


def test_the_newest_comes_back_bit_for_bit(two):
    found = restore(two)
    assert found.rounds == 2 and found.record["totals"] == {"up": 2**70 + 2}
    assert_equal(found.state, make_state(2))


def test_nothing_is_found_where_nothing_was_saved(tmp_path):
    assert checkpoint.steps(tmp_path) == [] and restore(tmp_path) is None


def test_only_the_newest_are_kept(tmp_path):
    manager = Checkpoints(tmp_path, keep=2)
    for rounds in range(1, 6):
        manager.save(rounds, make_state(rounds), {"facts": FACTS})
    manager.close()
    assert checkpoint.steps(tmp_path) == [4, 5]


def test_an_older_state_never_silently_replaces_a_newer_one(two):
    manager = Checkpoints(two, keep=2)
    with pytest.raises(RuntimeError, match="checkpoint 1 was not written"):
        manager.save(1, make_state(1), {"facts": FACTS})
    manager.close()


def test_any_damage_to_any_file_is_either_noticed_or_harmless(two, tmp_path_factory):
    """Every file of the newest checkpoint, cut in half, one bit flipped, or gone."""
    names = sorted(p.relative_to(two) for p in (two / "checkpoints" / "2").rglob("*") if p.is_file())
    noticed = 0
    for number, name in enumerate(names):
        for kind in ("truncate", "flip", "remove"):
            spoilt = tmp_path_factory.mktemp(f"{kind}{number}") / "run"
            shutil.copytree(two, spoilt)
            data = bytearray((spoilt / name).read_bytes())
            if kind == "truncate":
                (spoilt / name).write_bytes(data[: len(data) // 2])
            elif kind == "remove" or not data:
                (spoilt / name).unlink()
            else:
                data[len(data) // 2] ^= 4
                (spoilt / name).write_bytes(data)
            found = restore(spoilt)
            assert found is not None, (name, kind)
            assert_equal(found.state, make_state(found.rounds))
            assert found.record["totals"] == {"up": 2**70 + found.rounds}
            noticed += found.rounds == 1
    assert noticed > len(names)


def test_a_damaged_one_is_named_and_kept_aside(two, caplog):
    (two / "checkpoints" / "2" / "record" / "metadata").write_text("{}")
    with caplog.at_level(logging.WARNING):
        assert restore(two).rounds == 1
    assert str(two / "checkpoints" / "2") in caplog.text and "is damaged" in caplog.text
    (aside,) = (two / "checkpoints_damaged").iterdir()
    assert aside.name.startswith("2-") and (aside / "federation").is_dir()


def test_other_facts_and_other_shapes_are_refused_and_stay(two):
    with pytest.raises(UserError, match="the data differ"):
        restore(two, {"data": 2})
    manager = Checkpoints(two, keep=2)
    with pytest.raises(UserError, match="another form"):
        manager.restore(abstract(make_state(0, size=7)), FACTS)
    manager.close()
    assert checkpoint.steps(two) == [1, 2]


def test_what_is_no_damage_is_not_taken_for_it(two, monkeypatch):
    def refuse(self, rounds, **items):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Checkpoints, "_read", refuse)
    with pytest.raises(PermissionError):
        restore(two)
    assert checkpoint.steps(two) == [1, 2]


def test_a_state_donated_right_after_its_asynchronous_save_is_saved_as_it_was(tmp_path):
    """Orbax may look at the buffers without copying them; the next round writes into the same memory."""
    saves, state, strip = 5, make_state(0, size=2_000_000), jax.jit(lambda s: s)
    step = jax.jit(lambda s: jax.tree.map(lambda a: a * 3 + 1, s), donate_argnums=0)
    manager, copies = Checkpoints(tmp_path, keep=saves), []
    for rounds in range(1, saves + 1):
        copies.append(copy(state))
        manager.save(rounds, strip(state), {"facts": FACTS})
        old = state
        for _ in range(3):
            state = step(state)
        assert old.server["kernel"].is_deleted()
    manager.close()
    for rounds in range(saves, 0, -1):
        manager = Checkpoints(tmp_path, keep=saves)
        found = manager.restore(abstract(state), FACTS)
        manager.close()
        assert found.rounds == rounds
        assert_equal(found.state, copies[rounds - 1])
        shutil.rmtree(tmp_path / "checkpoints" / str(rounds))


def test_one_changed_bit_changes_the_checksum():
    tree = {"a": np.zeros((3, 5), "f4"), "b": np.zeros(7, bool), "c": np.int32(4)}
    sums = {checkpoint.checksum(tree)}
    for name in ("a", "b"):
        for i in range(tree[name].size):
            changed = {k: v.copy() for k, v in tree.items()}
            changed[name].reshape(-1).view("u1")[i * tree[name].itemsize] ^= 1
            sums.add(checkpoint.checksum(changed))
    assert len(sums) == 1 + 15 + 7
