"""Orbax checkpoints of a run: asynchronous, verified when read, the newest good one wins."""

from __future__ import annotations

import logging
import shutil
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from scarlet_jax.errors import UserError
from scarlet_jax.runtime import checkpoint_record, hosts
from scarlet_jax.runtime.checkpoint_record import DIRECTORY, SEMANTICS, Found
from scarlet_jax.runtime.checkpoint_record import steps as steps
from scarlet_jax.types import PyTree

_log = logging.getLogger(__name__)


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


class Checkpoints:
    """The checkpoints of one workdir.

    Args:
      workdir: its `checkpoints/` is created when missing.
      keep: newest ones kept.
    """

    def __init__(self, workdir: Path, keep: int):
        self._directory = (workdir / DIRECTORY).absolute()
        hosts.from_first(self._remove_empty)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def save(self, rounds: int, state: PyTree, record: dict[str, Any]) -> None:
        """Start writing the state after `rounds` rounds; returns once its buffers may be reused.

        The server's model, where there is one, is an item of its own, so that a predictor reads nothing else.

        Args:
          rounds: done.
          state: exactly K clients, without the padding of a device count.
          record: JSON that travels with it; under "run" the run's id.
        """
        items = _items(state)
        record = record | {
            "state": checksum(state),
            "server": checksum(items["server"]) if "server" in items else None,  # for those who read no more than that
            "structure": structure(state),
            "rounds": rounds,
            "semantics": SEMANTICS,
        }
        record = checkpoint_record.seal(record)
        saves = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        args = ocp.args.Composite(**saves, record=ocp.args.JsonSave(record))
        if not self._manager.save(rounds, args=args):
            raise RuntimeError(f"checkpoint {rounds} was not written: a newer one lies in {self._directory}")

    def restore(self, found: Iterable[Found], abstract: PyTree, facts: dict[str, Any]) -> Restored | None:
        """The newest good checkpoint; None where there are none at all.

        Damaged ones above it are named and put aside, after a good one is read.

        Args:
          found: by `checkpoint_record.survey`.
          abstract: the state as ShapeDtypeStructs with shardings.
          facts: what the record of a checkpoint must hold under "facts".

        Raises:
          UserError: one cannot be read, all are damaged, or a good one belongs to other data or another program. All
            are left where they are.
        """
        damaged: dict[int, str] = {}
        for rounds, record, damage in found:
            restored = None
            if record is not None:
                self._compare(rounds, record, abstract, facts)
                restored, damage = self._attempt(rounds, abstract, record)
            if restored is not None:
                self._put_aside(damaged)
                return restored
            damaged[rounds] = damage
        checkpoint_record.refuse_damaged(self._directory.parent, damaged)
        return None

    def lost(self) -> list[str]:
        """Folders of checkpoints that were on disk and are not any more, though the program did not remove them."""
        gone = set(self._manager.all_steps()) - set(steps(self._directory.parent))
        return [f"{DIRECTORY}/{rounds}" for rounds in sorted(gone)]

    def wait(self) -> None:
        """Return when the last save is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait for the last save and stop Orbax's threads."""
        try:
            self._manager.wait_until_finished()
        finally:
            self._manager.close()

    def read(self, rounds: int, **items: Any) -> Any:
        """The items of a checkpoint, as Orbax reads them."""
        return self._manager.restore(rounds, args=ocp.args.Composite(**items))

    def _read_state(self, rounds: int, abstract: PyTree, record: dict[str, Any]) -> Restored:
        items = _items(abstract)
        # A field that is None here may be one that an earlier program did not have.
        place = epath.Path(self._directory / str(rounds) / "federation")
        there = ocp.PyTreeCheckpointHandler().metadata(place).tree
        fields = items["federation"]._asdict()
        items["federation"] = {name: own for name, own in fields.items() if own is not None or name in there}
        wanted = {name: ocp.args.StandardRestore(item) for name, item in items.items()}
        items = self.read(rounds, **wanted)
        state = abstract._replace(**items["federation"])
        if "server" in wanted:
            state = state._replace(server=items["server"])
        state = jax.tree.map(lambda a, x: jnp.zeros(a.shape, a.dtype) if x is None else x, abstract, state)
        if checksum(state) != record["state"]:
            raise ValueError("its contents are not what was written")
        return Restored(rounds, state, record)

    def _attempt(self, rounds: int, abstract: PyTree, record: dict[str, Any]) -> tuple[Restored | None, str]:
        """A state, or what is wrong with it: it is damaged where it is so in any process."""
        place = self._directory / str(rounds)

        def read() -> tuple[Restored | None, str]:
            try:
                checkpoint_record.check_readable(place)  # first, because TensorStore prints stack traces
                return self._read_state(rounds, abstract, record), ""
            except Exception as error:
                return None, checkpoint_record.damage_of(place, error)

        restored, damage = hosts.together(read)
        if hosts.largest(int(restored is None)):
            return None, damage or "another process finds it damaged"
        return restored, ""

    def _compare(self, rounds: int, record: dict[str, Any], abstract: PyTree, facts: dict[str, Any]) -> None:
        """Reject an intact checkpoint of other data or of another program version."""
        if record["facts"] != facts:
            raise UserError(
                f"the data differ from those the run in {self._directory.parent} was started with; "
                "bring them back, or give --workdir another directory."
            )
        if record["structure"] != structure(abstract):
            raise UserError(
                f"checkpoint {self._directory / str(rounds)} was written by a version of the program whose state has "
                "another form; use the commit named in environment.json, or give --workdir another directory."
            )

    def _put_aside(self, damaged: dict[int, str]) -> None:
        """Move damaged checkpoints out of the way of those to be written."""
        for rounds, damage in damaged.items():
            hosts.from_first(lambda: self._move_aside(rounds, damage))  # noqa: B023 (called at once)
        if damaged:
            self._manager.reload()

    def _move_aside(self, rounds: int, damage: str) -> None:
        path = self._directory / str(rounds)
        target = self._directory.with_name("checkpoints_damaged") / f"{rounds}-{time.time_ns()}"
        _log.warning("checkpoint %s is damaged (%s): skipped, and moved to %s", path, damage, target)
        target.parent.mkdir(exist_ok=True)
        shutil.move(path, target)  # `checkpoints` may be a link to another disk

    def _remove_empty(self) -> None:
        """An empty folder is no checkpoint, but Orbax takes it for one, and writes none that is older."""
        for path in self._directory.iterdir() if self._directory.is_dir() else ():
            if path.name.isdecimal() and checkpoint_record.is_empty(path):
                path.rmdir()


def _items(state: PyTree) -> dict[str, PyTree]:
    """What a checkpoint holds: the server's model apart, and no arrays of size 0, which Orbax does not save."""
    state = jax.tree.map(lambda a: a if a.size else None, state)
    if getattr(state, "server", None) is None:
        return {"federation": state}
    return {"federation": state._replace(server={}), "server": state.server}


def structure(tree: PyTree) -> int:
    """A checksum of a state's names, shapes and types."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    listing = [f"{jax.tree_util.keystr(path)} {leaf.dtype}{leaf.shape}" for path, leaf in leaves]
    return zlib.crc32("\n".join(listing).encode())
