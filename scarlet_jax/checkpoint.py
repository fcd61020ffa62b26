"""Orbax checkpoints of a run: asynchronous, verified when read, the newest good one wins."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from scarlet_jax.types import PyTree

_log = logging.getLogger(__name__)


class Restored(NamedTuple):
    """A checkpoint that was read and found good."""

    rounds: int  # rounds done when it was written
    state: PyTree
    record: dict[str, Any]  # JSON that travels with it: totals, shapes


@jax.jit
def fingerprint(tree: PyTree) -> jax.Array:
    """uint32[leaves]: for every leaf, the position-weighted sum of its words modulo 2^32; one changed word shows."""

    def leaf(a):
        a = jnp.asarray(a)
        size = a.dtype.itemsize
        words = jax.lax.bitcast_convert_type(a, {1: jnp.uint8, 2: jnp.uint16}.get(size, jnp.uint32)) if size > 1 else a
        words = words.astype(jnp.uint32).ravel()
        return jnp.sum(words * (2 * jnp.arange(words.size, dtype=jnp.uint32) + 1), dtype=jnp.uint32)

    leaves = jax.tree.leaves(tree)
    return jnp.stack([leaf(a) for a in leaves]) if leaves else jnp.zeros(0, jnp.uint32)


class Checkpoints:
    """The checkpoints of one workdir.

    Args:
      directory: `<workdir>/checkpoints`, created when missing.
      keep: newest ones kept.
    """

    def __init__(self, directory: Path, keep: int):
        self._directory = directory.absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self._directory, options=options)

    def save(self, rounds: int, state: PyTree, record: dict[str, Any]) -> None:
        """Start writing the state after `rounds` rounds; returns once its buffers may be reused.

        The server's model is an item of its own, so that a predictor reads nothing else.
        """
        record = record | {"fingerprint": fingerprint(state).tolist()}
        args = ocp.args.Composite(
            federation=ocp.args.StandardSave(state._replace(server={})),
            server=ocp.args.StandardSave(state.server),
            record=ocp.args.JsonSave(record),
        )
        self._manager.save(rounds, args=args)

    def restore(self, abstract: PyTree) -> Restored | None:
        """The newest good checkpoint, or None. A damaged one is named, put aside and skipped.

        Args:
          abstract: the state as ShapeDtypeStructs with shardings.
        """
        for rounds in sorted(self._manager.all_steps(), reverse=True):
            args = ocp.args.Composite(
                federation=ocp.args.StandardRestore(abstract._replace(server={})),
                server=ocp.args.StandardRestore(abstract.server),
                record=ocp.args.JsonRestore(),
            )
            try:
                item = self._manager.restore(rounds, args=args)
                state = item["federation"]._replace(server=item["server"])
                if fingerprint(state).tolist() != item["record"]["fingerprint"]:
                    raise ValueError("its contents are not what was written")
                return Restored(rounds, state, item["record"])
            except Exception as error:  # whatever a damaged file makes Orbax raise
                self._put_aside(rounds, error)
        return None

    def wait(self) -> None:
        """Return when the last save is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait for the last save and stop Orbax's threads."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _put_aside(self, rounds: int, error: Exception) -> None:
        path = self._directory / str(rounds)
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        target = self._directory.with_name("checkpoints_damaged") / f"{rounds}-{time.time_ns()}"
        _log.warning("checkpoint %s is damaged (%s): skipped, and moved to %s", path, reason, target)
        target.parent.mkdir(exist_ok=True)
        path.rename(target)
        self._manager.reload()
