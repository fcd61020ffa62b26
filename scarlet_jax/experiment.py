"""The host loop: load, resume, dispatch rounds, read metrics one round late, checkpoint, stop cleanly."""

from __future__ import annotations

import logging
import signal
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from ml_collections import config_dict

from scarlet_jax import checkpoint, fleet, metrics, registry, signals, workdir
from scarlet_jax.data import federation as federation_data
from scarlet_jax.data.describe import write_partition
from scarlet_jax.errors import UserError
from scarlet_jax.models import resolve_conv
from scarlet_jax.progress import Progress
from scarlet_jax.types import Algorithm, Data
from scarlet_jax.validate import validate

_log = logging.getLogger(__name__)


def run(config: config_dict.ConfigDict, workdir_path: str | Path) -> metrics.Row:
    """Train a federation, or resume it; returns what summary.json holds.

    Args:
      config: of configs/base.py's fields; it is not changed.
      workdir_path: where everything is written. An unfinished run found there is resumed; a finished one is summarised.

    Raises:
      UserError: one sentence about what the user can mend.
      SystemExit: with 128 + signal number, after SIGINT or SIGTERM has stopped the run at a round's end.
    """
    config = config_dict.ConfigDict(config.copy_and_resolve_references())
    validate(config)
    registry.make_method(config)  # refuses unknown methods and fields before anything is loaded
    path, stop = Path(workdir_path), signals.Stop()
    with workdir.lock(path), signals.installed(stop):
        workdir.check_config(path, config)
        finished = _finished(path, config.rounds)
        if finished is not None:
            print(f"this run is finished\n{metrics.summary_text(finished)}", flush=True)
            return finished
        session = _Session(config, path, stop)
        summary = signals.run_watched(session.run, session.poll)
    if stop and not summary["complete"]:
        assert stop.signum is not None
        name = signal.Signals(stop.signum).name
        print(f"stopped by {name} after {summary['rounds']} rounds; the same command resumes it", flush=True)
        raise SystemExit(128 + stop.signum)
    print(metrics.summary_text(summary), flush=True)
    return summary


def _finished(path: Path, rounds: int) -> metrics.Row | None:
    summary = workdir.read_json(path / "summary.json")
    if summary is None:
        return None
    if summary["rounds"] > rounds:
        raise UserError(
            f"rounds is {rounds}, but the run in {path} has done {summary['rounds']}; "
            "ask for at least as many, or give --workdir another directory."
        )
    return summary if summary["complete"] and summary["rounds"] == rounds else None


class _Pending(NamedTuple):
    """A round that was dispatched and not read yet."""

    round: int
    report: Any
    evaluation: Any


