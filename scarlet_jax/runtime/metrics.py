"""From a round's report to numbers: a row, the clients' rows, the summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from scarlet_jax.engine.evaluation import Evaluation, PublicValidation
from scarlet_jax.engine.scores import Scores
from scarlet_jax.methods.base import RoundReport
from scarlet_jax.metric_tables import LEDGERS, ROUND, SCORES, client_columns, scored
from scarlet_jax.protocol.ledger import Bytes
from scarlet_jax.tables import load

Row = dict[str, Any]
Totals = dict[str, Any]  # integers; None where a method bills nothing

# Losses and accuracies of training: the fields of a report that are columns as they are.
TRAINING = tuple(name for name in RoundReport._fields if name not in ("participants", "counts", "classes", "metrics"))
_PROTOTYPES = tuple(f"client_{name}" for name, score in SCORES.items() if score.prototypes)  # columns of few methods
# From so many classes on, top-5 is the number that is named first. This rule is ours: the reference names top-5 for
# CIFAR-100 alone.
MANY_CLASSES = 100


def no_totals() -> Totals:
    """Running totals before round 0. Python integers: they never overflow, and travel with the checkpoint."""
    names = [f"{direction}_bytes_{ledger}" for ledger in LEDGERS for direction in ("uplink", "downlink")]
    return dict.fromkeys([*names, "drawn", "hit"], 0)


def make_row(
    round_: int,
    report: Any,
    evaluation: Evaluation | None,
    billed: dict[str, Bytes],
    totals: Totals,
    seconds: float,
    groups: dict[str, range],
    servers: Sequence[str] = (),
    prototypes: bool = False,
) -> tuple[Row, Totals]:
    """One row of metrics.jsonl, and the new totals. Scores are null in rounds without evaluation.

    With `prototypes`, scores by the nearest prototype are among them.

    With clients of several architectures, columns such as `client_top1_cnn` are means over those of one. Where the
    server has models of several architectures, which `servers` names, `server_top1` is the mean over them, and a column
    such as `server_top1_cnn` is that of one.
    """
    counts = report.counts
    if counts is not None:
        drawn = int(counts.requested) + int(counts.hit)
        totals = totals | {"drawn": totals["drawn"] + drawn, "hit": totals["hit"] + int(counts.hit)}
    row: Row = {"round": round_, "participants": len(report.participants)}
    names = scored("client", prototypes)
    row |= _scores(evaluation, names)
    for name in servers:
        own = [evaluation.servers[name]] if evaluation else []
        row |= {f"server_{score}_{name}": _server_mean(own, score) for score in scored("server")}
    if len(groups) > 1:
        row |= _group_scores(evaluation, groups, names)
    labels = report.metrics or {}
    for name, value in [(n, getattr(report, n)) for n in TRAINING] + [(n, labels.get(n)) for n in ROUND]:
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
    row["seconds"] = round(seconds, 6)  # small federations take less than a millisecond
    return row, totals


def client_rows(round_: int, evaluation: Evaluation, prototypes: bool = False) -> list[Row]:
    """One row per client evaluated: numbers of its own test samples, null for a client without any."""
    scores, ids = evaluation.clients, np.asarray(evaluation.ids)
    samples = np.asarray(scores.samples)
    columns = [[round_] * len(ids), ids.tolist()]
    for name in scored("client", prototypes):
        column = np.full(len(ids), None)
        column[samples > 0] = _numbers(scores, name, np.float64)
        columns.append(column.tolist())
    columns.append(samples.astype(int).tolist())
    return [dict(zip(client_columns(prototypes), row, strict=True)) for row in zip(*columns, strict=True)]


def _scores(evaluation: Evaluation | None, client_scores: Sequence[str]) -> Row:
    own = evaluation.clients if evaluation else None
    val = evaluation.client_val if evaluation else None
    servers = list(evaluation.servers.values()) if evaluation else []
    row: Row = {f"server_{name}": _server_mean(servers, name) for name in scored("server")}
    row |= {f"client_{name}": _client_mean(own, name) for name in client_scores}
    row["clients_evaluated"] = None if own is None else int(np.sum(np.asarray(own.samples) > 0))
    row |= {f"private_val_{name}": _client_mean(val, name) for name in scored("private_val")}
    public = evaluation.public_val if evaluation else None
    models = list(public.values()) if isinstance(public, dict) else [public] if public else []
    for place, name in enumerate(PublicValidation._fields):
        row[f"public_val_{name}"] = float(np.mean([model[place] for model in models], dtype=float)) if models else None
    return row


def _group_scores(evaluation: Evaluation | None, groups: dict[str, range], client_scores: Sequence[str]) -> Row:
    row: Row = {}
    for name, ids in groups.items():
        scores = None
        if evaluation is not None:
            own = np.isin(np.asarray(evaluation.ids), ids)
            scores = jax.tree.map(lambda x, own=own: np.asarray(x)[own], evaluation.clients)
        row |= {f"client_{score}_{name}": _client_mean(scores, score) for score in client_scores}
    return row


def _client_mean(scores: Scores | None, name: str) -> float | None:
    """Mean over clients of each client's own number; clients without samples have none."""
    numbers = np.zeros(0) if scores is None else _numbers(scores, name)
    return float(np.mean(numbers)) if numbers.size else None


