"""From a round's report to numbers: a row, the clients' rows, the summary; and what stops a run."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from scarlet_jax.comm import LEDGERS, Bytes
from scarlet_jax.errors import UserError
from scarlet_jax.types import Evaluation

Row = dict[str, Any]
Totals = dict[str, Any]  # integers; None where a method bills nothing

CLIENT_FIELDS = ("round", "client", "top1", "top5", "loss", "samples")
SUMMARISED = ("server_top1", "server_top5", "server_loss", "client_top1", "client_top5", "client_loss")
MANY_CLASSES = 100  # from so many classes on, top-5 is the number that is named first, as in the reference


class NonFiniteError(UserError):
    """A loss became NaN or infinite."""


def no_totals() -> Totals:
    """Running totals before round 0. Python integers: they never overflow, and travel with the checkpoint."""
    names = [f"{direction}_bytes_{ledger}" for ledger in LEDGERS for direction in ("uplink", "downlink")]
    return dict.fromkeys([*names, "drawn", "hit"], 0)


def check_finite(round_: int, report: Any, evaluation: Evaluation | None) -> None:
    """Stop at a loss that is not finite.

    Raises:
      NonFiniteError: names the loss, the round and the client.
    """
    scores = evaluation.clients if evaluation else None
    losses = [("training loss", "lr", report.fit_loss)]
    losses += [("distillation loss", "kd_lr", report.kd_loss)] if report.kd_loss is not None else []
    losses += [("test loss", "lr", scores.loss)] if scores is not None else []
    for name, rate, values in losses:
        bad = np.asarray(report.participants)[~np.isfinite(np.asarray(values))]
        if bad.size:
            raise NonFiniteError(
                f"round {round_}: the {name} of {_clients(bad)} is not finite; the last good checkpoint stays, and a "
                f"lower {rate} may help in another --workdir."
            )
    scores = evaluation.server if evaluation else None
    own = [("distillation loss", report.server_kd_loss), ("test loss", scores.loss if scores is not None else None)]
    own += [("target entropy", report.target_entropy), ("client disagreement", report.disagreement)]
    for name, value in own:
        if value is not None and not np.isfinite(value):
            raise NonFiniteError(
                f"round {round_}: the server's {name} is not finite; the last good checkpoint stays, and a lower kd_lr "
                "may help in another --workdir."
            )


def check_state(round_: int, state: Any) -> None:
    """Stop before a state that is not finite is saved: the last update may spoil a model whose losses were still fine.

    Args:
      round_: the round that made it.
      state: exactly K clients, stacked per group under `clients`. Waits for the devices.

    Raises:
      NonFiniteError: names the round and the clients.
    """
    bad: set[int] = set()
    first = 0
    for group in state.clients:
        leaves = jax.device_get(jax.tree.leaves(group))
        for leaf in leaves:
            if not _finite(leaf):
                bad |= {first + i for i, own in enumerate(leaf) if not _finite(own)}
        first += len(leaves[0])
    rest = all(_finite(leaf) for leaf in jax.device_get(jax.tree.leaves(state._replace(clients=()))))
    if bad or not rest:
        who = f"the model of {_clients(sorted(bad))}" if bad else "the server's model"
        raise NonFiniteError(
            f"round {round_}: {who} is not finite after its last step; the last good checkpoint stays, and a lower lr "
            "or kd_lr may help in another --workdir."
        )


def _finite(leaf: np.ndarray) -> bool:
    return not np.issubdtype(leaf.dtype, np.inexact) or bool(np.isfinite(leaf).all())


def _clients(ids: Any) -> str:
    return "client " + ", ".join(str(i) for i in ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")


def make_row(
    round_: int,
    report: Any,
    evaluation: Evaluation | None,
    billed: dict[str, Bytes],
    totals: Totals,
    seconds: float,
    groups: dict[str, range],
) -> tuple[Row, Totals]:
    """One row of metrics.jsonl, and the new totals. Scores are null in rounds without evaluation.

    With clients of several architectures, columns such as `client_top1_cnn` say how those did that took part.
    """
    counts = report.counts
    if counts is not None:
        drawn = int(counts.requested) + int(counts.hit)
        totals = totals | {"drawn": totals["drawn"] + drawn, "hit": totals["hit"] + int(counts.hit)}
    row: Row = {"round": round_, "participants": len(report.participants)}
    row |= _scores(evaluation)
    if len(groups) > 1:
        row |= _group_scores(np.asarray(report.participants), evaluation, groups)
    for name in ("fit_loss", "fit_accuracy", "kd_loss", "server_kd_loss", "target_entropy", "disagreement"):
        value = getattr(report, name)
        row[name] = None if value is None else float(np.mean(value))
    for name in ("requested", "hit", "stale", "caught_up"):
        row[name] = None if counts is None else int(np.sum(getattr(counts, name)))
    for ledger in LEDGERS:
        volume = billed.get(ledger)
        for direction in Bytes._fields:
            name = f"{direction}_bytes_{ledger}"
            totals = totals | {name: totals[name] + getattr(volume, direction) if volume else None}
            row[name] = getattr(volume, direction) if volume else None
            row[f"total_{name}"] = totals[name]
    row["seconds"] = round(seconds, 3)
    return row, totals


def client_rows(round_: int, report: Any, evaluation: Evaluation) -> list[Row]:
    """One row per participant: shares of its own test samples, null for a client without any."""
    scores = evaluation.clients
    columns = [np.asarray(x) for x in (report.participants, scores.top1, scores.top5, scores.loss, scores.samples)]
    return [
        dict(zip(CLIENT_FIELDS, (round_, int(i), *(_share(x, n) for x in sums), int(n)), strict=True))
        for i, *sums, n in zip(*columns, strict=True)
    ]


def _scores(evaluation: Evaluation | None) -> Row:
    def server(field):
        scores = evaluation.server if evaluation else None
        return _share(getattr(scores, field), scores.samples) if scores else None

    own = evaluation.clients if evaluation else None
    val = evaluation.client_val if evaluation else None
    public = evaluation.public_val if evaluation else None
    return {
        "server_top1": server("top1"),
        "server_top5": server("top5"),
        "server_loss": server("loss"),
        "client_top1": _client_mean(own, "top1"),
        "client_top5": _client_mean(own, "top5"),
        "client_loss": _client_mean(own, "loss"),
        "private_val_top1": _client_mean(val, "top1"),
        "private_val_loss": _client_mean(val, "loss"),
        "public_val_loss": float(public.loss) if public else None,
        "public_val_agreement": float(public.agreement) if public else None,
    }


def _group_scores(participants: np.ndarray, evaluation: Evaluation | None, groups: dict[str, range]) -> Row:
    row: Row = {}
    for name, ids in groups.items():
        own = np.isin(participants, ids)
        scores = jax.tree.map(lambda x, own=own: np.asarray(x)[own], evaluation.clients) if evaluation else None
        row |= {f"client_{field}_{name}": _client_mean(scores, field) for field in ("top1", "top5", "loss")}
    return row


def _client_mean(scores: Any, field: str) -> float | None:
    """Mean over clients of each client's own share; clients without samples have none."""
    if scores is None:
        return None
    sums, count = np.asarray(getattr(scores, field)), np.asarray(scores.samples)
    return float(np.mean(sums[count > 0] / count[count > 0])) if np.any(count > 0) else None