class _Session:
    """One start of a run: set-up, the loop, and what the loop writes."""

    def __init__(self, config: config_dict.ConfigDict, path: Path, stop: signals.Stop):
        self.config, self.path, self.stop = config, path, stop
        self.progress: Progress | None = None
        self.totals, self.row = metrics.no_totals(), None
        self._read_at = 0.0

    def poll(self) -> None:
        """Called by the main thread while the loop works."""
        if self.progress is not None:
            self.progress.poll()

    def run(self) -> metrics.Row:
        """Set up, train, close; returns the summary."""
        config = self.config
        choices = self._choices()
        config.model.conv, config.clients_per_chunk = choices["conv"], choices["clients_per_chunk"]
        mesh = fleet.make_mesh()
        federation = federation_data.load(config)
        if not (self.path / "partition.npz").exists():
            write_partition(federation, self.path)
        algorithm = registry.make_algorithm(config, federation.data, federation.num_classes, mesh)
        self.algorithm = algorithm
        self.facts = {
            "num_classes": federation.num_classes,
            "image_shape": list(federation.image_shape),
            "class_names": list(federation.class_names),
            "data": _data_fingerprint(federation.data),
        }
        data = jax.device_put(federation.data, NamedSharding(mesh, fleet.REPLICATED))
        workdir.record_environment(self.path, choices)
        self.checkpoints = checkpoint.Checkpoints(self.path / "checkpoints", config.checkpoint.keep)
        try:
            state, done = self._start(algorithm, data)
            self.writer = metrics.Writer(self.path, done, config.wandb, self.path.name)
            self.progress = Progress(config.rounds, done, algorithm.blocks)
            self.stop.on_second = self.progress.stop
            try:
                return self._loop(algorithm, state, data, done)
            finally:
                self.progress.stop()
                self.writer.close()
        finally:
            self.checkpoints.close()

    def _choices(self) -> dict[str, Any]:
        """What "auto" means in this run; decided once and reused when it resumes, unless the user now asks otherwise."""
        config, before = self.config, workdir.recorded_choices(self.path)
        chunk = config.clients_per_chunk or before.get("clients_per_chunk")
        return {
            "conv": before.get("conv") or resolve_conv(config.model.conv),
            "clients_per_chunk": chunk or registry.default_chunk(config.num_clients, fleet.make_mesh()),
        }

    def _start(self, algorithm: Algorithm, data: Data) -> tuple[Any, int]:
        """The state to go on from, and the rounds it has behind it."""
        padded = jax.eval_shape(algorithm.init, data)
        stripped = jax.eval_shape(algorithm.strip, padded)
        # K clients need not divide by the devices, so checkpoints are read replicated and then spread.
        abstract = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(
                a.shape, a.dtype, sharding=NamedSharding(fleet.make_mesh(), fleet.REPLICATED)
            ),
            stripped,
        )
        found = self.checkpoints.restore(abstract)
        if found is None:
            return algorithm.init(data), 0
        if found.record["facts"] != self.facts:
            raise UserError(
                f"the data differ from those the run in {self.path} was started with; "
                "bring them back, or give --workdir another directory."
            )
        self.totals, self.row = found.record["totals"], found.record["row"]
        print(f"resuming after {found.rounds} rounds", flush=True)
        return jax.jit(algorithm.pad, out_shardings=algorithm.shardings(padded))(found.state), found.rounds

    def _loop(self, algorithm: Algorithm, state: Any, data: Data, done: int) -> metrics.Row:
        config = self.config
        strip = jax.jit(algorithm.strip)
        pending: _Pending | None = None
        self._read_at = time.monotonic()
        for r in range(done, config.rounds):
            if self.stop:
                break
            last = r == config.rounds - 1
            state, report = algorithm.round(state, data, progress=self.progress.dispatched)
            due = last or (r + 1) % config.eval_every == 0
            evaluation = algorithm.evaluate(state, data, report.participants) if due else None
            before, pending = pending, _Pending(r, report, evaluation)
            if before is not None:  # read one round late, so that the devices never wait for the host
                self._read(before)
            # A checkpoint never runs ahead of the record: first the row, on disk, then the state.
            if last or self.stop or (r + 1) % config.checkpoint.every == 0:
                self._read(pending)
                pending = None
                self._save(strip(state), r + 1)
                done = r + 1
        if self.row is None:  # stopped before the first round
            return {"complete": False, "rounds": done}
        return metrics.summarise(self.row, self.totals, done, done == config.rounds)

    def _read(self, pending: _Pending) -> None:
        """Fetch a round's report, write its row, show it."""
        report, evaluation = jax.device_get((pending.report, pending.evaluation))
        metrics.check_finite(pending.round, report)
        now = time.monotonic()
        billed = self.algorithm.bill(report.counts)
        self.row, self.totals = metrics.make_row(
            pending.round, report, evaluation, billed, self.totals, now - self._read_at
        )
        self._read_at = now
        clients = metrics.client_rows(pending.round, report, evaluation) if evaluation else []
        self.writer.write(self.row, clients)
        self.progress.row(self.row, self.totals)

    def _save(self, state: Any, rounds: int) -> None:
        record = {"totals": self.totals, "row": self.row, "facts": self.facts}
        self.checkpoints.save(rounds, state, record)
        complete = rounds == self.config.rounds
        if complete:
            self.checkpoints.wait()  # a run is complete when its last state is on disk
        summary = metrics.summarise(self.row, self.totals, rounds, complete)
        workdir.write_json(self.path / "summary.json", summary)


def _data_fingerprint(data: Data) -> int:
    """A checksum of every image, label and index: a run goes on with the data it began with."""
    leaves: Iterable[np.ndarray] = jax.tree.leaves(data)
    value = 0
    for leaf in leaves:
        value = zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).reshape(-1), value)
    return value
