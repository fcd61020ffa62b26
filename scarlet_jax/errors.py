"""Errors that are the user's to fix."""

from __future__ import annotations

from typing import Any

LONGEST_VALUE = 200  # characters of a value that a sentence repeats


class UserError(Exception):
    """One clear sentence about something the user can change; shown without a traceback, exit code 1.

    A sentence that ends with the words of a library gets the full stop that these may lack.
    """

    def __init__(self, sentence: str):
        super().__init__(sentence if sentence.endswith(".") else f"{sentence}.")


def bad_field(field: str, value: Any, allowed: str, why: str = "") -> UserError:
    """The refusal of one field of a config: what it is, why that is impossible if it takes saying, what is allowed."""
    because = f", {why}" if why and not why.startswith("(") else f" {why}" if why else ""
    return UserError(f"config.{field} is {shown(value)}{because}; allowed is {allowed}.")


def shown(value: Any) -> str:
    """A value as Python writes it, on one line, cut where it is long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # a whole number of more digits than Python converts, or an object whose repr fails
        text = f"a {type(value).__name__}"
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 4]} ..."