def _server_mean(servers: Sequence[Scores], name: str) -> float | None:
    """Mean over the server's models of each one's number; None where there is no model, or no image."""
    if not servers:
        return None
    numbers = _numbers(jax.tree.map(lambda *x: np.stack(x), *servers), name, np.float64)
    return float(np.mean(numbers)) if numbers.size else None


def _numbers(scores: Scores, name: str, dtype: Any = None) -> np.ndarray:
    """The number of each model that has samples, f[E'], from stacked sums [E, ...]."""
    sums, samples = np.asarray(scores.sums[name], dtype), np.asarray(scores.samples, dtype)
    kept = samples > 0
    reduce = SCORES[name].reduce
    return load(reduce)(sums[kept], samples[kept]) if reduce else sums[kept] / samples[kept]


def summarised() -> tuple[str, ...]:
    """The columns of the latest evaluation that every summary repeats."""
    columns = [f"{who}_{name}" for who in ("server", "client") for name in scored(who)]
    return *columns, "clients_evaluated"


def no_summary() -> Row:
    """The summary before round 0."""
    return {"complete": False, "rounds": 0} | dict.fromkeys(summarised()) | _summed(no_totals())


def summarise(summary: Row, row: Row, totals: Totals) -> Row:
    """The summary after one more round: scores of the latest evaluation, and bytes in both ledgers."""
    evaluated = row["clients_evaluated"] is not None
    own = [name for name in _PROTOTYPES if name in row]
    scores = {key: (row if evaluated else summary).get(key) for key in (*summarised(), *own)}
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


def averaged_over(evaluated: int | None, num_clients: int, everyone: bool, server_models: int) -> str:
    """Whose scores a mean client score is the mean of, for people.

    Args:
      evaluated: clients evaluated that have test images; None before the first evaluation.
      num_clients: K.
      everyone: whether all clients are evaluated, be it that all take part.
      server_models: where clients keep no models of their own, with how many of the server's they are evaluated; 0
        where they have their own.
    """
    if evaluated is None:
        return ""
    if not everyone:
        who = f"the {evaluated} participants last evaluated"
    elif evaluated == num_clients:
        who = f"all {evaluated} clients"
    else:
        who = f"the {evaluated} of {num_clients} clients that have test images"
    return f"{who} (the server's model{'s' if server_models > 1 else ''})" if server_models else who


def summary_text(summary: Row) -> str:
    """The summary for people; where top-5 is its headline, it comes first and top-1 in the next line."""

    def share(value):
        return "-" if value is None else f"{value:.4f}"

    def scores(name):
        shown = f"top-{name[-1]}"
        return (
            f"server {shown} {share(summary[f'server_{name}'])}, mean client {shown} {share(summary[f'client_{name}'])}"
        )

    first, over = summary.get("headline", "top1"), summary.get("client_mean_over")
    rounds = "1 round" if summary["rounds"] == 1 else f"{summary['rounds']} rounds"
    lines = [f"{rounds}: {scores(first)}{f' over {over}' if over else ''}"]
    lines += [f"  {scores('top1')}"] if first != "top1" else []
    lines += [
        f"  mean client top-1 by the nearest prototype {share(summary[name])}"
        for name in _PROTOTYPES
        if name in summary
    ]
    for ledger in LEDGERS:
        up, down = (summary[f"{d}_bytes"][ledger] for d in ("uplink", "downlink"))
        if up is not None:
            lines.append(f"  {ledger + ' ledger:':18} {up / 1e6:10.3f} MB up, {down / 1e6:10.3f} MB down")
    if summary["cache_share"] is not None:
        lines.append(f"  labels served from the cache: {summary['cache_share']:.1%} of those drawn")
    if summary.get("stopped"):
        lines.append(f"  ended because {summary['stopped']}; a higher bound, or none, continues the run")
    return "\n".join(lines)
