"""DS-FL (Itahara et al., IEEE TMC 2021, arXiv 2008.06180): entropy-reduction aggregation."""

from __future__ import annotations

from scarlet_jax.methods.base import Method, stateless
from scarlet_jax.protocol.sharpen import era


def dsfl(temperature: float = 0.1) -> Method:
    """Mean over the clients, sharpened by softmax(mean / T).

    Args:
      temperature: T, positive.
    """
    return Method(stateless(lambda uploads: era(uploads.mean(), temperature)))
