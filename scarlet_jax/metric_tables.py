"""The tables of metrics: what a run measures besides losses and bytes. A metric is one entry here, and its function.

From the entries are made what devices compute, the columns of metrics.jsonl, metrics.csv, clients.csv, summary.json and
TensorBoard, the refusal of numbers that are not finite, and the figures and tables of reports. A table's order is that
of the columns. The functions are named as "module:function", see `tables`.
"""

from __future__ import annotations

from typing import NamedTuple

LEDGERS = ("reference", "wire")  # in which bytes are counted, see `protocol.ledger`


class Score(NamedTuple):
    """An evaluation metric: a sum over labelled images of what the model's logits are worth, made a number on the host.

    Its columns are `server_NAME`, `client_NAME` (mean over the clients evaluated) and so on, and `NAME` in clients.csv.
    """

    # logits f32[B, C], labels i32[B] -> [B, ...] of each image, traced. Padding is left out of the sum.
    value: str
    title: str  # as in the heading of a table
    unit: str = ""
    # sum f[..., *], samples f[...] -> f[...], in NumPy: the number of each model; samples > 0. "": sum / samples.
    reduce: str = ""
    higher: bool = True  # whether a higher number is better
    # Models and images that are scored: the server and the clients on test images, clients on their validation images.
    of: tuple[str, ...] = ("server", "client", "private_val")
    reported: bool = True  # whether reports have a figure and a table of it
    # Whether the value takes, in the place of logits, how near the features are to the prototype of each class. Only
    # runs of a method with prototypes have such a column, and only for clients on test images.
    prototypes: bool = False

    @property
    def label(self) -> str:
        """Title and unit, for an axis."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


_SCORES = "scarlet_jax.engine.scores"
SCORES: dict[str, Score] = {
    "top1": Score(f"{_SCORES}:top1", "top-1 accuracy"),
    "top5": Score(f"{_SCORES}:top5", "top-5 accuracy", of=("server", "client"), reported=False),
    "loss": Score(f"{_SCORES}:cross_entropy", "loss", "nats", higher=False, reported=False),
    "prototype_top1": Score(f"{_SCORES}:top1", "top-1 accuracy by nearest prototype", of=("client",), prototypes=True),
}


class RoundMetric(NamedTuple):
    """A number made of a round's soft labels, for methods that distil: a column of its name, and a panel in reports."""

    # probs f32[M, P, C] and sent bool[M, P], the uploads; protocol.round.Served, the list -> f32[], traced. Rows that
    # were not sent, or not kept, must not count.
    value: str
    title: str
    unit: str
    uploads: bool = False  # whether it is made of the uploads alone, so that training decides it and not the method


_LABELS = "scarlet_jax.methods.label_metrics"
ROUND: dict[str, RoundMetric] = {
    "target_entropy": RoundMetric(f"{_LABELS}:target_entropy", "entropy of the teacher", "nats (uniform: log C)"),
    "disagreement": RoundMetric(
        f"{_LABELS}:disagreement", "disagreement among clients", "Jensen-Shannon divergence (nats)", uploads=True
    ),
}


def scored(who: str, prototypes: bool = False) -> tuple[str, ...]:
    """The evaluation metrics of "server", "client" or "private_val", in the order of their columns.

    Args:
      who: whose.
      prototypes: whether the method has prototypes.
    """
    return tuple(name for name, score in SCORES.items() if who in score.of and prototypes >= score.prototypes)


def client_columns(prototypes: bool = False) -> tuple[str, ...]:
    """The columns of clients.csv, of a method with or without prototypes."""
    return ("round", "client", *scored("client", prototypes), "samples")
