"""The loop over masked batches that private training and distillation share, for one model.

The number of steps of a loop may depend on the client. If clients run one after another, each takes its own number of
steps; under `vmap`, a client that has finished keeps its values until the others have finished.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from scarlet_jax.engine.by_class import Outputs
from scarlet_jax.types import ModelState, PyTree


class Training(NamedTuple):
    """Hyperparameters of one kind of training: on private data, or by distillation."""

    epochs: int
    batch_size: int
    optimizer: optax.GradientTransformation

    def of(self, images: int) -> Training:
        """The same for lists of at most so many images: a larger batch would be padding, which takes memory."""
        return self._replace(batch_size=min(self.batch_size, max(images, 1)))


class FitMetrics(NamedTuple):
    """Means over the samples of the last epoch, from the predictions before each update; 0 if there was no sample."""

    loss: jax.Array  # f32[]
    accuracy: jax.Array  # f32[] 0 for distillation, where it has no meaning
    # What was kept of the outputs in training mode: f32[P, C] softmax in the order of the list, if `record` was set, or
    # the ClassSums of `by_class`.
    outputs: Any = None


class Batch(NamedTuple):
    """One step of training."""

    rows: jax.Array  # i32[B]
    mask: jax.Array  # bool[B] False for padding
    start: jax.Array  # i32[] its position in the epoch
    epoch: jax.Array  # i32[]


def train(
    model: nn.Module,
    training: Training,
    state: ModelState,
    opt_state: PyTree,
    key: jax.Array,
    epoch_list,
    size,
    images_of,
    loss,
    kept: Any = None,
    keep: Callable[[Any, Outputs, Batch], Any] = lambda kept, outputs, batch: kept,
    features: bool = False,
) -> tuple[tuple[PyTree, PyTree, PyTree], FitMetrics]:
    """Train a model over masked batches: the loop of `Learner.fit` and of `Learner.distil`.

    Args:
      model: that of the learner.
      training: hyperparameters.
      state: of the model.
      opt_state: of the optimizer of `training`.
      key: of this client and round.
      epoch_list: f(epoch) -> i32[n], the rows in the order of training, padding last; n is a multiple of the batch
        size.
      size: i32[] number of rows that are no padding.
      images_of: f(key, rows) -> the model's inputs.
      loss: f(Outputs, rows) -> loss f32[B] and correctness bool[B] of each row.
      kept: what is kept of the outputs before the first step; None: nothing is.
      keep: what is kept after a step, made of the outputs before its update.
      features: whether the outputs have features.
    """
    batch_size = training.batch_size
    mutable = ["batch_stats", "intermediates"] if features else ["batch_stats"]

    def step(i, carry, epoch, rows):
        params, batch_stats, opt_state, totals, kept = carry
        batch = jax.lax.dynamic_slice_in_dim(rows, i * batch_size, batch_size)
        mask = i * batch_size + jnp.arange(batch_size) < size
        x = images_of(jax.random.fold_in(jax.random.fold_in(key, epoch), i + 1), batch)

        def objective(params):
            logits, updated = model.apply(
                {"params": params, "batch_stats": batch_stats}, x, train=True, mask=mask, mutable=mutable
            )
            outputs = outputs_of(logits, updated) if features else Outputs(logits)
            losses, correct = loss(outputs, batch)
            total = jnp.sum(jnp.where(mask, losses, 0))
            return total / jnp.sum(mask), (updated.get("batch_stats", {}), total, jnp.sum(correct & mask), outputs)

        gradient, (batch_stats, total, correct, outputs) = jax.grad(objective, has_aux=True)(params)
        updates, opt_state = training.optimizer.update(gradient, opt_state, params)
        if kept is not None:
            kept = keep(kept, outputs, Batch(batch, mask, i * batch_size, epoch))
        params = optax.apply_updates(params, updates)
        return params, batch_stats, opt_state, totals + jnp.stack([total, correct]), kept

    def epoch(e, carry):
        rows = epoch_list(e)
        carry = (*carry[:3], jnp.zeros(2), carry[4])
        return jax.lax.fori_loop(0, num_batches(size, batch_size), lambda i, c: step(i, c, e, rows), carry)

    carry: Any = (state.params, state.batch_stats, opt_state, jnp.zeros(2), kept)
    params, batch_stats, opt_state, totals, kept = jax.lax.fori_loop(0, training.epochs, epoch, carry)
    # Multiplied by the inverse, because XLA rounds a division differently on one device and on several.
    means = totals * (1 / jnp.maximum(size, 1).astype(totals.dtype))
    return (params, batch_stats, opt_state), FitMetrics(means[0], means[1], kept)


def outputs_of(logits: Any, updated: Any) -> Outputs:
    """The outputs of a model that has sown its features; without them where it has not."""
    features = updated.get("intermediates", {}).get("features", (None,))[0]
    return Outputs(logits, None if features is None else features.astype(jnp.float32))


def num_batches(size: jax.Array | int, batch_size: int) -> jax.Array | int:
    """Number of batches that hold so many rows, the last of which may have padding."""
    return (size + batch_size - 1) // batch_size


def pad_to(index: jax.Array, multiple: int) -> jax.Array:
    """Pad i32[n] with zeros to a multiple of a number, so that every batch is a full slice."""
    return jnp.pad(index, (0, -index.size % multiple))
