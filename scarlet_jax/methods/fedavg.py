"""FedAvg (McMahan et al., 2017): clients and server exchange weights and BatchNorm statistics, which are averaged.

With `prox_mu` above 0 it is FedProx (Li et al., 2020).
"""

from __future__ import annotations

import jax
import optax

from scarlet_jax.methods import averaging
from scarlet_jax.methods.base import Make


def fedavg(prox_mu: float = 0.0) -> Make:
    """Participants train the server's model; the server takes the mean, weighted by their numbers of images.

    Args:
      prox_mu: factor, not negative, of FedProx's term |w - w_server|^2 / 2 (`proximal`); 0 is FedAvg.
    """
    del prox_mu  # `proximal` uses it: it changes the training of a client, not the round
    return averaging.make


def proximal(prox_mu: float) -> optax.GradientTransformation:
    """Add prox_mu (w - w0) to the gradient, where w0 are the weights at the optimizer's start."""

    def update(gradient, anchor, params=None):
        return jax.tree.map(lambda g, w, w0: g + prox_mu * (w - w0), gradient, params, anchor), anchor

    return optax.GradientTransformation(lambda params: params, update)
