"""Orbax checkpoints of a run: asynchronous, verified when read, the newest good one wins."""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from scarlet_jax import hosts
from scarlet_jax.errors import UserError
from scarlet_jax.types import PyTree

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

DIRECTORY = "checkpoints"  # in a workdir


class Restored(NamedTuple):
    """A checkpoint that was read and found good."""

    rounds: int  # rounds done when it was written
    state: PyTree
    record: dict[str, Any]  # JSON that travels with it


def checksum(tree: PyTree) -> int:
    """CRC-32 over the bits of all leaves, wherever they lie: one changed bit shows. Waits for the devices."""
    value = 0
    for leaf in jax.device_get(jax.tree.leaves(tree)):
        value = zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).reshape(-1).data, value)
    return value


def steps(workdir: Path) -> list[int]:
    """Rounds done at the checkpoints of a workdir, ascending, without opening any."""
    directory = workdir / DIRECTORY
    return sorted(int(p.name) for p in directory.iterdir() if p.name.isdigit()) if directory.is_dir() else []


class Checkpoints:
    """The checkpoints of one workdir.

    Args:
      workdir: its `checkpoints/` is created when missing.
      keep: newest ones kept.
    """

    def __init__(self, workdir: Path, keep: int):
        self._directory = (workdir / DIRECTORY).absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def save(self, rounds: int, state: PyTree, record: dict[str, Any]) -> None:
        """Start writing the state after `rounds` rounds; returns once its buffers may be reused.

        The server's model, where there is one, is an item of its own, so that a predictor reads nothing else.

        Args:
          rounds: done.
          state: exactly K clients, without the padding of a device count.
          record: JSON that travels with it.
        """
        items = _items(state)
        record = record | {
            "state": checksum(state),
            "server": checksum(items["server"]) if "server" in items else None,  # for those who read no more than that
            "structure": _structure(state),
        }
        record["check"] = _check(record)
        saves = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        args = ocp.args.Composite(**saves, record=ocp.args.JsonSave(record))
        if not self._manager.save(rounds, args=args):
            raise RuntimeError(f"checkpoint {rounds} was not written: a newer one lies in {self._directory}")

    def restore(self, abstract: PyTree, facts: dict[str, Any]) -> Restored | None:
        """The newest good checkpoint, or None. A damaged one is named, put aside and skipped.

        Args:
          abstract: the state as ShapeDtypeStructs with shardings.
          facts: what the record of a checkpoint must hold under "facts".

        Raises:
          UserError: a good checkpoint belongs to other data or another program; it is left where it is.
        """
        for rounds in sorted(self._manager.all_steps(), reverse=True):
            record = self._unless_damaged(rounds, self._read_record)
            if record is None:
                continue
            self._compare(rounds, record, abstract, facts)
            found = self._unless_damaged(rounds, self._read_state, abstract, record)
            if found is not None:
                return found
        return None

    def wait(self) -> None:
        """Return when the last save is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait for the last save and stop Orbax's threads."""
        try:
            self._manager.wait_until_finished()
        finally:
            self._manager.close()

    def _read(self, rounds: int, **items: Any) -> Any:
        return self._manager.restore(rounds, args=ocp.args.Composite(**items))

    def _read_record(self, rounds: int) -> dict[str, Any]:
        record = self._read(rounds, record=ocp.args.JsonRestore())["record"]
        if _check({k: v for k, v in record.items() if k != "check"}) != record["check"]:
            raise ValueError("its record is not what was written")
        return record

    def _read_state(self, rounds: int, abstract: PyTree, record: dict[str, Any]) -> Restored:
        wanted = {name: ocp.args.StandardRestore(item) for name, item in _items(abstract).items()}
        items = self._read(rounds, **wanted)
        state = items["federation"]
        if "server" in wanted:
            state = state._replace(server=items["server"])
        state = jax.tree.map(lambda a, x: jnp.zeros(a.shape, a.dtype) if x is None else x, abstract, state)
        if checksum(state) != record["state"]:
            raise ValueError("its contents are not what was written")
        return Restored(rounds, state, record)

    def _unless_damaged(self, rounds: int, read: Callable[..., _T], *args: Any) -> _T | None:
        """What `read(rounds, *args)` returns; None, and the checkpoint put aside, where it fails in any process."""
        result, error = None, None
        try:
            result = read(rounds, *args)
        except Exception as own:
            error = own
        if not hosts.largest(int(error is not None)):
            return result
        self._put_aside(rounds, error or ValueError("another process cannot read it"))
        return None

    def _compare(self, rounds: int, record: dict[str, Any], abstract: PyTree, facts: dict[str, Any]) -> None:
        """Refuse what is whole, but not ours to go on with."""
        if record["facts"] != facts:
            raise UserError(
                f"the data differ from those the run in {self._directory.parent} was started with; "
                "bring them back, or give --workdir another directory."
            )
        if record["structure"] != _structure(abstract):
            raise UserError(
                f"checkpoint {self._directory / str(rounds)} was written by a version of the program whose state has "
                "another form; use the commit named in environment.json, or give --workdir another directory."
            )

    def _put_aside(self, rounds: int, error: Exception) -> None:
        """Move a damaged checkpoint away; errors that say nothing about the checkpoint are raised again."""
        if isinstance(error, MemoryError | PermissionError | jax.errors.JaxRuntimeError):
            raise error
        hosts.from_first(lambda: self._move_aside(rounds, error))
        self._manager.reload()

    def _move_aside(self, rounds: int, error: Exception) -> None:
        path = self._directory / str(rounds)
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        target = self._directory.with_name("checkpoints_damaged") / f"{rounds}-{time.time_ns()}"
        _log.warning("checkpoint %s is damaged (%s): skipped, and moved to %s", path, reason, target)
        target.parent.mkdir(exist_ok=True)
        path.rename(target)


def _items(state: PyTree) -> dict[str, PyTree]:
    """What a checkpoint holds: the server's model apart, and no arrays of size 0, which Orbax does not save."""
    state = jax.tree.map(lambda a: a if a.size else None, state)
    if getattr(state, "server", None) is None:
        return {"federation": state}
    return {"federation": state._replace(server={}), "server": state.server}


def _structure(tree: PyTree) -> int:
    """A checksum of a state's names, shapes and types."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    listing = [f"{jax.tree_util.keystr(path)} {leaf.dtype}{leaf.shape}" for path, leaf in leaves]
    return zlib.crc32("\n".join(listing).encode())


def _check(record: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())
