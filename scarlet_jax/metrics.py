"""From a round's report to a row, and from rows to files: metrics.jsonl, metrics.csv, clients.csv, TensorBoard, W&B."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from scarlet_jax.comm import LEDGERS, Bytes
from scarlet_jax.errors import UserError
from scarlet_jax.types import Evaluation
from scarlet_jax.workdir import write_text

Row = dict[str, Any]
Totals = dict[str, int]

CLIENT_FIELDS = ("round", "client", "top1", "top5", "loss", "samples")


class NonFiniteError(UserError):
    """A loss became NaN or infinite."""


def no_totals() -> Totals:
    """Running totals before round 0. Python integers: they never overflow, and travel with the checkpoint."""
    names = [f"{direction}_bytes_{ledger}" for ledger in LEDGERS for direction in ("uplink", "downlink")]
    return dict.fromkeys([*names, "drawn", "hit"], 0)


def check_finite(round_: int, report: Any) -> None:
    """Stop at a loss that is not finite.

    Raises:
      NonFiniteError: names the loss, the round and the client.
    """
    for name in ("fit_loss", "kd_loss"):
        bad = np.flatnonzero(~np.isfinite(np.asarray(getattr(report, name))))
        if bad.size:
            who = ", ".join(str(i) for i in np.asarray(report.participants)[bad][:5])
            raise NonFiniteError(f"round {round_}: the {name} of client {who} is not finite; a lower lr may help.")
    if not np.isfinite(report.server_kd_loss):
        raise NonFiniteError(f"round {round_}: the server's distillation loss is not finite; a lower kd_lr may help.")


def make_row(
    round_: int, report: Any, evaluation: Evaluation | None, billed: dict[str, Bytes], totals: Totals, seconds: float
) -> tuple[Row, Totals]:
    """One row of metrics.jsonl, and the new totals. Scores are null in rounds without evaluation."""
    counts = report.counts
    drawn = int(counts.requested) + int(counts.hit)
    totals = totals | {"drawn": totals["drawn"] + drawn, "hit": totals["hit"] + int(counts.hit)}
    row: Row = {"round": round_, "participants": len(report.participants)}
    row |= _scores(evaluation)
    row |= {
        "fit_loss": float(np.mean(report.fit_loss)),
        "fit_accuracy": float(np.mean(report.fit_accuracy)),
        "kd_loss": float(np.mean(report.kd_loss)),
        "server_kd_loss": float(report.server_kd_loss),
        "target_entropy": float(report.target_entropy),
        "disagreement": float(report.disagreement),
        "requested": int(counts.requested),
        "hit": int(counts.hit),
        "stale": int(counts.stale),
        "caught_up": int(np.sum(counts.caught_up)),
    }
    for ledger, volume in billed.items():
        for direction, value in volume._asdict().items():
            name = f"{direction}_bytes_{ledger}"
            totals[name] += value
            row[name], row[f"total_{name}"] = value, totals[name]
    row["seconds"] = round(seconds, 3)
    return row, totals


def client_rows(round_: int, report: Any, evaluation: Evaluation) -> list[Row]:
    """One row per participant: shares of its own test samples, null for a client without any."""
    scores = evaluation.clients
    columns = [np.asarray(x) for x in (report.participants, scores.top1, scores.top5, scores.loss, scores.count)]
    return [
        dict(zip(CLIENT_FIELDS, (round_, int(i), *(_share(x, n) for x in sums), int(n)), strict=True))
        for i, *sums, n in zip(*columns, strict=True)
    ]


def _scores(evaluation: Evaluation | None) -> Row:
    def server(field):
        scores = evaluation.server if evaluation else None
        return _share(getattr(scores, field), scores.count) if scores else None

    def clients(scores, field):
        """Mean over clients of each client's own share; clients without samples have none."""
        if scores is None:
            return None
        sums, count = np.asarray(getattr(scores, field)), np.asarray(scores.count)
        return float(np.mean(sums[count > 0] / count[count > 0])) if np.any(count > 0) else None

    own = evaluation.clients if evaluation else None
    val = evaluation.client_val if evaluation else None
    public = evaluation.public_val if evaluation else None
    return {
        "server_top1": server("top1"),
        "server_top5": server("top5"),
        "server_loss": server("loss"),
        "client_top1": clients(own, "top1"),
        "client_top5": clients(own, "top5"),
        "client_loss": clients(own, "loss"),
        "private_val_top1": clients(val, "top1"),
        "private_val_loss": clients(val, "loss"),
        "public_val_loss": float(public.loss) if public else None,
        "public_val_agreement": float(public.agreement) if public else None,
    }


