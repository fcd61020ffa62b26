"""FedAvg (McMahan et al., 2017): weights and BatchNorm statistics travel, and are averaged.

With `prox_mu` > 0 it is FedProx (Li et al., 2020).
"""

from __future__ import annotations

import jax
import optax

from scarlet_jax.methods import averaging
from scarlet_jax.methods.setup import Setup
from scarlet_jax.types import Algorithm


def fedavg(setup: Setup, prox_mu: float = 0.0) -> Algorithm:
    """Participants train the server's model; the server takes their mean, weighted by their numbers of images.

    Args:
      setup: of the run.
      prox_mu: factor, not negative, of FedProx's term |w - w_server|^2 / 2; 0 is FedAvg.
    """
    setup = setup.only_server()
    return averaging.make(setup.with_gradient(proximal(prox_mu)) if prox_mu else setup)


def proximal(mu: float) -> optax.GradientTransformation:
    """Adds mu (w - w0) to the gradient; w0 are the weights that the optimizer was started with."""

    def update(gradient, anchor, params=None):
        return jax.tree.map(lambda g, w, w0: g + mu * (w - w0), gradient, params, anchor), anchor

    return optax.GradientTransformation(lambda params: params, update)
