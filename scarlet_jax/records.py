"""From rows to files: metrics.jsonl, metrics.csv, clients.csv, TensorBoard, W&B."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import logging
import os
from pathlib import Path
from typing import Any

from scarlet_jax.errors import bad_field
from scarlet_jax.metrics import CLIENT_FIELDS, Row
from scarlet_jax.workdir import write_text

_log = logging.getLogger(__name__)


class Writer:
    """Appends rows to the files of a workdir. A row is on disk when `write` returns.

    Args:
      workdir: of the run.
      rounds: rounds done; whatever lies beyond is cut off, because it is about to be computed again.
      wandb: `config.wandb`, and `run_id`: of the run there.
    """

    def __init__(self, workdir: Path, rounds: int, wandb: Any, run_id: str):
        from tensorboardX import SummaryWriter  # slow to import

        self._workdir = workdir
        self._jsonl, self._csv, self._clients = (workdir / f for f in ("metrics.jsonl", "metrics.csv", "clients.csv"))
        self._cut(rounds)
        board = workdir / "tensorboard"
        number = len(list(board.glob("events.*")))  # names hold the second: a start within the same one would overwrite
        self._board = SummaryWriter(str(board), purge_step=rounds, filename_suffix=f".{number:04}")
        self._wandb = _start_wandb(workdir, wandb, run_id) if wandb.mode != "off" else None

    def write(self, row: Row, clients: list[Row]) -> None:
        """Append one round."""
        _append(self._jsonl, json.dumps(row) + "\n")
        _append(self._csv, _csv_text([row], header=not self._csv.exists()))
        if clients:
            _append(self._clients, _csv_text(clients, header=not self._clients.exists()))
        numbers = {k: v for k, v in row.items() if k != "round" and v is not None}
        for name, value in numbers.items():
            self._board.add_scalar(name, value, row["round"])
        self._board.flush()
        if self._wandb is not None:
            self._wandb.log(numbers, step=row["round"])

    def close(self) -> None:
        """Finish the mirrors."""
        self._board.close()
        if self._wandb is not None:
            self._wandb.finish()

    def _cut(self, rounds: int) -> None:
        """Keep what the checkpoint knows: a last line half written by a killed process goes too."""
        rows = [row for row in read_rows(self._workdir) if row["round"] < rounds]
        if len(rows) < rounds:
            _log.warning("%s holds %d of the %d rounds done: the others are lost", self._jsonl, len(rows), rounds)
        _rewrite(self._jsonl, "".join(json.dumps(row) + "\n" for row in rows))
        _rewrite(self._csv, _csv_text(rows, header=True) if rows else "")
        lines = self._clients.read_text().splitlines(keepends=True)[1:] if self._clients.exists() else []
        kept = "".join(line for line in lines if line.endswith("\n") and int(line.split(",")[0]) < rounds)
        _rewrite(self._clients, ",".join(CLIENT_FIELDS) + "\n" + kept if kept else "")


def read_rows(workdir: Path) -> list[Row]:
    """The rows of metrics.jsonl, up to the first that is not whole."""
    path = workdir / "metrics.jsonl"
    rows: list[Row] = []
    for line in path.read_text(errors="replace").splitlines(keepends=True) if path.exists() else []:
        try:
            row = json.loads(line) if line.endswith("\n") else None
        except ValueError:
            row = None
        if not isinstance(row, dict):
            break
        rows.append(row)
    return rows


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


def _append(path: Path, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _rewrite(path: Path, text: str) -> None:
    """Replace a file, or remove it when nothing is left."""
    if text:
        write_text(path, text)
    else:
        path.unlink(missing_ok=True)


def _csv_text(rows: list[Row], header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
