"""Whole numbers that shares of a total stand for: one function for each, wherever it is needed."""

from __future__ import annotations

import math
from fractions import Fraction


def count(total: int, share: float) -> int:
    """The whole number that a share of a total stands for: the largest one that is not more of the total than `share`.

    Compared as shares, so that a quotient and a decimal mean what was written: M / K of K is M for any of them, and
    0.29 of 100 is 29, though neither 1 / 49 * 49 nor 0.29 * 100 reaches that number in floating point.
    """
    found = math.floor(Fraction(share) * total)
    return found + 1 if (found + 1) / total <= share else found


def participants(num_clients: int, participation: float) -> int:
    """M, the clients that take part in a round."""
    return count(num_clients, participation)


def kept(total: int, held_out: float) -> int:
    """What is left of a total when a share of it is held out, rounded as the reference rounds; at least one."""
    return min(total, max(1, int(total * (1 - held_out))))
