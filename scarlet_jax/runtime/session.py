"""The host loop: load, resume, dispatch rounds, read metrics one round late, checkpoint, stop cleanly.

Where `config.stop` sets a bound, the metrics of a round are read before the next one is dispatched.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import NamedSharding
from ml_collections import config_dict

from scarlet_jax import build, methods
from scarlet_jax.data import participants
from scarlet_jax.engine.feed import Feed
from scarlet_jax.engine.layout import REPLICATED
from scarlet_jax.engine.phases import shapes
from scarlet_jax.methods.base import Algorithm
from scarlet_jax.metric_tables import LEDGERS
from scarlet_jax.options import fields
from scarlet_jax.runtime import checkpoint, finite, hosts, metrics, opening, signals, stopping, writers
from scarlet_jax.runtime import workdir as workdirs
from scarlet_jax.runtime.progress import Progress, RoundClock
from scarlet_jax.runtime.stages import Stages
from scarlet_jax.runtime.start import Ready, Start
from scarlet_jax.runtime.trace import Profile

Say = Callable[[str], None]


class _Pending(NamedTuple):
    """A round that was dispatched and not read yet."""

    round: int
    report: Any
    evaluation: Any
    times: Callable[[], tuple[float, float]]  # its seconds, and when it ended; waits until it has


class Session:
    """One start of a run: the loop over rounds, and what it writes.

    Args:
      config: valid; nothing changes it.
      path: the workdir, which this process has locked.
      stop: whether a signal asks the run to stop.
      opened: what the workdir holds.
      say: prints a sentence for the user, or nothing in a quiet run.
      stages: shows what takes long before the first round.
      kept: the folder that compiled programs are kept in; None: they are not kept.
    """

    ready: Ready
    checkpoints: checkpoint.Checkpoints

    def __init__(
        self,
        config: config_dict.ConfigDict,
        path: Path,
        stop: signals.Stop,
        opened: opening.Opened,
        say: Say,
        stages: Stages,
        kept: Path | None,
    ):
        self.config, self.path, self.stop, self.opened = config, path, stop, opened
        self.say, self.stages, self.kept = say, stages, kept
        self.mesh = build.make_mesh(config)
        self.progress: Progress | None = None
        self.totals, self.summary = metrics.no_totals(), metrics.no_summary()
        self.done = 0  # rounds that a checkpoint holds
        self.writer: writers.Writer | None = None  # only the first process has one
        self._may_help = finite.cures(config)
        self.prototypes = methods.find(config.method.name).prototypes

    def poll(self) -> None:
        """Called by the main thread while the loop works."""
        if self.progress is not None:
            self.progress.poll()

    def run(self) -> metrics.Row:
        """Set up, train, close; returns the summary."""
        try:
            return self._run()
        except Exception:
            if self.writer is not None:  # where something is gone, whatever failed did so for that reason
                self.writer.check_place_after_failure(self.checkpoints.lost())
            raise

    def _run(self) -> metrics.Row:
        config = self.config
        how = self.stop, self.say, self.stages, self.kept
        self.ready = Start(config, self.path, self.mesh, self.opened, *how).set_up()
        algorithm, feed = self.ready.algorithm, self.ready.feed
        self.checkpoints = checkpoint.Checkpoints(self.path, config.checkpoint.keep)
        with contextlib.closing(self.checkpoints):
            state = self._start(algorithm, feed)
            self.stop.check()
            with contextlib.ExitStack() as stack:
                if hosts.is_first():
                    run_id = self.ready.run_id
                    writer = writers.Writer(self.path, self.done, config.wandb, run_id, self.prototypes)
                    self.writer = stack.enter_context(contextlib.closing(writer))
                blocks = algorithm.population.blocks
                self.progress = progress = Progress(config.rounds, self.done, blocks, self.stages.quiet)
                traced = fields.round_range(config.profile_rounds) if hosts.is_first() else None
                profile = Profile(traced or range(0), self.path / "profile", self.say)
                try:
                    self._loop(algorithm, state, feed, progress, profile)
                finally:
                    profile.close()
                    progress.stop()
        hosts.largest(0)  # the others wait here for the one that writes, which may take long to close
        return self.summary

    def _start(self, algorithm: Algorithm, feed: Feed) -> Any:
        """The state to go on from; `done`, `totals` and `summary` go with it."""
        data = feed.evaluation(0)
        padded = shapes(algorithm.init, data)
        # K clients need not divide by the devices, so checkpoints are read replicated and then spread.
        replicated = NamedSharding(self.mesh, REPLICATED)
        abstract = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=replicated),
            jax.eval_shape(algorithm.population.strip, padded),
        )
        if not self.opened.found and self.opened.begun:
            self.say("no checkpoint to resume from: starting with round 1")
        with self.stages("reading the checkpoint" if self.opened.found else "making the models"):
            found = self.checkpoints.restore(self.opened.found, abstract, self.ready.facts)
            if algorithm.draws.given is not None and hosts.is_first():
                workdirs.write_text(self.path / "participants.csv", participants.as_text(algorithm.draws.given))
            if found is None:
                return jax.block_until_ready(algorithm.init(data))
        self.done, self.totals, self.summary = found.rounds, found.record["totals"], found.record["summary"]
        self.say(f"resuming after {found.rounds} rounds")
        self._write_summary()  # with more rounds to do it is not complete; with none left it is
        return jax.jit(algorithm.population.pad, out_shardings=algorithm.population.shardings(padded))(found.state)

    def _loop(self, algorithm: Algorithm, state: Any, feed: Feed, progress: Progress, profile: Profile) -> None:
        config = self.config
        # Every process checks, and can write, all of the state it saves, also where K does not divide by the devices.
        replicated = NamedSharding(self.mesh, REPLICATED)
        strip = jax.jit(algorithm.population.strip, out_shardings=replicated if hosts.several() else None)
        pending: list[_Pending] = []
        leave = 0 if stopping.bounded(config.stop) else 1

        def read(most: int) -> None:
            while len(pending) > most:
                self._read(pending.pop(0), algorithm, progress)

        self.stop.training = True
        clock = RoundClock()
        for r in range(self.done, self.done if self._ended(self.done) else config.rounds):
            profile.before(r, state)
            began = clock.now()
            state, report = algorithm.round(state, feed.training(r), progress=progress.dispatched)
            last = r + 1 == config.rounds or self._spends(algorithm, report)
            due = last or (r + 1) % config.eval_every == 0
            evaluation = algorithm.evaluate(state, feed.evaluation(r), report.participants) if due else None
            profile.after(r, (state, evaluation))
            pending.append(_Pending(r, report, evaluation, clock.watch(began, (report, evaluation))))
            read(leave)  # one round late without a bound, so that the devices never wait for the host
            last = last or (not leave and self._ended(r + 1))
            interrupted = self.stop.ask()  # asked once a round: a signal that comes later stops the next one
            if last or interrupted or (r + 1) % config.checkpoint.every == 0:
                # A checkpoint never runs ahead of the record: first the row, on disk, then the state.
                read(0)
                self._save(strip(state), r + 1)
            if last or interrupted:
                return

    def _spends(self, algorithm: Algorithm, report: Any) -> bool:
        """Whether a round reaches the bound of bytes, so that it is the last and is evaluated; waits for the round."""
        if self.config.stop.megabytes is None:
            return False
        billed = algorithm.bill(jax.device_get(report))[LEDGERS[0]]
        before = [self.totals[f"{direction}_bytes_{LEDGERS[0]}"] for direction in billed._fields]
        return stopping.spent(self.config.stop, [*before, *billed])

    def _ended(self, rounds: int) -> bool:
        """Whether the run is complete after so many rounds, whose rows are read."""
        return rounds == self.config.rounds or stopping.reached(self.config.stop, self.summary) is not None

    def _read(self, pending: _Pending, algorithm: Algorithm, progress: Progress) -> None:
        """Fetch a round's report, write its row, show it."""
        report, evaluation = jax.device_get((pending.report, pending.evaluation))
        finite.check_report(pending.round, report, evaluation, self.done, self._may_help)
        seconds, ended = pending.times()
        billed = algorithm.bill(report)
        own = self.prototypes
        of_groups = algorithm.population.client_ids, algorithm.population.server_names, own
        row, self.totals = metrics.make_row(pending.round, report, evaluation, billed, self.totals, seconds, *of_groups)
        self.summary = metrics.summarise(self.summary, row, self.totals)
        if self.writer is not None:
            self.writer.write(row, metrics.client_rows(pending.round, evaluation, own) if evaluation else [])
        progress.row(row, self.totals, ended)

    def _save(self, state: Any, rounds: int) -> None:
        """Begin a checkpoint; the run's first and last ones are on disk when this returns."""
        finite.check_state(rounds - 1, state, self.done, self._may_help)
        self._check_place()
        own = {"run": self.ready.run_id, "config": json.loads(self.config.to_json())}
        own |= {"choices": self.ready.choices, "facts": self.ready.facts}
        own |= {"participants": participants.record(self.ready.algorithm.draws.given)}
        record = own | {"totals": self.totals, "summary": self.summary}
        self.checkpoints.save(rounds, state, record)
        if not self.done or self._ended(rounds):
            self.checkpoints.wait()  # where there is a summary there is a checkpoint
            self._check_place()
        self.done = rounds
        self._write_summary()

    def _check_place(self) -> None:
        if self.writer is not None:
            self.writer.check_place()

    def _write_summary(self) -> None:
        config = self.config
        over = metrics.averaged_over(
            self.summary["clients_evaluated"],
            config.num_clients,
            build.evaluates_all(config),
            0 if methods.find(config.method.name).own_models else len(build.server_models(config)),
        )
        own = {"complete": self._ended(self.done), "stopped": stopping.reached(config.stop, self.summary)}
        # A new one: Orbax may still be writing the record that holds the old one.
        self.summary = self.summary | own | {"headline": self.ready.headline, "client_mean_over": over}
        if hosts.is_first():
            workdirs.write_json(self.path / "summary.json", self.summary)
