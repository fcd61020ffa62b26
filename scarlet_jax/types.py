"""Records that travel between modules. Shapes use the letters of the README's vocabulary:

K clients, M participants of a round, N public pool, P public samples drawn per round, C classes.
Every record is a NamedTuple and therefore a pytree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from scarlet_jax.protocol import ledger

Array = Any  # a jax.Array or a NumPy array
PyTree = Any


class Split(NamedTuple):
    """One part of the private (or test) images, divided among the clients."""

    rows: Array  # i32[K, n_max] rows of the flat store, in the client's order; padding repeats 0
    size: Array  # i32[K] how many of them are real; 0 is allowed


class Data(NamedTuple):
    """All images of a federation: flat uint8 stores, and indices into them. Never a stacked copy per client.

    In the place of an image store there may be a `stores.Window` on it, or a `stores.HostStore`, see `feed`.
    """

    private_image: Array  # u8[n, H, W, channels]
    private_label: Array  # i32[n]
    test_image: Array  # u8[t, H, W, channels]
    test_label: Array  # i32[t]
    public_image: Array  # u8[N, H, W, channels] the unlabelled pool, validation part removed
    public_val_image: Array  # u8[V, H, W, channels] held out from distillation; V may be 0
    train: Split  # into private_*
    val: Split  # into private_*, disjoint from train; all sizes 0 without private validation
    test: Split  # into test_*


class ModelState(NamedTuple):
    """One model with its two optimizers; a group of clients is the same record with a leading client axis."""

    params: PyTree
    batch_stats: PyTree
    fit_optimizer: PyTree  # cross-entropy on private data
    kd_optimizer: PyTree  # distillation on public data


class Labels(NamedTuple):
    """What a method makes of a round's soft labels."""

    target: jax.Array  # f32[P, C] the teacher the server distils from
    payload: jax.Array | None = None  # f32[P, ...] what is broadcast; None: the target
    keep: jax.Array | None = None  # bool[P] samples the round goes on with; None: all that anyone sent


class Method(NamedTuple):
    """What a distillation method changes. The shared round in `distillation` does everything else."""

    # constants, key, round i32[], probs f32[M, P, C], sent bool[M, P] -> Labels
    aggregate: Callable[..., Labels]
    # The method's own cache duration D, when the config leaves cache.duration open.
    duration: int = 0
    # seed, Data -> constants: computed once at each start, on the host; the same every time. Of abstract Data (shapes
    # instead of arrays, see `phases`) the shapes of what it would return.
    setup: Callable[..., PyTree] = lambda seed, data: ()
    # constants -> bool[K, N]: the public samples each client answers for; None: all. `answers`: and says which.
    sends: Callable[..., Array] | None = None
    answers: bool = False
    # comm.Channel -> comm.Codec: how labels travel, each way.
    uplink: Callable[..., ledger.Codec] = ledger.soft_label
    downlink: Callable[..., ledger.Codec] = ledger.soft_label
    # Outputs f32[P, C] of the server model, in training mode during its last distillation epoch -> payload f32[P, ...];
    # for methods that broadcast something else than the target or what `aggregate` made.
    publish: Callable[..., Array] | None = None
    # payload f32[P, ...], own prediction f32[P, C], choice u8[P], fresh bool[P] -> target f32[P, C], choice u8[P];
    # for methods whose clients make their own target of what they received. `fresh`: just received, choose anew.
    decode: Callable[..., tuple[Array, Array]] | None = None
    # logits f32[B, C], target f32[B, C] -> f32[B]: the clients' distillation loss; None: KL(target || softmax).
    kd_loss: Callable[..., Array] | None = None


class Algorithm(NamedTuple):
    """What the host loop knows of a method."""

    init: Callable[..., Any]  # Data -> State
    round: Callable[..., Any]  # State, Data, progress -> State (the old one is donated), RoundReport
    calls: Callable[..., Any]  # State, Data, as shapes -> [phases.Call] of a round, which is not computed
    evaluate: Callable[..., Evaluation]  # State, Data, participants i32[M] -> Evaluation
    bill: Callable[..., Any]  # RoundReport, on the host -> {ledger: comm.Bytes}; empty: nothing to bill
    shardings: Callable[..., Any]  # State -> its shardings
    blocks: int  # progress calls of one round
    groups: dict[str, range]  # architecture -> ids of the clients that have it
    strip: Callable[..., Any]  # State -> State with exactly K clients, for a checkpoint
    pad: Callable[..., Any]  # the reverse
    schedule: Any  # feed.Schedule: participants and public samples of every round


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


class Evaluation(NamedTuple):
    """Sums over samples; division by `samples` happens on the host. None where a method has no such model or data."""

    server: Any  # Scores of f32[]
    clients: Any  # Scores of f32[E], each client evaluated on its own test part
    client_val: Any  # Scores of f32[E], each client evaluated on its own validation part, or None
    public_val: Any  # PublicValidation, or None
    ids: Any = None  # i32[E] the clients evaluated, ascending: the participants, or all


class PublicValidation(NamedTuple):
    """The server model against its clients on public images it never distilled from."""

    loss: jax.Array  # f32[] KL(mean of the clients evaluated || server), mean over samples
    agreement: jax.Array  # f32[] share of samples on which their arg-max is the same
