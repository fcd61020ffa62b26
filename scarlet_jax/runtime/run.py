"""Train a federation in a workdir, or resume it: check, open, train in a thread that can be stopped, summarise."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from ml_collections import config_dict

from scarlet_jax import methods
from scarlet_jax.models.precision import note
from scarlet_jax.options import fields
from scarlet_jax.options.rules import validate
from scarlet_jax.options.without_effect import without_effect
from scarlet_jax.preview import checks
from scarlet_jax.runtime import backend, hosts, metrics, opening, program_cache, signals, writers
from scarlet_jax.runtime import workdir as workdirs
from scarlet_jax.runtime.session import Session
from scarlet_jax.runtime.stages import Stages
from scarlet_jax.runtime.streams import say
from scarlet_jax.system_errors import refusing
from scarlet_jax.training_tables import remarks


def run(config: config_dict.ConfigDict, workdir_path: str | Path, quiet: bool = False) -> metrics.Row:
    """Train a federation, or resume it; returns what summary.json holds.

    Args:
      config: of configs/base.py's fields; it is not changed.
      workdir_path: where everything is written. An unfinished run found there is resumed; a finished one is summarised.
      quiet: print nothing, for notebooks. Warnings still go to Python's logging.

    Raises:
      UserError: one sentence about what the user can mend.
      SystemExit: with 128 + signal number, after SIGINT or SIGTERM has stopped the run at a round's end.
    """
    config = fields.plain(config)
    path, stop = Path(workdir_path), signals.Stop()
    hosts.together(lambda: _check(config))
    hosts.check_same(
        [json.loads(config.to_json()), str(path)],
        "the processes were given different configs or workdirs; use the same.",
    )
    say = _silent if quiet else _say
    rates = remarks(config, methods.find(config.method.name).server_distils)
    for sentence in filter(None, [*without_effect(config), *rates, note(config.model.precision)]):
        say(sentence)
    with _sentences(path), contextlib.ExitStack() as stack, signals.installed(stop):
        hosts.from_first(lambda: stack.enter_context(workdirs.lock(path)))
        opened = opening.open_run(path, config)
        say(f"workdir: {path}")
        if opened.summary is not None:
            say(f"this run is finished\n{metrics.summary_text(opened.summary)}")
            return opened.summary
        frozen = config_dict.FrozenConfigDict(config)
        kept = stack.enter_context(program_cache.kept(config.compilation_cache))
        session = Session(frozen, path, stop, opened, say, Stages(quiet or not hosts.is_first()), kept)
        try:
            summary = signals.run_watched(session.run, session.poll, stop)
        except signals.Stopped:
            summary = metrics.no_summary()
    if stop.agreed is not None and not summary["complete"]:
        name, rounds = signal.Signals(stop.agreed).name, session.done
        say(f"stopped by {name} after {rounds} rounds; the same command resumes it")
        raise SystemExit(128 + stop.agreed)
    say(metrics.summary_text(summary))
    return summary


def _say(text: str) -> None:
    if hosts.is_first():
        say(text)


@contextlib.contextmanager
def _sentences(path: Path) -> Iterator[None]:
    """What the system refuses a run becomes one sentence, without Orbax's own reports of the same error."""

    def others(record: logging.LogRecord) -> bool:
        return f"{os.sep}orbax{os.sep}" not in record.pathname or record.levelno < logging.ERROR

    log = logging.getLogger("absl")
    log.addFilter(others)
    with refusing("training", "The same command then resumes the run.", path):
        yield
    log.removeFilter(others)  # not after an error: Orbax's threads go on reporting it


def _silent(text: str) -> None:
    """In place of `_say` in a quiet run."""


def _check(config: config_dict.ConfigDict) -> None:
    validate(config)
    checks.check(config)
    backend.check(config.deterministic)
    writers.check_wandb(config.wandb)
