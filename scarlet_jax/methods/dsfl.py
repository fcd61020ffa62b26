"""DS-FL (Itahara et al., IEEE TMC 2021, arXiv 2008.06180): entropy-reduction aggregation."""

from __future__ import annotations

from scarlet_jax.errors import bad_field
from scarlet_jax.methods.base import Method, stateless
from scarlet_jax.protocol.sharpen import era


def dsfl(temperature: float = 0.1) -> Method:
    """Mean over the clients, sharpened by softmax(mean / T).

    Args:
      temperature: T.

    Raises:
      UserError: the temperature is not positive, or so small that float32 cannot divide by it.
    """
    if not temperature >= 1e-30:  # the quotients of a smaller one are infinite in float32
        raise bad_field("method.temperature", temperature, "a number of at least 1e-30 (0.1 sharpens)")

    return Method(stateless(lambda uploads: era(uploads.mean(), temperature)))
