"""Errors whose cause the user can correct."""

from __future__ import annotations

from typing import Any

LONGEST_VALUE = 200  # characters of a value that a sentence repeats
LONGEST_LINE = 300  # characters of another error that a sentence repeats


class UserError(Exception):
    """One clear sentence about something that the user can change. Commands show no traceback and exit with code 1.

    A full stop is added where it is missing, as after the message of a library.
    """

    def __init__(self, sentence: str):
        super().__init__(sentence if sentence.endswith(".") else f"{sentence}.")


def bad_field(field: str, value: Any, allowed: str, why: str = "") -> UserError:
    """The refusal of a field of a config: its value, why that is impossible if not obvious, and what is allowed."""
    because = f", {why}" if why and not why.startswith("(") else f" {why}" if why else ""
    return UserError(f"config.{field} is {shown(value)}{because}; allowed is {allowed}.")


def first_line(error: BaseException) -> str:
    """What a library's error says, for a sentence: its first line without the stop at its end, else its class.

    Characters that cannot be shown are replaced, and a long line is cut.
    """
    said = error.args[0] if isinstance(error, KeyError) and error.args else error
    text = next((line for line in str(said).splitlines() if line.strip()), type(error).__name__)
    text = "".join(c if c.isprintable() else "?" for c in " ".join(text.split())).rstrip(".:")
    return text if len(text) <= LONGEST_LINE else f"{text[: LONGEST_LINE - 4]} ..."


def shown(value: Any) -> str:
    """A value as Python writes it, on one line, cut where it is long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a whole number of more digits than Python converts, or an object whose repr fails
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 4]} ..."
