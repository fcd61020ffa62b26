"""From rows to files: metrics.jsonl, metrics.csv, clients.csv, TensorBoard, W&B."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scarlet_jax import row_files
from scarlet_jax.errors import UserError, bad_field
from scarlet_jax.metric_tables import client_columns
from scarlet_jax.row_files import Row
from scarlet_jax.runtime.workdir import keep_aside, write_text
from scarlet_jax.texts import listing

_log = logging.getLogger(__name__)


class Writer:
    """Appends rows to the files of a workdir. A row is on disk when `write` returns.

    Args:
      workdir: of the run.
      rounds: rounds done; whatever lies beyond is cut off, because it is about to be computed again.
      wandb: `config.wandb`, and `run_id`: of the run there.
      prototypes: whether clients.csv has scores by the nearest prototype.
    """

    def __init__(self, workdir: Path, rounds: int, wandb: Any, run_id: str, prototypes: bool = False):
        from tensorboardX import SummaryWriter  # slow to import

        self._workdir = workdir
        self._jsonl, self._csv, self._clients = (workdir / f for f in ("metrics.jsonl", "metrics.csv", "clients.csv"))
        rows, self._client_columns = mend(workdir, rounds, prototypes)
        self._columns = _columns(rows)
        self._sizes = {path: _size(path) for path in (self._jsonl, self._csv, self._clients)}  # as this run left them
        board = workdir / "tensorboard"
        number = len(list(board.glob("events.*")))  # names hold the second: a start within the same one would overwrite
        self._board = SummaryWriter(str(board), purge_step=rounds, filename_suffix=f".{number:04}")
        for row in rows if not number else ():  # the folder was deleted
            self._show(row)
        self._wandb = _start_wandb(workdir, wandb, run_id) if wandb.mode != "off" else None

    def write(self, row: Row, clients: list[Row]) -> None:
        """Append one round.

        Raises:
          UserError: somebody removed or changed what this run has written.
        """
        self.check_place()
        if not set(row) <= set(self._columns):  # the first row, or the program has learnt to count something else
            self._columns = _columns([dict.fromkeys(self._columns), row])
            _rewrite(self._csv, _csv_text(row_files.read_metrics(self._workdir).rows, self._columns))
            self._sizes[self._csv] = _size(self._csv)
        self._sizes[self._jsonl] = _append(self._jsonl, json.dumps(row) + "\n")
        self._sizes[self._csv] = _append(self._csv, _csv_text([row], self._columns, header=False))
        if clients:
            text = _csv_text(clients, self._client_columns, header=not self._sizes[self._clients])
            self._sizes[self._clients] = _append(self._clients, text)
        self._show(row)
        if self._wandb is not None:
            self._wandb.log(_numbers(row), step=row["round"])

    def close(self) -> None:
        """Finish the mirrors."""
        self._board.close()
        if self._wandb is not None:
            self._wandb.finish()

    def _show(self, row: Row) -> None:
        for name, value in _numbers(row).items():
            self._board.add_scalar(name, value, row["round"])
        self._board.flush()

    def check_place(self) -> None:
        """Notice that somebody removed, moved or changed what this run has written.

        Raises:
          UserError: what is gone.
        """
        check_place(self._workdir, _LASTING, [p.name for p, size in self._sizes.items() if _size(p) != size])

    def check_place_after_failure(self, lost: Sequence[str]) -> None:
        """The same after an error, which may have left a file half written; `lost` is known to be gone, too."""
        check_place(self._workdir, _LASTING, [*(p.name for p, n in self._sizes.items() if n and not _size(p)), *lost])


STAYING = (".lock", "config.json")  # from the beginning; nobody but the user removes them
_LASTING = (*STAYING, "environment.json", "checkpoints")  # from the first round on


def check_place(workdir: Path, names: Sequence[str] = STAYING, changed: Sequence[str] = ()) -> None:
    """Notice that a workdir was taken away under a running run.

    Raises:
      UserError: `names` that are missing, and `changed`.
    """
    gone = [name for name in names if not (workdir / name).exists()]
    if gone or changed:
        raise UserError(
            f"workdir {workdir} was deleted, moved or changed while the run wrote to it "
            f"({', '.join([*gone, *changed])}); the run stops, because the rest could not be resumed: bring back what "
            "was there, then the same command goes on from the newest checkpoint."
        )


def mend(workdir: Path, rounds: int, prototypes: bool = False) -> tuple[list[Row], tuple[str, ...]]:
    """Make the records of the first `rounds` rounds whole again, and cut off what lies beyond.

    metrics.jsonl and metrics.csv restore each other. A damaged file that has lost what cannot be restored is copied
    to a name beside it first.

    Returns:
      The rows of metrics, and the columns of clients.csv.
    """
    rows = _mend_metrics(workdir, rounds)
    return rows, _mend_clients(workdir, rounds, rows, prototypes)


def _mend_metrics(workdir: Path, rounds: int) -> list[Row]:
    jsonl, table = workdir / "metrics.jsonl", workdir / "metrics.csv"
    found = row_files.read_metrics(workdir)
    rows = [row for row in found.rows if row["round"] < rounds]
    lost = sorted(set(range(rounds)) - {row["round"] for row in rows})
    for path, parsed, other in ((jsonl, found.jsonl, table), (table, found.csv, jsonl)):
        restored = [row["round"] for row in rows if row["round"] not in parsed.rows]
        if restored:
            _log.warning("%s had lost %s: restored from %s", path, _rounds(restored), other.name)
        elif parsed.bad and not lost:
            _log.warning("%s: %s left out; nothing is missing", path, _bad_lines(parsed))
    if lost:
        spoilt = [path for path, parsed in ((jsonl, found.jsonl), (table, found.csv)) if parsed.bad or parsed.tail]
        kept = [str(keep_aside(path)) for path in spoilt]
        where = f"; the damaged files are kept as {' and '.join(kept)}" if kept else ""
        _log.warning("%s and %s lack %s, which cannot be restored%s", jsonl, table.name, _rounds(lost), where)
    _rewrite(jsonl, "".join(json.dumps(row) + "\n" for row in rows))
    _rewrite(table, _csv_text(rows, _columns(rows)) if rows else "")
    return rows


def _mend_clients(workdir: Path, rounds: int, rows: list[Row], prototypes: bool) -> tuple[str, ...]:
    """Columns that this program has and the file lacks are added, and stay empty in its lines."""
    path, known = workdir / "clients.csv", client_columns(prototypes)
    found = row_files.read_clients(workdir, prototypes)
    lost = [r["round"] for r in rows if _evaluated(r) and len(found.rows.get(r["round"], ())) < r["participants"]]
    if lost:
        kept = keep_aside(path) if found.bad or found.tail else None
        where = f"; the damaged file is kept as {kept}" if kept else ""
        _log.warning("%s lacks clients of %s, which cannot be restored%s", path, _rounds(lost), where)
    elif found.bad:
        _log.warning("%s: %s left out; nothing is missing", path, _bad_lines(found))
    lines = [line for round_ in sorted(found.rows) if round_ < rounds for line in found.rows[round_]]
    if not lines:
        _rewrite(path, "")
        return known
    columns = tuple(dict.fromkeys((*found.columns, *known)))
    empty = "," * (len(columns) - len(found.columns))
    _rewrite(path, "".join(f"{line}\n" for line in [",".join(columns), *(line + empty for line in lines)]))
    return columns


def _evaluated(row: Row) -> bool:
    return any(row.get(name) is not None for name in ("server_loss", "client_loss"))


def _rounds(numbers: list[int]) -> str:
    """Rounds for people, who count them from 0 as the files do."""
    return f"round{'s' if len(numbers) > 1 else ''} {listing(numbers)}"


def _bad_lines(parsed: row_files.Parsed) -> str:
    numbers = listing(parsed.bad)
    return f"lines {numbers} are no rows and are" if len(parsed.bad) > 1 else f"line {numbers} is no row and is"


def check_wandb(wandb_config: Any) -> None:
    """Refuse a mirror that cannot be written, before anything is computed.

    Raises:
      UserError: wandb is asked for and not installed.
    """
    if wandb_config.mode != "off" and importlib.util.find_spec("wandb") is None:
        raise bad_field(
            "wandb.mode",
            wandb_config.mode,
            "off, or an installation with wandb (in the source folder, pip install -c constraints.txt -e '.[wandb]')",
            "but wandb is not installed",
        )


def _start_wandb(workdir: Path, wandb_config: Any, run_id: str) -> Any:
    import wandb

    # The id is the workdir's own: two runs of one name stay two, and a resumed one goes on where it was.
    return wandb.init(
        project=wandb_config.project,
        name=workdir.absolute().name,
        id=run_id,
        dir=str(workdir),
        mode=wandb_config.mode,
        resume="allow",
    )


def _numbers(row: Row) -> Row:
    return {name: value for name, value in row.items() if name != "round" and value is not None}


def _columns(rows: list[Row]) -> list[str]:
    """Names of all fields, in the order in which they come up."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _size(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _append(path: Path, text: str) -> int:
    """Write to the end of a file, down to the disk; the bytes that it then has."""
    with open(path, "a") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


def _rewrite(path: Path, text: str) -> None:
    """Give a file this content where it has another; it goes when nothing is left."""
    if not text:
        path.unlink(missing_ok=True)
    elif not path.exists() or path.read_bytes() != text.encode():
        write_text(path, text)


def _csv_text(rows: list[Row], columns: Sequence[str], header: bool = True) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
