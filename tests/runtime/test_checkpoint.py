"""Checkpoints by themselves: bits, damage, and donation right after an asynchronous save."""

import json
import logging
import shutil
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.errors import UserError
from scarlet_jax.runtime import checkpoint, checkpoint_record
from scarlet_jax.runtime.checkpoint import Checkpoints

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
        manager.save(rounds, make_state(rounds), {"run": "mine", "facts": FACTS, "totals": {"up": 2**70 + rounds}})
    manager.close()
    return tmp_path


def restore(workdir, facts=FACTS, size=100):
    manager = Checkpoints(workdir, keep=2)
    try:
        return manager.restore(checkpoint_record.survey(workdir), abstract(make_state(0, size)), facts)
    finally:
        manager.close()


def test_the_newest_comes_back_bit_for_bit(two):
    found = restore(two)
    assert found.rounds == 2 and found.record["totals"] == {"up": 2**70 + 2}
    assert_equal(found.state, make_state(2))


class Older(NamedTuple):
    """`State` before it had `nothing`."""

    clients: Any
    server: Any
    held: Any


def test_a_state_of_before_a_field_that_is_none_comes_back(tmp_path):
    made = make_state(1)
    manager = Checkpoints(tmp_path, keep=2)
    manager.save(1, Older(made.clients, made.server, made.held), {"run": "mine", "facts": FACTS})
    manager.wait()
    now = made._replace(nothing=None)
    found = manager.restore(checkpoint_record.survey(tmp_path), abstract(now), FACTS)
    manager.close()
    assert isinstance(found.state, State)
    assert_equal(found.state, now)


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
    # Damage to what is read. Orbax writes 24 files, and at times two more that nothing reads.
    assert noticed > 24


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
    with pytest.raises(UserError, match="another form"):
        restore(two, size=7)
    assert checkpoint.steps(two) == [1, 2]


def held(workdir):
    """Every file of the checkpoints with its bytes."""
    return {p.relative_to(workdir): p.read_bytes() for p in workdir.rglob("*") if p.is_file()}


STORE = 'Error opening "zarr" driver: Error reading local file "/run/d/1": Failed to read "/run/d/1"'


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied"), "permission denied"),
        (OSError(5, "Input/output error"), "an input/output error"),
        (OSError(24, "Too many open files"), "too many open files"),
        (OSError(116, "Stale file handle"), "the network file system has lost the file"),
        (ValueError(f"DATA_LOSS: {STORE} [os_error_code='5'] [tensorstore_spec='{{}}']"), "an input/output error"),
        (ValueError(f"PERMISSION_DENIED: {STORE}: Permission denied"), "permission denied"),
        (ValueError(f"UNAVAILABLE: {STORE}"), "the file system is not available"),
        (ValueError(f"RESOURCE_EXHAUSTED: {STORE}: Too many open files"), "too many open files"),
        (MemoryError(), "not enough memory"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."), "not enough memory"),
    ],
)
def test_what_cannot_be_read_is_not_damaged_and_nothing_is_moved(two, monkeypatch, error, reason):
    def refuse(self, rounds, **items):
        raise error

    monkeypatch.setattr(Checkpoints, "read", refuse)
    before = held(two)
    with pytest.raises(UserError, match=rf"checkpoint {two}/checkpoints/2 cannot be read \(.*{reason}\)") as refused:
        restore(two)
    assert "damaged" not in str(refused.value)
    assert held(two) == before


def test_a_fault_while_the_files_are_read_whole_is_no_damage_either(two, monkeypatch):
    """The library calls a file that it cannot open missing; reading the file itself tells."""

    def refuse(self, rounds, **items):
        raise FileNotFoundError("Metadata file (named _METADATA) does not exist")

    def spoilt(path, *args, **kwargs):
        if "ocdbt" in str(path):
            raise OSError(5, "Input/output error", str(path))
        return open(path, *args, **kwargs)

    monkeypatch.setattr(Checkpoints, "read", refuse)
    monkeypatch.setattr(checkpoint_record, "open", spoilt, raising=False)
    before = held(two)
    with pytest.raises(UserError, match=r"/2 cannot be read \(.*ocdbt.*: an input/output error\)"):
        restore(two)
    assert held(two) == before


