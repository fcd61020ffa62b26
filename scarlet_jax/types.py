"""Records that travel between modules. Shapes use these letters:

K clients, M participants of a round, N public pool, P public samples drawn per round, C classes.
Every record is a NamedTuple and therefore a pytree.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Array = Any  # a jax.Array or a NumPy array
PyTree = Any


class Split(NamedTuple):
    """One part of the private (or test) images, divided among the clients."""

    rows: Array  # i32[K, n_max] rows of the flat store, in the client's order; padding repeats 0
    size: Array  # i32[K] how many of them are real; 0 is allowed


class Data(NamedTuple):
    """All images of a federation: flat uint8 stores, and indices into them. Never a stacked copy per client.

    In the place of an image store there may be a `windows.Window` on it, or a `windows.HostStore`, see `engine.feed`.
    """

    private_image: Array  # u8[n, H, W, channels]
    private_label: Array  # i32[n]
    test_image: Array  # u8[t, H, W, channels]
    test_label: Array  # i32[t]
    # u8[N, H, W, channels] the unlabelled pool, validation part removed; N is 0 where the method uses no pool
    public_image: Array
    public_val_image: Array  # u8[V, H, W, channels] held out from distillation; V may be 0
    train: Split  # into private_*
    val: Split  # into private_*, disjoint from train; all sizes 0 without private validation
    test: Split  # into test_*


class Rates(NamedTuple):
    """The numbers of one optimizer. 0 switches momentum or weight decay off and is no argument: it is None here."""

    lr: Array  # f32[]
    momentum: Array | None = None  # f32[]
    weight_decay: Array | None = None  # f32[]


class Numbers(NamedTuple):
    """The plain numbers of a run, which its compiled programs take as arguments.

    Runs that differ in these alone, as seeds and sweeps do, have the same programs. They are no part of the state: they
    come from the config at every start.
    """

    seed: Array  # u32[] from which all keys are derived
    fit: Rates  # private training
    kd: Rates  # distillation
    duration: Array | None  # i32[] D; None without a cache
    method: dict[str, Array]  # f32[] the method's own parameters by name
    schedule: Any = None  # `engine.optimizers.Cosine` or `.Step` of the learning rates; None: they are constant


class ModelState(NamedTuple):
    """One model with its two optimizers; a group of clients is the same record with a leading client axis."""

    params: PyTree
    batch_stats: PyTree
    fit_optimizer: PyTree  # cross-entropy on private data
    kd_optimizer: PyTree  # distillation on public data
