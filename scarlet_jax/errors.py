"""Errors whose cause the user can correct."""

from __future__ import annotations

from typing import Any

LONGEST_VALUE = 200  # characters of a value that a sentence repeats


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


def shown(value: Any) -> str:
    """A value as Python writes it, on one line, cut where it is long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a whole number of more digits than Python converts, or an object whose repr fails
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 4]} ..."
