"""The host loop: load, resume, dispatch rounds, read metrics one round late, checkpoint, stop cleanly."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import NamedSharding
from ml_collections import config_dict

from scarlet_jax import backend, checkpoint, fields, fleet, hosts, memory, metrics, records, registry, signals, workdir
from scarlet_jax.data import federation as federation_data
from scarlet_jax.data.describe import write_partition
from scarlet_jax.errors import UserError
from scarlet_jax.feed import Feed
from scarlet_jax.models import conv_timing, resolve_conv
from scarlet_jax.phases import shapes
from scarlet_jax.profile import Profile
from scarlet_jax.progress import Progress
from scarlet_jax.types import Algorithm
from scarlet_jax.unused import unused_options
from scarlet_jax.validate import validate


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
    path, stop = Path(workdir_path), signals.Stop()
    hosts.together(lambda: _check(config))
    hosts.check_same(
        [json.loads(config.to_json()), str(path)],
        "the processes were given different configs or workdirs; use the same.",
    )
    for sentence in unused_options(config):
        _say(sentence)
    with contextlib.ExitStack() as stack, signals.installed(stop):
        hosts.from_first(lambda: stack.enter_context(workdir.lock(path)))
        begun, summary = hosts.from_first(lambda: _open(path, config))
        if summary and _finished(summary, config.rounds):
            _say(f"this run is finished\n{metrics.summary_text(summary)}")
            return summary
        session = _Session(config, path, stop, begun)
        try:
            summary = signals.run_watched(session.run, session.poll, stop)
        except signals.Stopped:
            summary = metrics.no_summary()
    if stop.agreed is not None and not summary["complete"]:
        name, rounds = signal.Signals(stop.agreed).name, session.done
        _say(f"stopped by {name} after {rounds} rounds; the same command resumes it")
        raise SystemExit(128 + stop.agreed)
    _say(metrics.summary_text(summary))
    return summary


def _say(text: str) -> None:
    if hosts.is_first():
        print(text, flush=True)


def _check(config: config_dict.ConfigDict) -> None:
    validate(config)
    registry.check(config)
    backend.check(config.deterministic)
    records.check_wandb(config.wandb)


def _open(path: Path, config: config_dict.ConfigDict) -> tuple[bool, metrics.Row | None]:
    """Whether the run is begun, and its summary; the config is compared and written."""
    summary = workdir.read_json(path / "summary.json")
    # Until a run leaves something to go on from, its config and its choices bind nobody.
    begun = bool(summary or checkpoint.steps(path) or records.read_rows(path))
    if begun:
        workdir.check_config(path, config)
        _check_rounds(path, config.rounds, summary)
    workdir.write_config(path, config)
    return begun, summary


def _finished(summary: metrics.Row, rounds: int) -> bool:
    return summary["complete"] and summary["rounds"] == rounds


def _check_rounds(path: Path, rounds: int, summary: metrics.Row | None) -> None:
    done = max(checkpoint.steps(path), default=0)
    # A summary is written once a checkpoint is on disk. A run without one starts anew; one that lost them must not.
    if not done and summary and not _finished(summary, rounds):
        raise UserError(
            f"the run in {path} has done {summary['rounds']} rounds, but no checkpoint is left in "
            f"{path / checkpoint.DIRECTORY} to go on from; restore that, or give --workdir another directory."
        )
    if done > rounds:
        raise UserError(
            f"rounds is {rounds}, but the run in {path} has done {done}; "
            "ask for at least as many, or give --workdir another directory."
        )


class _Pending(NamedTuple):
    """A round that was dispatched and not read yet."""

    round: int
    report: Any
    evaluation: Any


class _Session:
    """One start of a run: set-up, the loop, and what the loop writes."""

    def __init__(self, config: config_dict.ConfigDict, path: Path, stop: signals.Stop, begun: bool):
        self.config, self.path, self.stop, self.begun = config, path, stop, begun
        self.mesh = registry.make_mesh(config)
        self.progress: Progress | None = None
        self.totals, self.summary = metrics.no_totals(), metrics.no_summary()
        self.done = 0  # rounds that a checkpoint holds

    def poll(self) -> None:
        """Called by the main thread while the loop works."""
        if self.progress is not None:
            self.progress.poll()

    def run(self) -> metrics.Row:
        """Set up, train, close; returns the summary."""
        config = self.config
        algorithm, feed = self._set_up()
        self.checkpoints = checkpoint.Checkpoints(self.path, config.checkpoint.keep)
        with contextlib.closing(self.checkpoints):
            state = self._start(algorithm, feed)
            self.stop.check()
            with contextlib.ExitStack() as stack:
                self.writer: records.Writer | None = None
                if hosts.is_first():
                    writer = records.Writer(self.path, self.done, config.wandb, self.run_id)
                    self.writer = stack.enter_context(contextlib.closing(writer))
                quiet = self.writer is None
                self.progress = progress = Progress(config.rounds, self.done, algorithm.blocks, quiet)
                traced = fields.span(config.profile_rounds) if hosts.is_first() else None
                profile = Profile(traced or range(0), self.path / "profile")
                try:
                    self._loop(algorithm, state, feed, progress, profile)
                finally:
                    profile.close()
                    progress.stop()
        hosts.largest(0)  # the others wait here for the one that writes, which may take long to close
        return self.summary

    def _set_up(self) -> tuple[Algorithm, Feed]:
        """Load the data, build the algorithm, put the data in place, describe this start in the workdir."""
        config = self.config
        mesh = self.mesh
        with ThreadPoolExecutor(1) as pool:  # a compiler may build the native convolution while images are decoded
            choosing = pool.submit(self._choices)
            federation = hosts.together(lambda: federation_data.load(config))
            hosts.together(lambda: registry.check_images(config, federation.image_shape))
            choices = hosts.from_first(choosing.result)
        config.clients_per_chunk = choices["clients_per_chunk"]
        self.stop.check()
        if choices["conv"] == "timed":
            choices["conv"] = hosts.from_first(lambda: self._time_convolutions(federation.image_shape))
        config.model.conv = choices["conv"]
        data_sum = checkpoint.checksum(federation.data)
        hosts.check_same(data_sum, "the processes found different data; give all of them the same files.")
        algorithm = registry.make_algorithm(config, federation.data, federation.num_classes, mesh)
        hosts.together(lambda: memory.check(config, algorithm, federation.data, federation.num_classes, mesh))
        self.stop.check()
        self.headline = metrics.headline(federation.num_classes)
        self.facts = {
            "num_classes": federation.num_classes,
            "image_shape": list(federation.image_shape),
            "class_names": list(federation.class_names),
            "data": data_sum,  # a run goes on with the data it began with
        }

        def describe() -> str:
            if not self.begun or not (self.path / "partition.png").exists():  # the picture is written last
                write_partition(federation, self.path)
            return workdir.record_environment(self.path, choices, new=not self.begun)

        self.run_id = hosts.from_first(describe)
        self.stop.check()
        feed = Feed(federation.data, algorithm.schedule, config.data.device_budget_mb, mesh)
        if feed.on_host:
            _say("the images stay on the host (data.device_budget_mb); each block of clients is fed its own")
        return algorithm, feed

    def _choices(self) -> dict[str, Any]:
        """What "auto" means in this run; kept when it resumes, unless the user now asks for something else."""
        config, before = self.config, workdir.recorded_choices(self.path) if self.begun else {}
        named = resolve_conv(config.model.conv)  # refuses what cannot be used here
        chunk = config.clients_per_chunk or before.get("clients_per_chunk")
        return {
            "conv": before.get("conv") or ("timed" if conv_timing.wanted(config.model.conv) else named),
            "clients_per_chunk": chunk or registry.default_chunk(config.num_clients, self.mesh),
        }

    def _time_convolutions(self, image_shape: tuple[int, ...]) -> str:
        """What is fastest here, for each shape of the run's models."""
        config = self.config
        models = [(group.name, min(group.clients, config.clients_per_chunk)) for group in registry.model_groups(config)]
        _say("timing the convolutions (once for this run)")
        models.append((config.model.server, 1))
        how = image_shape, config.batch_size, config.model.dtype
        chosen = conv_timing.choose(models, *how, conv_timing.seconds)
        _say(f"convolution: {chosen}")
        return chosen

    def _start(self, algorithm: Algorithm, feed: Feed) -> Any:
        """The state to go on from; `done`, `totals` and `summary` go with it."""
        data = feed.evaluation(0)
        padded = shapes(algorithm.init, data)
        # K clients need not divide by the devices, so checkpoints are read replicated and then spread.
        replicated = NamedSharding(self.mesh, fleet.REPLICATED)
        abstract = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=replicated),
            jax.eval_shape(algorithm.strip, padded),
        )
        found = self.checkpoints.restore(abstract, self.facts)
        if found is None:
            if self.begun:
                _say("no checkpoint to resume from: starting with round 1")
            if hosts.is_first():
                (self.path / "summary.json").unlink(missing_ok=True)
            return algorithm.init(data)
        self.done, self.totals, self.summary = found.rounds, found.record["totals"], found.record["summary"]
        _say(f"resuming after {found.rounds} rounds")
        self._write_summary()  # with more rounds to do it is not complete; with none left it is
        return jax.jit(algorithm.pad, out_shardings=algorithm.shardings(padded))(found.state)

    def _loop(self, algorithm: Algorithm, state: Any, feed: Feed, progress: Progress, profile: Profile) -> None:
        config = self.config
        # Every process checks, and can write, all of the state it saves, also where K does not divide by the devices.
        replicated = NamedSharding(self.mesh, fleet.REPLICATED)
        strip = jax.jit(algorithm.strip, out_shardings=replicated if hosts.several() else None)
        pending: _Pending | None = None
        self.stop.training = True
        self._read_at = time.monotonic()
        for r in range(self.done, config.rounds):
            last = r + 1 == config.rounds
            profile.before(r, state)
            state, report = algorithm.round(state, feed.training(r), progress=progress.dispatched)
            due = last or (r + 1) % config.eval_every == 0
            evaluation = algorithm.evaluate(state, feed.evaluation(r), report.participants) if due else None
            profile.after(r, (state, evaluation))
            before, pending = pending, _Pending(r, report, evaluation)
            if before is not None:  # read one round late, so that the devices never wait for the host
                self._read(before, algorithm, progress)
            stopping = self.stop.ask()  # asked once a round: a signal that comes later stops the next one
            if last or stopping or (r + 1) % config.checkpoint.every == 0:
                # A checkpoint never runs ahead of the record: first the row, on disk, then the state.
                self._read(pending, algorithm, progress)
                pending = None
                self._save(strip(state), r + 1)
            if stopping:
                return

    def _read(self, pending: _Pending, algorithm: Algorithm, progress: Progress) -> None:
        """Fetch a round's report, write its row, show it."""
        report, evaluation = jax.device_get((pending.report, pending.evaluation))
        metrics.check_finite(pending.round, report, evaluation)
        now = time.monotonic()
        seconds, self._read_at = now - self._read_at, now
        billed = algorithm.bill(report)
        row, self.totals = metrics.make_row(
            pending.round, report, evaluation, billed, self.totals, seconds, algorithm.groups
        )
        self.summary = metrics.summarise(self.summary, row, self.totals)
        if self.writer is not None:
            self.writer.write(row, metrics.client_rows(pending.round, report, evaluation) if evaluation else [])
        progress.row(row, self.totals)

    def _save(self, state: Any, rounds: int) -> None:
        """Begin a checkpoint; the run's first and last ones are on disk when this returns."""
        metrics.check_state(rounds - 1, state)
        record = {"totals": self.totals, "summary": self.summary, "facts": self.facts}
        self.checkpoints.save(rounds, state, record)
        if not self.done or rounds == self.config.rounds:
            self.checkpoints.wait()  # where there is a summary there is a checkpoint
        self.done = rounds
        self._write_summary()

    def _write_summary(self) -> None:
        self.summary = self.summary | {"complete": self.done == self.config.rounds, "headline": self.headline}
        if hosts.is_first():
            workdir.write_json(self.path / "summary.json", self.summary)
