"""SCARLET (Azuma et al., IEEE TMC 2026, arXiv 2504.19602): Enhanced ERA over a synchronized soft-label cache."""

from __future__ import annotations

from scarlet_jax.methods.base import Method, stateless
from scarlet_jax.protocol.sharpen import enhanced_era


def scarlet(beta: float = 2.0) -> Method:
    """Mean over the clients, sharpened to p^beta / sum p^beta.

    The cache is no part of this function: the shared round adds it to any method. Its duration is 50 rounds by default.

    Args:
      beta: exponent, not negative.
    """
    return Method(stateless(lambda uploads: enhanced_era(uploads.mean(), beta)))
