"""FedDF (Lin et al., 2020): FedAvg, then the averaged model distils from its clients on the public pool."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from scarlet_jax.keys import Purpose, derive
from scarlet_jax.methods import averaging
from scarlet_jax.methods.setup import Setup
from scarlet_jax.types import Algorithm


def feddf(setup: Setup) -> Algorithm:
    """The teacher is softmax(mean of the clients' logits); it costs no bytes: their weights reach the server anyway."""
    setup = setup.only_server()
    learner = setup.population.server
    assert learner is not None

    def refine(server, probs, draw, round_, data):
        # log p differs from the logits by a constant per row, which the softmax of their mean does not see.
        smallest = jnp.finfo(probs.dtype).tiny
        target = jax.nn.softmax(jnp.mean(jnp.log(jnp.maximum(probs, smallest)), 0))
        key = derive(setup.seed, Purpose.SERVER_DISTIL, round_)
        server, kd = learner.distil(learner.restart(server), key, data.public_image, draw, target, jnp.int32(draw.size))
        return server, kd.loss

    return averaging.make(setup, refine)
