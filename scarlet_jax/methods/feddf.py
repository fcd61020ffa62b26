"""FedDF (Lin et al., 2020): FedAvg, then the averaged model distils from its clients on the public pool."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from scarlet_jax.keys import Purpose, derive
from scarlet_jax.methods import averaging
from scarlet_jax.methods.base import Algorithm, Make


def feddf() -> Make:
    """The teacher is the softmax of the mean of the clients' logits.

    It costs no bytes: the server computes the logits itself, from the weights that the clients sent.
    """

    def make(population, draws, settings, data) -> Algorithm:
        def refine(numbers, server, probs, draw, round_, data):
            learner = population.server(numbers)
            # log p differs from the logits by a constant in each row, which does not change the softmax of their mean.
            smallest = jnp.finfo(probs.dtype).tiny
            target = jax.nn.softmax(jnp.mean(jnp.log(jnp.maximum(probs, smallest)), 0))
            key, size = derive(numbers.seed, Purpose.SERVER_DISTIL, round_), jnp.int32(draw.size)
            server, kd = learner.distil(learner.restart(server), key, data.public_image, draw, target, size)
            return server, kd.loss

        return averaging.make(population, draws, settings, data, refine)

    return make
