"""The two records that describe a method: `Method` for distillation methods, `Algorithm` for all.

A distillation method is a `Method`, a handful of pure functions, of which `distillation.make` makes an `Algorithm`. A
method of another kind makes its `Algorithm` itself. The loop over rounds knows algorithms only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from scarlet_jax.engine import phases
from scarlet_jax.engine.by_class import ClassVectors
from scarlet_jax.engine.evaluation import Evaluation
from scarlet_jax.engine.feed import Schedule
from scarlet_jax.engine.population import Population
from scarlet_jax.protocol import ledger
from scarlet_jax.protocol.draws import Draws
from scarlet_jax.protocol.round import Labels, Uploads
from scarlet_jax.types import Array, PyTree


class Method(NamedTuple):
    """What a distillation method changes. The shared round in `distillation` does everything else."""

    # state, Uploads -> Labels, state. `stateless` makes this function for a method without a state of its own.
    aggregate: Callable[[PyTree, Uploads], tuple[Labels, PyTree]]
    # Data -> the state before round 0: a pytree of arrays that is carried from round to round and checkpointed. It is
    # called while tracing.
    init: Callable[..., PyTree] = lambda data: ()
    # seed, Data -> bool[K, N], the public samples that each client answers for. It is computed in NumPy on the host at
    # every start, and never checkpointed. None: every client answers for all samples.
    answers: Callable[..., Array] | None = None
    # ledger.Channel -> ledger.Codec: how a label is encoded in each direction, and what it costs.
    uplink: Callable[[ledger.Channel], ledger.Codec] = ledger.soft_label
    downlink: Callable[[ledger.Channel], ledger.Codec] = ledger.soft_label
    # f32[P, C] -> payload f32[P, ...], from the predictions of the server model during its last distillation epoch (in
    # training mode). None: what is broadcast is the target, or the payload that `aggregate` returned.
    publish: Callable[[Array], Array] | None = None
    # payload f32[P, ...], prediction f32[P, C], choice u8[P], fresh bool[P] -> target f32[P, C], choice u8[P]. With it,
    # a client makes its own target of a payload and its own model's prediction. `choice` is kept for cached payloads;
    # where `fresh`, the payload has just been received and the client chooses anew. None: the payload is the target.
    decode: Callable[..., tuple[Array, Array]] | None = None
    # state, payload f32[P, ...], ids i32[M] -> target f32[M, P, C]. With it, the payload stays on the server. When the
    # next round begins, this function makes the labels that are sent to each of its participants. There is no cache,
    # because a label is of one client alone. None: all clients are sent the payload.
    teach: Callable[[PyTree, Array, Array], Array] | None = None
    # logits f32[B, C], target f32[B, C] -> f32[B], the clients' distillation loss. None: KL(target || softmax(logits)).
    kd_loss: Callable[..., Array] | None = None
    # Whether clients upload logits instead of soft labels. The mean that is distilled and cached is then of logits, and
    # the metrics of a round are of their softmax. `comm.label_bits` must be 32: the quantiser is for probabilities.
    logits: bool = False
    # Epochs of private training in a client's first participation, before it distils. None of them counts as `epochs`.
    warmup_epochs: int = 0


def stateless(aggregate: Callable[[Uploads], Labels | Array]) -> Callable[[PyTree, Uploads], tuple[Labels, PyTree]]:
    """Make the `Method.aggregate` of a method that has no state.

    Args:
      aggregate: Uploads -> the target f32[P, C], or Labels.
    """

    def carried(state: PyTree, uploads: Uploads) -> tuple[Labels, PyTree]:
        made = aggregate(uploads)
        return made if isinstance(made, Labels) else Labels(made), state

    return carried


# Population, Draws, Settings, Data (arrays or their shapes) -> Algorithm. The builder of a method that does not distil
# returns such a function.
Make = Callable[..., "Algorithm"]


class RoundReport(NamedTuple):
    """What a round reports to the host, which may read it later. None if a method has no such number.

    Each loss and accuracy is a column of metrics.jsonl by its name, and so are the `metrics`.
    """

    participants: Array  # i32[M]
    fit_loss: Array  # f32[M]
    fit_accuracy: Array  # f32[M]
    counts: ledger.Counts | None = None
    classes: ledger.ClassCounts | None = None
    kd_loss: Array | None = None  # f32[M] of the clients; 0 if the broadcast was empty
    server_kd_loss: Array | None = None  # f32[]; f32[S] where the server has S models
    metrics: dict[str, Array] | None = None  # name in `metric_tables.ROUND` -> f32[]


class Algorithm(NamedTuple):
    """What the loop over rounds knows of a method.

    Each method has its own State: a NamedTuple with the field `clients`, and `server` if there is a server model.
    """

    population: Population
    draws: Draws
    init: Callable[..., Any]  # Data -> State before round 0, see `Population.init`
    round: Callable[..., Any]  # State, Data, progress -> State, RoundReport; the given State is donated
    bill: Callable[[RoundReport], dict[str, ledger.Bytes]]  # on the host, by ledger; {} if nothing is billed
    reads_all: bool = False  # whether every round reads all private images at once
    # State -> the mean features of each class, by which clients are also evaluated; None: by their logits alone
    prototypes: Callable[[Any], ClassVectors] | None = None

    def evaluate(self, state: Any, data: Any, participants: jax.Array) -> Evaluation:
        """Scores of the server on the whole test set, and of the participants i32[M] on their own test parts."""
        near = None if self.prototypes is None else self.prototypes(state)
        return self.population.evaluate(state.clients, getattr(state, "server", None), data, participants, near)

    def calls(self, state: Any, data: Any) -> list[phases.Call]:
        """The phases of a round, for a state and data that hold shapes instead of arrays. Nothing is computed."""
        with phases.recording() as found:
            self.round(state, data)
        return list(found)

    @property
    def schedule(self) -> Schedule:
        """Participants and public samples of every round, as NumPy arrays on the host."""
        return Schedule(self.draws, self.population.layouts, self.reads_all, self.population.largest_batch)
