"""COMET (Cho et al., IEEE JSTSP 2023): for each sample clients are clustered, and distil from the nearest centroid."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from scarlet_jax.engine.learner import kl_divergence
from scarlet_jax.methods.base import Method, stateless
from scarlet_jax.protocol import ledger
from scarlet_jax.protocol.round import Labels, Uploads
from scarlet_jax.protocol.sharpen import masked_mean

ITERATIONS = 20  # of Lloyd's algorithm, which converges in fewer for the few rows of a sample
SAMPLES_AT_ONCE = 64  # bounds the memory for distances, to 50 MB with 1,000 clients and 100 classes


def comet(num_clusters: int = 2, weight: float = 1.0) -> Method:
    """For each sample, k-means over the clients' soft labels: the centroids are broadcast.

    The server distils from the mean, each client from the centroid that is nearest to its own prediction.

    Args:
      num_clusters: centroids per sample, from 1 to 255.
      weight: factor of the clients' distillation loss, not negative.
    """

    def aggregate(uploads: Uploads) -> Labels:
        return Labels(uploads.mean(), payload=kmeans(uploads.probs, uploads.sent, num_clusters))

    def downlink(channel: ledger.Channel) -> ledger.Codec:
        row = ledger.soft_label(channel)
        # With full participation the reference divides its centroid tensor by the number of clusters.
        billed = 1 if channel.full_participation else num_clusters
        return row._replace(bits=num_clusters * row.bits, bytes=billed * row.bytes)

    def decode(payload, own, choice, fresh):
        choice = jnp.where(fresh, nearest(payload, own), choice)
        return jnp.take_along_axis(payload, choice[:, None, None].astype(jnp.int32), 1)[:, 0], choice

    def kd_loss(logits, target):
        return weight * kl_divergence(logits, target)

    return Method(stateless(aggregate), downlink=downlink, decode=decode, kd_loss=kd_loss)


def nearest(centroids: jax.Array, rows: jax.Array) -> jax.Array:
    """Index u8[P] of the centroid f32[P, clusters, C] nearest to each row f32[P, C]; the first one on ties."""
    distance = jnp.sum((centroids - rows[:, None, :]) ** 2, -1)
    return jnp.argmin(distance, -1).astype(jnp.uint8)


def kmeans(probs: jax.Array, sent: jax.Array, clusters: int) -> jax.Array:
    """Centroids f32[P, clusters, C] of the rows f32[M, P, C] that were sent, sample by sample.

    The result is deterministic. The first centre is the row farthest from the mean, each next one the row farthest from
    the centres chosen so far; then follow Lloyd's iterations. A cluster that loses all its rows keeps its centre. For a
    sample that no client sent, all centroids are uniform. Clusters are in the order of their first client.
    """

    def one(rows, mask, mean):  # [M, C], [M], [C]
        def squared(centre):
            return jnp.sum((rows - centre) ** 2, -1)

        centres, distance = [], squared(mean)
        for number in range(clusters):
            centre = jnp.where(mask.any(), rows[jnp.argmax(jnp.where(mask, distance, -1))], mean)
            centres.append(centre)
            distance = squared(centre) if number == 0 else jnp.minimum(distance, squared(centre))

        def assign(centres):
            return jnp.argmin(jnp.sum((rows[:, None] - centres[None]) ** 2, -1), -1)

        def step(_, centres):
            member = (assign(centres)[:, None] == jnp.arange(clusters)) & mask[:, None]  # [M, clusters]
            count = member.sum(0)[:, None]
            total = jnp.einsum("mk,mc->kc", member.astype(rows.dtype), rows, precision="highest")
            return jnp.where(count > 0, total / jnp.maximum(count, 1), centres)

        centres = jax.lax.fori_loop(0, ITERATIONS, step, jnp.stack(centres))
        member = (assign(centres)[:, None] == jnp.arange(clusters)) & mask[:, None]
        first = jnp.where(member.any(0), jnp.argmax(member, 0), rows.shape[0])
        return centres[jnp.argsort(first, stable=True)]

    samples = probs.swapaxes(0, 1), sent.swapaxes(0, 1), masked_mean(probs, sent)
    return jax.lax.map(lambda xs: one(*xs), samples, batch_size=SAMPLES_AT_ONCE)
