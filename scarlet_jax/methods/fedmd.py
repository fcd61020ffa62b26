"""FedMD (Li and Wang, 2019, arXiv 1910.03581): clients digest the mean of their logits. There is no server model."""

from __future__ import annotations

import jax.numpy as jnp

from scarlet_jax.methods.base import Method, stateless
from scarlet_jax.protocol.round import Uploads


def fedmd(warmup_epochs: int = 25) -> Method:
    """The consensus is the mean of the logits of all participants, with equal weights.

    Clients first digest it, then revisit their own images, which is the order of every round here. Digesting minimises
    the mean absolute error between logits, as in the authors' code; the paper leaves the loss open. The paper trains
    models on the labelled public images, then on their own. The pool here has no labels, so that the warm-up on a
    client's own images is all that is left of it. The authors' code trains up to 25 epochs and stops early.

    Args:
      warmup_epochs: epochs of private training in a client's first participation, before it distils. A client that
        joins in a later round warms up in that round.
    """
    return Method(stateless(Uploads.mean), kd_loss=mean_absolute_error, logits=True, warmup_epochs=warmup_epochs)


def mean_absolute_error(logits, target):
    """Mean over the classes of |logits - target|. [B, C], [B, C] -> [B]."""
    return jnp.mean(jnp.abs(logits - target), -1)
