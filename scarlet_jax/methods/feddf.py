"""FedDF (Lin et al., 2020): FedAvg for each architecture, then all averages distil on public images."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from scarlet_jax.methods import averaging
from scarlet_jax.methods.base import Algorithm, Make


def feddf() -> Make:
    """The teacher is the softmax of the mean of the logits of all participants, whatever their architectures.

    It costs no bytes: the server computes the logits itself, from the weights that the clients sent. All models of the
    server distil from the same teacher.
    """

    def make(population, draws, settings, data) -> Algorithm:
        def refine(learner, model, key, probs, draw, data):
            # log p differs from the logits by a constant in each row, which does not change the softmax of their mean.
            smallest = jnp.finfo(probs.dtype).tiny
            target = jax.nn.softmax(jnp.mean(jnp.log(jnp.maximum(probs, smallest)), 0))
            size = jnp.int32(draw.size)
            model, kd = learner.distil(learner.restart(model), key, data.public_image, draw, target, size)
            return model, kd.loss

        return averaging.make(population, draws, settings, data, refine)

    return make
