"""Whole numbers that shares stand for, against fractions and decimals as they are written."""

import decimal
import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from scarlet_jax import counts


@given(st.data())
def test_a_quotient_of_a_total_is_its_numerator(data):
    total = data.draw(st.integers(1, 2**31 - 1))
    part = data.draw(st.integers(1, total))
    assert counts.participants(total, part / total) == part


@given(st.integers(1, 10_000), st.integers(1, 4), st.data())
def test_a_decimal_is_what_was_written(total, digits_, data):
    share = decimal.Decimal(data.draw(st.integers(1, 10**digits_))).scaleb(-digits_)
    assert counts.participants(total, float(share)) == math.floor(share * total)


def test_every_client_of_small_federations():
    for total in range(1, 400):
        assert [counts.participants(total, m / total) for m in range(1, total + 1)] == list(range(1, total + 1))
    assert counts.participants(100, 0.29) == 29 and counts.participants(49, 1 / 49) == 1


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_no_larger_number_is_that_share(total, share):
    """As shares in floating point; at most one more than the exact product, never less than its floor."""
    found = counts.count(total, share)
    assert found - math.floor(Fraction(share) * total) in (0, 1)
    assert found / total <= share or found == math.floor(Fraction(share) * total)
    assert (found + 1) / total > share


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_something_is_left_of_every_pool(total, held_out):
    left = counts.kept(total, held_out)
    assert 1 <= left <= total and abs(left - total * (1 - held_out)) <= 1
    assert counts.kept(total, 0.0) == total
