"""What a run finds in its workdir before it loads data: nothing, a run to go on with, or a reason to refuse."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import config_dict

from scarlet_jax import build, methods, names, row_files
from scarlet_jax.data import participants
from scarlet_jax.errors import UserError
from scarlet_jax.runtime import checkpoint_record, hosts, metrics, stopping, workdir, writers
from scarlet_jax.runtime.checkpoint_record import Found
from scarlet_jax.runtime.environment import read_environment


class Opened(NamedTuple):
    """A workdir whose files fit together and fit the config. All of it is JSON."""

    begun: bool  # an earlier start left something to go on from
    summary: metrics.Row | None  # None: missing, torn, or of a run that is not finished
    run: str | None  # the run's id; None for a new one
    choices: dict[str, Any]  # what "auto" means in this run; empty for a new one
    found: list[Found]  # its checkpoints, newest first


def open_run(path: Path, config: config_dict.ConfigDict) -> Opened:
    """Look at what is there, compare it with the config, and write config.json; in the first process, for all.

    Raises:
      UserError: the workdir holds a run that this config cannot go on with; nothing was changed.
    """
    opened = Opened(*hosts.from_first(lambda: _open(path, config)))
    return opened._replace(found=[Found(*each) for each in opened.found])  # lists, where they come as JSON


def _open(path: Path, config: config_dict.ConfigDict) -> Opened:
    done = finished(path, config)
    if done is not None:
        writers.mend(path, done["rounds"], methods.find(config.method.name).prototypes)
        workdir.write_config(path, config)
        return Opened(True, done, None, {}, [])
    left = (path / "summary.json").exists()  # it is written once a checkpoint is on disk, so that there was one
    rows = row_files.read_metrics(path).rows
    found = checkpoint_record.survey(path)
    begun = bool(left or found or rows)  # until a run has results, its config may still change
    if begun:
        workdir.check_config(path, config)
    if not found:
        _check_lost(path, left, rows)
    whole = [each.record for each in found if each.record is not None]
    if not whole:
        checkpoint_record.refuse_damaged(path, {each.rounds: each.damage for each in found})
    environment = read_environment(path) if begun else None
    run = checkpoint_record.check_owner(path, found, environment["run"] if environment else None)
    choices = environment["starts"][-1]["choices"] if environment else whole[0]["choices"] if whole else {}
    if whole:
        newest = whole[0]["rounds"]
        _check_rounds(path, config.rounds, newest)
        _check_participants(path, config, whole[0].get("participants", []))
        checkpoint_record.check_readable(path / checkpoint_record.DIRECTORY / str(newest), whole=False)
    workdir.write_config(path, config)
    return Opened(begun, None, run, choices, found)


def finished(path: Path, config: config_dict.ConfigDict) -> metrics.Row | None:
    """The summary of a run that has done all rounds that are asked for, or ended at bounds that the config still has.

    None: there is no run in `path`, or one that this config continues.

    Raises:
      UserError: it is a run with another config.
    """
    summary = _read_summary(path)
    if summary is None or not summary["complete"]:
        return None
    ended = stopping.reached(config.stop, summary) if summary["rounds"] < config.rounds else None
    same = ended is not None and ended == summary.get("stopped")
    if summary["rounds"] != config.rounds and not same:
        return None
    workdir.check_config(path, config)
    return summary


def _read_summary(path: Path) -> metrics.Row | None:
    """summary.json; None where it is missing or torn: it is written again from the checkpoint."""
    try:
        summary = workdir.read_json(path / "summary.json")
    except UserError:
        return None
    return summary if isinstance(summary, dict) and summary.keys() >= metrics.no_summary().keys() else None


def _check_lost(path: Path, left: bool, rows: list[metrics.Row]) -> None:
    """Refuse to start anew over the records of a run that has had a checkpoint."""
    written, summary = workdir.read_config(path) or {}, _read_summary(path)
    # The first checkpoint is on disk before the row after it is written.
    if left or len(rows) > written.get("checkpoint", {}).get("every", len(rows)):
        rounds = summary["rounds"] if summary else len(rows)
        raise UserError(
            f"the run in {path} has done {rounds or 'some'} rounds, but no checkpoint is left in "
            f"{path / checkpoint_record.DIRECTORY} to go on from; restore that, or give --workdir another directory."
        )


def _check_participants(path: Path, config: config_dict.ConfigDict, before: Sequence[int]) -> None:
    """Refuse a file of participants that has changed for rounds that the run's checkpoint knows."""
    changed = participants.changed(before, participants.record(build.draws(config).given))
    if changed is not None:
        raise UserError(
            f"config.sampling.file: {names.of_file(Path(config.sampling.file))} names other participants for round "
            f"{changed} (counted from 0) than the run in {path} was started with; bring them back from "
            f"{path / 'participants.csv'}, or give --workdir another directory."
        )


def _check_rounds(path: Path, rounds: int, done: int) -> None:
    if done > rounds:
        raise UserError(
            f"config.rounds is {rounds}, but the run in {path} has done {done}; allowed is at least {done}, or another "
            "--workdir."
        )
