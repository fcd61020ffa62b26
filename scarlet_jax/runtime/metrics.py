"""From a round's report to numbers: a row, the clients' rows, the summary; and what stops a run."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from scarlet_jax import methods
from scarlet_jax.engine.evaluation import Evaluation, PublicValidation
from scarlet_jax.engine.scores import Scores
from scarlet_jax.errors import UserError
from scarlet_jax.methods.base import RoundReport
from scarlet_jax.metric_tables import LEDGERS, ROUND, SCORES, client_columns, scored
from scarlet_jax.protocol.ledger import Bytes
from scarlet_jax.tables import load
from scarlet_jax.texts import listing

Row = dict[str, Any]
Totals = dict[str, Any]  # integers; None where a method bills nothing

# Losses and accuracies of training: the fields of a report that are columns as they are.
TRAINING = tuple(name for name in RoundReport._fields if name not in ("participants", "counts", "metrics"))
MANY_CLASSES = 100  # from so many classes on, top-5 is the number that is named first, as in the reference


class Cures(NamedTuple):
    """What may help where a number is not finite, by its cause; each completes "... may help"."""

    fit: str = "a lower config.lr"  # private training
    kd: str = "a lower config.kd_lr"  # distillation; empty where no model distils
    method: str = "a lower config.lr"  # what the server makes of finite soft labels


def cures(config: Any) -> Cures:
    """Those of a config, among the fields that are in effect."""

    def lower(*names: str) -> str:
        in_effect = [f"config.{name}" for name in names if config[name] > 0]
        return f"a lower {' or '.join(in_effect)}"

    entry = methods.find(config.method.name)
    own = [f"config.method.{name}" for name in entry.parameters]
    another = f"another {' or '.join(own)}" if own else Cures().method
    kd = lower("kd_lr", "kd_momentum", "kd_weight_decay") if entry.server_distils else ""
    return Cures(lower("lr", "momentum", "weight_decay"), kd, another)


class NonFiniteError(UserError):
    """A loss became NaN or infinite."""


def no_totals() -> Totals:
    """Running totals before round 0. Python integers: they never overflow, and travel with the checkpoint."""
    names = [f"{direction}_bytes_{ledger}" for ledger in LEDGERS for direction in ("uplink", "downlink")]
    return dict.fromkeys([*names, "drawn", "hit"], 0)


def check_finite(
    round_: int, report: Any, evaluation: Evaluation | None, saved: int = 0, may_help: Cures | None = None
) -> None:
    """Stop at a number that is not finite: the first one in the order in which a round computes them.

    Args:
      round_: its number.
      report: of the round, on the host.
      evaluation: None in a round without one.
      saved: rounds that the newest checkpoint holds.
      may_help: of the config.

    Raises:
      NonFiniteError: names the number, the round and the client, and the field that may be the cause.
    """
    participants, cure = np.asarray(report.participants), may_help or Cures()
    clients = [("distillation loss", participants, report.kd_loss, cure.kd)]
    # From the second round on, a client distils before it trains.
    before = round_ and report.kd_loss is not None
    trained = f"{cure.fit}, or {cure.kd}," if before else cure.fit
    clients += [("training loss", participants, report.fit_loss, trained)]
    if evaluation is not None and evaluation.clients is not None:
        ids, sums = np.asarray(evaluation.ids), evaluation.clients.sums
        clients += [(f"test {SCORES[name].title}", ids, values, cure.fit) for name, values in sums.items()]
    for name, ids, values, own in clients:
        bad = ids[~_finite_rows(values)] if values is not None else ids[:0]
        if bad.size:
            raise _not_finite(round_, f"the {name} of client {listing(bad)}", own, saved)
    labels = sorted((report.metrics or {}).items(), key=lambda item: not ROUND[item[0]].uploads)  # uploads come first
    server = [
        (f"the {ROUND[name].title}", value, cure.fit if ROUND[name].uploads else cure.method) for name, value in labels
    ]
    server += [("the server's distillation loss", report.server_kd_loss, cure.kd)]
    tested = evaluation.server.sums if evaluation is not None and evaluation.server is not None else {}
    learnt = cure.fit if report.server_kd_loss is None else cure.kd
    server += [(f"the server's test {SCORES[name].title}", value, learnt) for name, value in tested.items()]
    for what, value, own in server:
        if value is not None and not np.isfinite(value).all():
            raise _not_finite(round_, what, own, saved)


def check_state(round_: int, state: Any, saved: int = 0, may_help: Cures | None = None) -> None:
    """Stop before a state that is not finite is saved: the last update may spoil a model whose losses were still fine.

    Args:
      round_: the round that made it.
      state: exactly K clients, stacked per group under `clients`. Waits for the devices.
      saved: rounds that the newest checkpoint holds.
      may_help: of the config.

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
        who = f"the model of client {listing(sorted(bad))}" if bad else "the server's model"
        own = may_help or Cures()
        raise _not_finite(round_, who, ", or ".join(filter(None, (own.fit, own.kd))), saved, " after its last step")


def _not_finite(round_: int, what: str, cure: str, saved: int, after: str = "") -> NonFiniteError:
    """The sentence: what is not finite, what is left of the run, and what may help.

    A run that has left no row may be started again in its directory with another config. `after` the round it has one.
    """
    left = f"the checkpoint after {saved} rounds stays" if saved else "no checkpoint was saved yet"
    elsewhere = " in another --workdir" if saved or after or round_ else ""
    return NonFiniteError(f"round {round_}: {what} is not finite{after}; {left}, and {cure} may help{elsewhere}.")