def test_an_error_of_the_program_is_not_damage_either(two, monkeypatch):
    def fail(self, rounds, **items):
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")

    monkeypatch.setattr(Checkpoints, "read", fail)
    with pytest.raises(jax.errors.JaxRuntimeError):
        restore(two)
    assert checkpoint.steps(two) == [1, 2]


@pytest.mark.parametrize("where", ["record/metadata", "federation/_METADATA"])
def test_where_all_are_damaged_all_are_named_and_none_is_moved(two, where):
    for rounds in (1, 2):
        (two / "checkpoints" / str(rounds) / where).write_text("{")
    before = held(two)
    with pytest.raises(
        UserError, match=rf"every checkpoint in {two}/checkpoints is damaged \(2: .*; 1: .*\)"
    ) as refused:
        restore(two)
    assert "To start anew on purpose, remove" in str(refused.value)
    assert held(two) == before


def test_a_damaged_one_is_moved_only_after_a_good_one_was_read(two, monkeypatch):
    (two / "checkpoints" / "2" / "record" / "metadata").write_text("{")
    monkeypatch.setattr(Checkpoints, "read", lambda *args, **items: (_ for _ in ()).throw(OSError(5, "EIO")))
    before = held(two)
    with pytest.raises(UserError, match="/1 cannot be read"):
        restore(two)
    assert held(two) == before


def test_an_empty_folder_is_no_checkpoint(two):
    (two / "checkpoints" / "99").mkdir()
    (two / "checkpoints" / "98").write_text("a file")
    assert checkpoint.steps(two) == [1, 2, 98]
    assert restore(two).rounds == 2
    assert sorted(p.name for p in (two / "checkpoints").iterdir()) == ["1", "2"]
    manager = Checkpoints(two, keep=3)
    manager.save(3, make_state(3), {"facts": FACTS})
    manager.close()
    assert restore(two).rounds == 3


def test_a_record_tells_whose_it_is(two):
    (two / "checkpoints" / "1" / "record" / "metadata").write_text("{")  # passed over
    found = checkpoint_record.survey(two)
    assert [(each.rounds, each.damage) for each in found] == [(2, ""), (1, "its record is not what was written")]
    (record,) = [each.record for each in found if each.record]
    assert record["rounds"] == 2 and record["semantics"] == checkpoint_record.SEMANTICS
    assert (
        checkpoint_record.check_owner(two, found, "mine") == checkpoint_record.check_owner(two, found, None) == "mine"
    )
    with pytest.raises(UserError, match=r"/2 is of another run \(mine; the run in this workdir is other\)"):
        checkpoint_record.check_owner(two, found, "other")


@pytest.mark.parametrize("number", [None, checkpoint_record.SEMANTICS + 1])
def test_another_version_of_the_program_is_refused_without_a_word_of_damage(two, number):
    ((_, record, _), *_) = checkpoint_record.survey(two)
    record = {name: value for name, value in record.items() if name not in ("semantics", "run", "rounds")}
    record |= {"semantics": number} if number else {}
    path = two / "checkpoints" / "2" / "record" / "metadata"
    path.write_text(json.dumps(checkpoint_record.seal(record)))
    found = checkpoint_record.survey(two)
    with pytest.raises(UserError, match="written by another version of the program") as refused:
        checkpoint_record.check_owner(two, found, "mine")
    assert "damage" not in str(refused.value)


def test_a_folder_with_the_number_of_another_round_is_refused(two):
    shutil.copytree(two / "checkpoints" / "2", two / "checkpoints" / "9")
    with pytest.raises(UserError, match=r"/9 holds the state after 2 rounds, not 9: its folder was copied or renamed"):
        checkpoint_record.check_owner(two, checkpoint_record.survey(two), "mine")


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
        found = restore(tmp_path, size=2_000_000)
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
