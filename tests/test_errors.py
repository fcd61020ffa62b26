"""Refusals are one sentence, whatever the value."""

import pytest

from scarlet_jax.errors import LONGEST_VALUE, UserError, bad_field, shown


class Unprintable:
    def __repr__(self):
        raise RuntimeError


def test_the_words_of_a_library_get_the_full_stop_that_they_lack():
    assert str(UserError("no such file")) == "no such file."
    assert str(UserError("no such file.")) == "no such file."


@pytest.mark.parametrize(
    ("why", "sentence"),
    [
        ("", "config.lr is -1; allowed is a number above 0."),
        ("but that goes up", "config.lr is -1, but that goes up; allowed is a number above 0."),
        ("(did you mean 1?)", "config.lr is -1 (did you mean 1?); allowed is a number above 0."),
    ],
)
def test_a_field_is_named_with_its_value_and_what_is_allowed(why, sentence):
    assert str(bad_field("lr", -1, "a number above 0", why)) == sentence


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("two words", "'two words'"),
        (["a", {"b": 1}], "['a', {'b': 1}]"),
        (Unprintable(), "a Unprintable"),
        pytest.param(10**5000, "a int", id="more digits than Python converts"),
    ],
)
def test_a_value_is_shown_on_one_line(value, text):
    assert shown(value) == text


def test_a_long_value_is_cut():
    text = shown("x" * 10_000)
    assert len(text) == LONGEST_VALUE and text.startswith("'xxx") and text.endswith("x ...")
    assert str(bad_field("lr", "x" * 10_000, "a number")).endswith(" ...; allowed is a number.")
