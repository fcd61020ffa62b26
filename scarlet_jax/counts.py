"""From a share of a total to a whole number: how many clients take part, how many images are kept."""

from __future__ import annotations

import math
from fractions import Fraction


def count(total: int, share: float) -> int:
    """The largest whole number n with n / total <= share.

    The quotient is compared, not the product, so that the result is what the user wrote: M / K of K clients are M, and
    0.29 of 100 is 29. In floating point neither 1 / 49 * 49 nor 0.29 * 100 reaches that number.
    """
    found = math.floor(Fraction(share) * total)
    return found + 1 if (found + 1) / total <= share else found


def participants(num_clients: int, participation: float) -> int:
    """M, the clients that take part in a round."""
    return count(num_clients, participation)


def kept(total: int, held_out: float) -> int:
    """What is left of a total when a share of it is held out, rounded as the reference rounds; at least one."""
    return min(total, max(1, int(total * (1 - held_out))))
