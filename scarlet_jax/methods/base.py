"""What a method is: the two records that every method is made of, and what the rest of the program knows of it.

A distillation method is a `Method`, a handful of pure functions; `distillation.make` turns it into an `Algorithm`. A
method of another kind makes its `Algorithm` itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from scarlet_jax.engine import phases
from scarlet_jax.engine.evaluation import Evaluation
from scarlet_jax.engine.feed import Schedule
from scarlet_jax.engine.population import Population
from scarlet_jax.protocol import ledger
from scarlet_jax.protocol.draws import Draws
from scarlet_jax.protocol.round import Labels, Uploads
from scarlet_jax.types import Array, PyTree


class Method(NamedTuple):
    """What a distillation method changes. The shared round in `distillation` does everything else."""

    # state, Uploads -> Labels, state. A method without a state of its own: `stateless`.
    aggregate: Callable[[PyTree, Uploads], tuple[Labels, PyTree]]
    # Data -> state before round 0: a pytree of arrays, carried from round to round and checkpointed. Traced.
    init: Callable[..., PyTree] = lambda data: ()
    # seed, Data -> bool[K, N], in NumPy on the host, made anew at every start: the public samples that each client
    # answers for, which it tells the server. None: every client answers for all.
    answers: Callable[..., Array] | None = None
    # ledger.Channel -> ledger.Codec: how a label travels, each way.
    uplink: Callable[[ledger.Channel], ledger.Codec] = ledger.soft_label
    downlink: Callable[[ledger.Channel], ledger.Codec] = ledger.soft_label
    # Outputs f32[P, C] of the server model, in training mode during its last distillation epoch -> payload f32[P, ...],
    # where something else is broadcast than the target or what `aggregate` made.
    publish: Callable[[Array], Array] | None = None
    # payload f32[P, ...], own prediction f32[P, C], choice u8[P], fresh bool[P] -> target f32[P, C], choice u8[P],
    # where clients make their own target of what they received. `fresh`: just received, choose anew.
    decode: Callable[..., tuple[Array, Array]] | None = None
    # logits f32[B, C], target f32[B, C] -> f32[B]: the clients' distillation loss; None: KL(target || softmax).
    kd_loss: Callable[..., Array] | None = None


def stateless(aggregate: Callable[[Uploads], Labels | Array]) -> Callable[[PyTree, Uploads], tuple[Labels, PyTree]]:
    """The `Method.aggregate` of a method that carries nothing from round to round.

    Args:
      aggregate: Uploads -> the target f32[P, C], or Labels.
    """

    def carried(state: PyTree, uploads: Uploads) -> tuple[Labels, PyTree]:
        made = aggregate(uploads)
        return made if isinstance(made, Labels) else Labels(made), state

    return carried


# Population, Draws, Settings, Data (arrays or their shapes) -> Algorithm: what the builder of another method returns.
Make = Callable[..., "Algorithm"]


class RoundReport(NamedTuple):
    """What a round tells the host; read when it is convenient. None where a method has no such thing."""

    participants: Array  # i32[M]
    fit_loss: Array  # f32[M]
    fit_accuracy: Array  # f32[M]
    counts: ledger.Counts | None = None
    kd_loss: Array | None = None  # f32[M] of the clients, 0 where the broadcast was empty
    server_kd_loss: Array | None = None  # f32[]
    target_entropy: Array | None = None  # f32[] mean over the list, nats
    disagreement: Array | None = None  # f32[] Jensen-Shannon divergence of the rows that were sent, nats


class Algorithm(NamedTuple):
    """What the host loop knows of a method. Its State has a field `clients`, and `server` where there is a server."""

    population: Population
    draws: Draws
    init: Callable[..., Any]  # Data -> State before round 0, see `Population.init`
    round: Callable[..., Any]  # State, Data, progress -> State (the old one is donated), RoundReport
    bill: Callable[[RoundReport], dict[str, ledger.Bytes]]  # on the host; {} where there is nothing to bill
    reads_all: bool = False  # whether every round reads all private images at once

    def evaluate(self, state: Any, data: Any, participants: jax.Array) -> Evaluation:
        """Scores of the server on the whole test set and of the participants i32[M] on their own parts."""
        return self.population.evaluate(state.clients, getattr(state, "server", None), data, participants)

    def calls(self, state: Any, data: Any) -> list[phases.Call]:
        """The phases of a round, for a state and data of shapes instead of arrays; nothing is computed."""
        with phases.recording() as found:
            self.round(state, data)
        return list(found)

    @property
    def schedule(self) -> Schedule:
        """Participants and public samples of every round, for the host."""
        return Schedule(self.draws, self.population.layouts, self.reads_all)
