"""The operations on one model: fit, distil, predict, evaluate. Pure functions; `fleet` runs them for many models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from scarlet_jax.data.augment import augment, normalize
from scarlet_jax.engine import scores
from scarlet_jax.engine.by_class import ByClass, ClassVectors, Outputs, nearness, no_sums
from scarlet_jax.engine.scores import Scores
from scarlet_jax.engine.training import FitMetrics, Training, num_batches, outputs_of, pad_to, train
from scarlet_jax.types import ModelState

KdLoss = Callable[[jax.Array, jax.Array], jax.Array]  # logits [B, C], target [B, C] -> loss [B]

EVALUATION_BATCH = 250


class Augmentation(NamedTuple):
    """Which images are augmented, and how."""

    private: bool
    public: bool
    flip: bool
    crop: bool


def kl_divergence(logits: jax.Array, target: jax.Array) -> jax.Array:
    """KL(target || softmax(logits)) per row, with 0 log 0 = 0. [B, C], [B, C] -> [B]."""
    return jnp.sum(jax.scipy.special.xlogy(target, target) - target * jax.nn.log_softmax(logits), axis=-1)


class Learner:
    """The operations on one model. It holds no arrays: all state is passed as arguments.

    Args:
      model: `__call__(x f32[B, H, W, ch], train, mask) -> logits f32[B, C]`, and its `num_classes`, C. It may sow its
        features f32[B, d], the input of its last linear layer, as "features" into the collection "intermediates".
      fit: private training.
      kd: distillation.
      augmentation: of images, done on the device.
      kd_loss: distillation loss of each row.
      evaluation_batch: images that `evaluate` scores together.
    """

    def __init__(
        self,
        model: nn.Module,
        fit: Training,
        kd: Training,
        augmentation: Augmentation,
        kd_loss: KdLoss = kl_divergence,
        evaluation_batch: int = EVALUATION_BATCH,
    ):
        self.model, self._fit, self._kd, self._augmentation, self._kd_loss = model, fit, kd, augmentation, kd_loss
        self._evaluation_batch = evaluation_batch

    @property
    def largest_batch(self) -> int:
        """Images of the largest batch of `fit` and `evaluate`; lists that are shorter have batches of their size."""
        return max(self._fit.batch_size, self._evaluation_batch)

    def init(self, key: jax.Array, image_shape: tuple[int, ...]) -> ModelState:
        """Fresh weights and optimizer states for images of shape [H, W, channels]."""
        variables = self.model.init(key, jnp.zeros((1, *image_shape)), train=False)
        params, batch_stats = variables["params"], variables.get("batch_stats", {})
        return ModelState(params, batch_stats, self._fit.optimizer.init(params), self._kd.optimizer.init(params))

    def feature_size(self, image_shape: tuple[int, ...]) -> int | None:
        """d of the model's features for images of a shape [H, W, channels]; None if it gives none."""
        x = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        state = jax.eval_shape(lambda: self.init(jax.random.key(0), image_shape))
        found = jax.eval_shape(lambda s, x: self._outputs(s, x, True).features, state, x)
        return None if found is None else found.shape[1]

    def with_gradient(self, transformation: optax.GradientTransformation) -> Learner:
        """The same learner with a gradient transformation before the optimizer of private training."""
        fit = self._fit._replace(optimizer=optax.chain(transformation, self._fit.optimizer))
        return Learner(self.model, fit, self._kd, self._augmentation, self._kd_loss, self._evaluation_batch)

    def restart(self, state: ModelState) -> ModelState:
        """The same model with new optimizer states."""
        optimizers = self._fit.optimizer.init(state.params), self._kd.optimizer.init(state.params)
        return ModelState(state.params, state.batch_stats, *optimizers)

    def fit(
        self,
        state: ModelState,
        key: jax.Array,
        images: jax.Array,
        labels: jax.Array,
        index: jax.Array,
        size: jax.Array,
        epochs: int | None = None,
        by_class: ByClass | None = None,
    ) -> tuple[ModelState, FitMetrics]:
        """Train with cross-entropy on private images, which are shuffled anew in each epoch.

        Args:
          state: the model.
          key: of this client and round.
          images: u8[n, H, W, ch] the private images of all clients.
          labels: i32[n].
          index: i32[n_max] the client's rows, with padding at the end.
          size: i32[] the number of rows that are no padding; 0 changes nothing.
          epochs: another number of epochs; None: that of private training.
          by_class: a term of the loss, which the loss reported has too, and what is summed by class; None: neither.
        """
        training = self._fit.of(index.size)
        if epochs is not None:
            training = training._replace(epochs=epochs)
        index = pad_to(index, training.batch_size)

        def loss(outputs, rows):
            losses = optax.softmax_cross_entropy_with_integer_labels(outputs.logits, labels[rows])
            if by_class is not None:
                losses = losses + by_class.term(outputs, labels[rows])
            return losses, jnp.argmax(outputs.logits, -1) == labels[rows]

        def add(sums, outputs, batch):
            assert by_class is not None
            counted = batch.mask & (batch.epoch == training.epochs - 1) if by_class.last_epoch else batch.mask
            return sums.add(by_class.vector(outputs), labels[batch.rows], counted)

        def epoch_list(epoch):
            # One random number for each position: the order of a client does not depend on the sizes of other clients.
            bits = jax.random.bits(jax.random.fold_in(key, epoch), index.shape, jnp.uint32)
            position = jnp.arange(index.size)
            order = jnp.lexsort((bits, position >= size))
            return index[order]

        def images_of(batch_key, rows):
            return self._images(batch_key, images[rows], self._augmentation.private)

        how: Any = {}
        if by_class is not None:
            num_classes: Any = self.model.num_classes
            how = {"kept": no_sums(num_classes, by_class.size), "keep": add, "features": True}
        own = self.model, training, state, state.fit_optimizer, key
        model, metrics = train(*own, epoch_list, size, images_of, loss, **how)
        return state._replace(params=model[0], batch_stats=model[1], fit_optimizer=model[2]), metrics

    def distil(
        self,
        state: ModelState,
        key: jax.Array,
        images: jax.Array,
        index: jax.Array,
        target: jax.Array,
        size: jax.Array,
        record: bool = False,
    ) -> tuple[ModelState, FitMetrics]:
        """Distil from soft labels, in the order of the list, which is never shuffled.

        Args:
          state: the model.
          key: of this client (or the server) and round.
          images: u8[N, H, W, ch] the public pool.
          index: i32[P] the list.
          target: f32[P, C] in the list's order.
          size: i32[] number of samples of the list, which come first.
          record: also return the model's softmax in training mode during the last epoch, for each batch before the
            update that uses it; uniform for samples that are not in the list.
        """
        training = self._kd.of(index.size)
        position = pad_to(jnp.arange(index.size), training.batch_size)

        def loss(outputs, rows):
            return self._kd_loss(outputs.logits, target[rows]), jnp.zeros(rows.shape, bool)

        def write(probs, outputs, batch):
            return jax.lax.dynamic_update_slice_in_dim(probs, jax.nn.softmax(outputs.logits), batch.start, 0)

        def images_of(batch_key, rows):
            return self._images(batch_key, images[index[rows]], self._augmentation.public)

        outputs = jnp.full((position.size, target.shape[1]), 1 / target.shape[1]) if record else None
        own = self.model, training, state, state.kd_optimizer, key
        model, metrics = train(*own, lambda epoch: position, size, images_of, loss, outputs, write)
        if record:
            metrics = metrics._replace(outputs=metrics.outputs[: index.size])
        return state._replace(params=model[0], batch_stats=model[1], kd_optimizer=model[2]), metrics

    def predict(
        self,
        state: ModelState,
        images: jax.Array,
        index: jax.Array,
        key: jax.Array | None = None,
        size: jax.Array | None = None,
        logits: bool = False,
    ) -> jax.Array:
        """Soft labels f32[P, C], with the running statistics of BatchNorm.

        Args:
          state: the model.
          images: u8[N, H, W, ch] the public pool.
          index: i32[P] the samples.
          key: if given and `Augmentation.public` is on, images are augmented, as in the reference.
          size: i32[] number of samples that are needed, which come first; batches beyond them are not computed and
            stay 0. None: all.
          logits: return logits instead of their softmax.
        """
        batch_size = self._kd.of(index.size).batch_size
        rows = pad_to(index, batch_size)

        def batch(step, probs):
            batch_rows = jax.lax.dynamic_slice_in_dim(rows, step * batch_size, batch_size)
            batch_key = None if key is None else jax.random.fold_in(key, step)
            x = self._images(batch_key, images[batch_rows], key is not None and self._augmentation.public)
            own = self._logits(state, x) if logits else jax.nn.softmax(self._logits(state, x))
            return jax.lax.dynamic_update_slice_in_dim(probs, own, step * batch_size, 0)

        x = jax.ShapeDtypeStruct((batch_size, *images.shape[1:]), jnp.float32)
        like = jax.eval_shape(self._logits, state, x)
        steps = num_batches(index.size if size is None else size, batch_size)
        return jax.lax.fori_loop(0, steps, batch, jnp.zeros((rows.size, like.shape[1]), like.dtype))[: index.size]

    def score(
        self,
        state: ModelState,
        images: jax.Array,
        labels: jax.Array,
        rows: jax.Array,
        mask: jax.Array,
        who: str,
        prototypes: ClassVectors | None = None,
    ) -> Scores:
        """Scores of one batch: rows i32[B] of images u8[n, H, W, ch] and labels i32[n]; padding if not `mask`."""
        outputs = self._outputs(state, normalize(images[rows]), prototypes is not None)
        near = None if prototypes is None else nearness(outputs.features, prototypes)
        return scores.of_batch(outputs.logits, labels[rows], mask, who, near)

    def evaluate(
        self,
        state: ModelState,
        images: jax.Array,
        labels: jax.Array,
        index: jax.Array,
        size: jax.Array,
        who: str,
        prototypes: ClassVectors | None = None,
    ) -> Scores:
        """Scores on the first `size` i32[] of the rows `index` i32[n_max]; images are not augmented.

        With prototypes of features, the scores by the nearest prototype are among them.
        """
        model: Any = self.model
        zero = scores.nothing(model.num_classes, who, prototypes is not None)
        if index.size == 0:
            return zero
        batch_size = min(self._evaluation_batch, index.size)
        index = pad_to(index, batch_size)

        def step(i, total):
            rows = jax.lax.dynamic_slice_in_dim(index, i * batch_size, batch_size)
            mask = i * batch_size + jnp.arange(batch_size) < size
            return jax.tree.map(jnp.add, total, self.score(state, images, labels, rows, mask, who, prototypes))

        return jax.lax.fori_loop(0, num_batches(size, batch_size), step, zero)

    def _images(self, key: Any, images: jax.Array, switched_on: bool) -> jax.Array:
        if switched_on:
            images = augment(key, images, flip=self._augmentation.flip, crop=self._augmentation.crop)
        return normalize(images)

    def _logits(self, state: ModelState, x: jax.Array) -> jax.Array:
        return self._outputs(state, x, False).logits

    def _outputs(self, state: ModelState, x: jax.Array, features: bool) -> Outputs:
        """Outputs in evaluation mode."""
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        if not features:
            logits: Any = self.model.apply(variables, x, train=False)
            return Outputs(logits)
        return outputs_of(*self.model.apply(variables, x, train=False, mutable=["intermediates"]))