def _share(total: Any, count: Any) -> float | None:
    return float(total) / float(count) if count > 0 else None


class Writer:
    """Appends rows to the files of a workdir. A row is on disk when `write` returns.

    Args:
      workdir: of the run.
      rounds: rounds done; whatever lies beyond is cut off, because it is about to be computed again.
      wandb: `config.wandb`, and `name`: of the run there.
    """

    def __init__(self, workdir: Path, rounds: int, wandb: Any, name: str):
        from tensorboardX import SummaryWriter  # slow to import

        self._workdir = workdir
        self._jsonl, self._csv, self._clients = (workdir / f for f in ("metrics.jsonl", "metrics.csv", "clients.csv"))
        self._cut(rounds)
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=rounds, write_to_disk=True)
        self._wandb = _start_wandb(workdir, wandb, name) if wandb.mode != "off" else None

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
        if self._jsonl.exists():
            write_text(self._jsonl, "".join(json.dumps(row) + "\n" for row in rows))
        if self._csv.exists():
            write_text(self._csv, _csv_text(rows, header=True) if rows else "")
        if self._clients.exists():
            lines = self._clients.read_text().splitlines(keepends=True)
            kept = [x for x in lines[1:] if x.endswith("\n") and int(x.split(",")[0]) < rounds]
            write_text(self._clients, "".join(lines[:1] + kept))
        for path in (self._csv, self._clients):
            if path.exists() and path.stat().st_size == 0:
                path.unlink()


def read_rows(workdir: Path) -> list[Row]:
    """The rows of metrics.jsonl; a last one half written is left out."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def summarise(row: Row, totals: Totals, rounds: int, complete: bool) -> Row:
    """What summary.json holds: the last scores, and bytes in both ledgers."""
    summary = {"complete": complete, "rounds": rounds}
    summary |= {k: row[k] for k in ("server_top1", "server_top5", "server_loss", "client_top1", "client_loss")}
    for direction in ("uplink", "downlink"):
        name = f"{direction}_bytes"
        summary[name] = {ledger: totals[f"{name}_{ledger}"] for ledger in LEDGERS}
    summary["cache_share"] = totals["hit"] / totals["drawn"] if totals["drawn"] else None
    return summary


def summary_text(summary: Row) -> str:
    """The summary for people."""

    def share(value):
        return "-" if value is None else f"{value:.4f}"

    lines = [f"{summary['rounds']} rounds: server top-1 {share(summary['server_top1'])}, mean client top-1 "
             f"{share(summary['client_top1'])}"]  # fmt: skip
    for ledger in LEDGERS:
        up, down = (summary[f"{d}_bytes"][ledger] / 1e6 for d in ("uplink", "downlink"))
        lines.append(f"  {ledger + ' ledger:':18} {up:10.3f} MB up, {down:10.3f} MB down")
    if summary["cache_share"] is not None:
        lines.append(f"  labels served from the cache: {summary['cache_share']:.1%} of those drawn")
    return "\n".join(lines)


def _append(path: Path, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _csv_text(rows: list[Row], header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _start_wandb(workdir: Path, wandb_config: Any, name: str) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            f"wandb.mode is {wandb_config.mode!r}, but wandb is not installed; "
            'install it with pip install "scarlet_jax[wandb]", or set wandb.mode to off.'
        ) from error
    return wandb.init(
        project=wandb_config.project, name=name, id=name, dir=str(workdir), mode=wandb_config.mode, resume="allow"
    )
