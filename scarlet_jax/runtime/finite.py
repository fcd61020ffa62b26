"""What stops a run: a loss, a score or a model that is not finite."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from scarlet_jax import methods
from scarlet_jax.engine.evaluation import Evaluation
from scarlet_jax.errors import UserError
from scarlet_jax.metric_tables import ROUND, SCORES
from scarlet_jax.texts import listing


class Cures(NamedTuple):
    """What may help where a number is not finite, by its cause; each completes "... may help"."""

    fit: str = "a lower config.lr"  # private training
    kd: str = "a lower config.kd_lr"  # distillation; empty where no model distils
    method: str = "a lower config.lr"  # what the server makes of finite soft labels


def cures(config: Any) -> Cures:
    """Those of a config, among the fields that are in effect."""

    def lower(*names: str) -> str:
        in_effect = [f"config.{name}" for name in names if config[name] is None or config[name] > 0]
        return f"a lower {' or '.join(in_effect)}"

    entry = methods.find(config.method.name)
    own = [f"config.method.{name}" for name in entry.parameters]
    another = f"another {' or '.join(own)}" if own else Cures().method
    kd = lower("kd_lr", "kd_momentum", "kd_weight_decay") if entry.server_distils else ""
    return Cures(lower("lr", "momentum", "weight_decay"), kd, another)


class NonFiniteError(UserError):
    """A loss became NaN or infinite."""


def check_report(
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
    learnt = cure.fit if report.server_kd_loss is None else cure.kd
    for architecture, tested in (evaluation.servers if evaluation is not None else {}).items():
        of = f" ({architecture})" if architecture else ""
        server += [
            (f"the server's test {SCORES[name].title}{of}", value, learnt) for name, value in tested.sums.items()
        ]
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
        kept = "the server's model" if getattr(state, "server", None) is not None else "the state of the method"
        who = f"the model of client {listing(sorted(bad))}" if bad else kept
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
