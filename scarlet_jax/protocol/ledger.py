"""From the counts of a round to bytes, in two ledgers, in exact Python integers.

`reference` bills what the paper's code bills: float32 probabilities, int64 indices, signals and hard labels. `wire`
bills what a careful implementation would send, in bits; the message of each participant in a round is rounded up to
whole bytes. Without a cache (D = 0) neither bills signals. There `reference` departs from the paper's code, in which
SCARLET goes on sending them (docs/differences.md).
In both, the downlink of round r carries the list of round r - 1 and the requests of round r; or, where knowledge is
exchanged by class, the vectors that the server has after round r - 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scarlet_jax.metric_tables import LEDGERS as LEDGERS  # the ledgers by name
from scarlet_jax.types import Array

FLOAT32_BYTES, INT64_BYTES = 4, 8
INDEX_BITS, SIGNAL_BITS = 32, 2


class Counts(NamedTuple):
    """What happened in a round, in integers. The device counts; the host multiplies by the costs."""

    requested: jax.Array  # i32[] samples requested in this round
    hit: jax.Array  # i32[] samples served from the cache
    stale: jax.Array  # i32[] samples whose entry had expired; they are among the requested ones
    sent: jax.Array  # i32[M] soft labels uploaded by each participant
    listed: jax.Array  # i32[] kept samples of the previous round's list, 0 in round 0
    fresh: jax.Array  # i32[] the listed samples that are not hits, so that their payload was broadcast
    caught_up: jax.Array  # i32[M] catch-up entries applied by each participant
    updates: jax.Array  # i32[M] labels in the reference's catch-up package
    stale_marks: jax.Array  # i32[M] emptying marks in the reference's catch-up package


class ClassCounts(NamedTuple):
    """The same of a round in which knowledge is exchanged by class: a float32 vector for each class."""

    sent: Array  # i32[M] vectors uploaded by each participant: one for each class that it holds
    received: Array  # i32[M] vectors that each participant received before it trained


class Channel(NamedTuple):
    """What the cost of a label depends on, besides the method."""

    num_classes: int
    label_bits: int  # comm.label_bits
    full_participation: bool


class Codec(NamedTuple):
    """How a label travels in one direction."""

    encode: Callable[[jax.Array], jax.Array]  # f32[..., C] -> f32[..., C], what arrives: encoded and decoded again
    bits: int  # of one label (`wire`)
    bytes: int  # of one label without its index (`reference`)


class Format(NamedTuple):
    """What one label costs in both directions and ledgers, from a method's two codecs."""

    uplink_bits: int  # one uploaded label (`wire`)
    downlink_bits: int  # one broadcast payload (`wire`)
    uplink_bytes: int  # one uploaded label (`reference`), without its index
    downlink_bytes: int  # one broadcast payload (`reference`), without its index
    signals: bool  # whether cache signals are sent, which is so if the duration is above 0
    answer_bits: int = 0  # per requested sample, if clients choose which ones they answer (`wire`)


class Bytes(NamedTuple):
    """Bytes of one round, summed over the participants."""

    uplink: int
    downlink: int


def soft_label(channel: Channel) -> Codec:
    """Probabilities: C x `label_bits` on the wire, C float32 in the reference."""
    return Codec(
        lambda rows: quantise(rows, channel.label_bits),
        channel.num_classes * channel.label_bits,
        channel.num_classes * FLOAT32_BYTES,
    )


def hard_label(channel: Channel) -> Codec:
    """Only the arg-max, the lowest class on ties: ceil(log2 C) bits on the wire, an int64 in the reference."""

    def encode(rows):
        return jax.nn.one_hot(jnp.argmax(rows, -1), channel.num_classes, dtype=rows.dtype)

    return Codec(encode, math.ceil(math.log2(channel.num_classes)), INT64_BYTES)


def make_format(uplink: Codec, downlink: Codec, cached: bool, answers: bool = False) -> Format:
    """The costs of a run's labels."""
    return Format(uplink.bits, downlink.bits, uplink.bytes, downlink.bytes, cached, int(answers))


def reference_bytes(counts: Counts, fmt: Format, num_classes: int) -> Bytes:
    """What the paper's code bills for the round. Catch-up is billed for participants only, always in float32."""
    sent, updates, stale = (_ints(x) for x in (counts.sent, counts.updates, counts.stale_marks))
    listed, fresh, requested = int(counts.listed), int(counts.fresh), int(counts.requested)
    uplink = sum(sent) * (fmt.uplink_bytes + INT64_BYTES)
    common = fresh * fmt.downlink_bytes + INT64_BYTES * (listed * (2 if fmt.signals else 1) + requested)
    catch_up = sum(updates) * (num_classes * FLOAT32_BYTES + INT64_BYTES) + sum(stale) * INT64_BYTES
    return Bytes(uplink, common * len(sent) + catch_up)


def wire_bytes(counts: Counts, fmt: Format) -> Bytes:
    """What a careful implementation would send: one message per participant and direction, in whole bytes."""
    listed, fresh, requested = int(counts.listed), int(counts.fresh), int(counts.requested)
    common = INDEX_BITS * (requested + listed) + fresh * fmt.downlink_bits
    if fmt.signals:
        common += SIGNAL_BITS * listed
    up = (s * fmt.uplink_bits + requested * fmt.answer_bits for s in _ints(counts.sent))
    down = (common + c * (INDEX_BITS + fmt.downlink_bits) for c in _ints(counts.caught_up))
    return Bytes(sum(map(_whole_bytes, up)), sum(map(_whole_bytes, down)))


def class_bytes(counts: ClassCounts, num_classes: int, size: int) -> dict[str, Bytes]:
    """Bytes of a round in which knowledge is exchanged by class, by ledger.

    `reference` bills the index of each class with its vector. On the wire a message begins with one bit for each of all
    classes, which says whether its vector follows; so does a client that chooses which requests it answers. A message
    without a vector is not sent.

    Args:
      counts: of the round.
      num_classes: C.
      size: d, the length of a vector.
    """

    def reference(vectors: int) -> int:
        return vectors * (size * FLOAT32_BYTES + INT64_BYTES)

    def wire(vectors: int) -> int:
        return _whole_bytes(num_classes + vectors * size * 8 * FLOAT32_BYTES) if vectors else 0

    def total(message: Callable[[int], int]) -> Bytes:
        return Bytes(*(sum(map(message, _ints(vectors))) for vectors in counts))

    return {"reference": total(reference), "wire": total(wire)}


def quantise(probs: jax.Array, bits: int) -> jax.Array:
    """Encode and decode rows with the unsigned uniform quantiser: q = round(p (2^b - 1)), decoded as q / sum q.

    Args:
      probs: f32[..., C] rows of probabilities.
      bits: b; 32 leaves the rows as they are.

    Returns:
      f32[..., C]; a row in which all q are 0 decodes to the uniform row.
    """
    if bits == 32:
        return probs
    q = jnp.round(probs * (2**bits - 1))
    total = jnp.sum(q, axis=-1, keepdims=True)
    return jnp.where(total > 0, q / jnp.maximum(total, 1), 1 / probs.shape[-1])


def _ints(values: jax.Array) -> Sequence[int]:
    return np.asarray(values).tolist()


def _whole_bytes(bits: int) -> int:
    return -(-bits // 8)