def _finite_rows(values: Any) -> np.ndarray:
    """Whether all numbers of each client are finite: [M, ...] -> bool[M]."""
    return np.isfinite(np.asarray(values)).reshape(len(values), -1).all(1)


def _finite(leaf: np.ndarray) -> bool:
    return not np.issubdtype(leaf.dtype, np.inexact) or bool(np.isfinite(leaf).all())


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

    With clients of several architectures, columns such as `client_top1_cnn` are means over those of one.
    """
    counts = report.counts
    if counts is not None:
        drawn = int(counts.requested) + int(counts.hit)
        totals = totals | {"drawn": totals["drawn"] + drawn, "hit": totals["hit"] + int(counts.hit)}
    row: Row = {"round": round_, "participants": len(report.participants)}
    row |= _scores(evaluation)
    if len(groups) > 1:
        row |= _group_scores(evaluation, groups)
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


def client_rows(round_: int, evaluation: Evaluation) -> list[Row]:
    """One row per client evaluated: numbers of its own test samples, null for a client without any."""
    samples, names = np.asarray(evaluation.clients.samples), scored("client")
    columns = [iter(_numbers(evaluation.clients, name, np.float64).tolist()) for name in names]
    return [
        dict(
            zip(client_columns(), (round_, int(i), *(next(c) if n > 0 else None for c in columns), int(n)), strict=True)
        )
        for i, n in zip(np.asarray(evaluation.ids), samples, strict=True)
    ]


def _scores(evaluation: Evaluation | None) -> Row:
    own = evaluation.clients if evaluation else None
    val = evaluation.client_val if evaluation else None
    public = evaluation.public_val if evaluation else None
    row: Row = {f"server_{name}": _server_number(evaluation, name) for name in scored("server")}
    row |= {f"client_{name}": _client_mean(own, name) for name in scored("client")}
    row["clients_evaluated"] = None if own is None else int(np.sum(np.asarray(own.samples) > 0))
    row |= {f"private_val_{name}": _client_mean(val, name) for name in scored("private_val")}
    values = [None if value is None else float(value) for value in public or (None,) * len(PublicValidation._fields)]
    return row | {f"public_val_{name}": value for name, value in zip(PublicValidation._fields, values, strict=True)}


def _group_scores(evaluation: Evaluation | None, groups: dict[str, range]) -> Row:
    row: Row = {}
    for name, ids in groups.items():
        scores = None
        if evaluation is not None:
            own = np.isin(np.asarray(evaluation.ids), ids)
            scores = jax.tree.map(lambda x, own=own: np.asarray(x)[own], evaluation.clients)
        row |= {f"client_{score}_{name}": _client_mean(scores, score) for score in scored("client")}
    return row


def _client_mean(scores: Scores | None, name: str) -> float | None:
    """Mean over clients of each client's own number; clients without samples have none."""
    numbers = np.zeros(0) if scores is None else _numbers(scores, name)
    return float(np.mean(numbers)) if numbers.size else None


def _server_number(evaluation: Evaluation | None, name: str) -> float | None:
    if evaluation is None or evaluation.server is None:
        return None
    numbers = _numbers(jax.tree.map(lambda x: np.asarray(x)[None], evaluation.server), name, np.float64)
    return float(numbers[0]) if numbers.size else None


def _numbers(scores: Scores, name: str, dtype: Any = None) -> np.ndarray:
    """The number of each model that has samples, f[E'], from stacked sums [E, ...]."""
    sums, samples = np.asarray(scores.sums[name], dtype), np.asarray(scores.samples, dtype)
    kept = samples > 0
    reduce = SCORES[name].reduce
    return load(reduce)(sums[kept], samples[kept]) if reduce else sums[kept] / samples[kept]


def summarised() -> tuple[str, ...]:
    """The columns of the latest evaluation that the summary repeats."""
    columns = [f"{who}_{name}" for who in ("server", "client") for name in scored(who)]
    return *columns, "clients_evaluated"


def no_summary() -> Row:
    """The summary before round 0."""
    return {"complete": False, "rounds": 0} | dict.fromkeys(summarised()) | _summed(no_totals())


def summarise(summary: Row, row: Row, totals: Totals) -> Row:
    """The summary after one more round: scores of the latest evaluation, and bytes in both ledgers."""
    evaluated = row["clients_evaluated"] is not None
    scores = {key: (row if evaluated else summary).get(key) for key in summarised()}
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


def averaged_over(evaluated: int | None, num_clients: int, everyone: bool, server_model: bool) -> str:
    """Whose scores a mean client score is the mean of, for people.

    Args:
      evaluated: clients evaluated that have test images; None before the first evaluation.
      num_clients: K.
      everyone: whether all clients are evaluated, be it that all take part.
      server_model: whether clients keep no models of their own, and are evaluated with the server's.
    """
    if evaluated is None:
        return ""
    if not everyone:
        who = f"the {evaluated} participants last evaluated"
    elif evaluated == num_clients:
        who = f"all {evaluated} clients"
    else:
        who = f"the {evaluated} of {num_clients} clients that have test images"
    return f"{who} (the server's model)" if server_model else who


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
    for ledger in LEDGERS:
        up, down = (summary[f"{d}_bytes"][ledger] for d in ("uplink", "downlink"))
        if up is not None:
            lines.append(f"  {ledger + ' ledger:':18} {up / 1e6:10.3f} MB up, {down / 1e6:10.3f} MB down")
    if summary["cache_share"] is not None:
        lines.append(f"  labels served from the cache: {summary['cache_share']:.1%} of those drawn")
    return "\n".join(lines)