def _share(total: Any, count: Any) -> float | None:
    return float(total) / float(count) if count > 0 else None


def no_summary() -> Row:
    """The summary before round 0."""
    return {"complete": False, "rounds": 0} | dict.fromkeys(SUMMARISED) | _summed(no_totals())


def summarise(summary: Row, row: Row, totals: Totals) -> Row:
    """The summary after one more round: scores of the latest evaluation, and bytes in both ledgers."""
    evaluated = row["server_top1"] is not None or row["client_top1"] is not None
    scores = {key: (row if evaluated else summary).get(key) for key in SUMMARISED}
    return {"complete": False, "rounds": row["round"] + 1} | scores | _summed(totals)


def _summed(totals: Totals) -> Row:
    bytes_ = {
        f"{direction}_bytes": {ledger: totals[f"{direction}_bytes_{ledger}"] for ledger in LEDGERS}
        for direction in ("uplink", "downlink")
    }
    return bytes_ | {"cache_share": totals["hit"] / totals["drawn"] if totals["drawn"] else None}


def headline(num_classes: int) -> str:
    """The score that sums up a run: "top1", or "top5" where classes are many."""
    return "top5" if num_classes >= MANY_CLASSES else "top1"


def summary_text(summary: Row) -> str:
    """The summary for people; where top-5 is its headline, it comes first and top-1 in the next line."""

    def share(value):
        return "-" if value is None else f"{value:.4f}"

    def scores(name):
        shown = f"top-{name[-1]}"
        return (
            f"server {shown} {share(summary[f'server_{name}'])}, mean client {shown} {share(summary[f'client_{name}'])}"
        )

    first = summary.get("headline", "top1")
    rounds = "1 round" if summary["rounds"] == 1 else f"{summary['rounds']} rounds"
    lines = [f"{rounds}: {scores(first)}"]
    lines += [f"  {scores('top1')}"] if first != "top1" else []
    for ledger in LEDGERS:
        up, down = (summary[f"{d}_bytes"][ledger] for d in ("uplink", "downlink"))
        if up is not None:
            lines.append(f"  {ledger + ' ledger:':18} {up / 1e6:10.3f} MB up, {down / 1e6:10.3f} MB down")
    if summary["cache_share"] is not None:
        lines.append(f"  labels served from the cache: {summary['cache_share']:.1%} of those drawn")
    return "\n".join(lines)
