"""Makes names that come from users and files (of data sets, classes, runs) safe for the place where they are shown.

A name may be 5,000 letters long, contain line breaks, begin like a formula or look like mathematical typesetting.
"""

from __future__ import annotations

import re

_FORMULA = re.compile(r"\s*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def in_sentence(name: object, most: int = 100) -> str:
    """The name on one line and of at most `most` characters, quoted if it is text."""
    text = repr(name) if isinstance(name, str) else " ".join(str(name).split())
    return _cut(text, most)


def of_file(path: object, most: int = 400) -> str:
    """A path in a sentence: on one line, and not longer than a path can be."""
    return _cut("".join(c if c.isprintable() else "?" for c in str(path)), most)


def in_csv(name: object) -> str:
    """A cell that a spreadsheet shows as text: a name that it would read as a formula gets an apostrophe in front.

    Numbers are unchanged, negative ones too.
    """
    text = str(name)
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def in_picture(name: object, most: int = 40) -> str:
    """A text that matplotlib draws letter by letter: `$...$` is not typeset, and a long name is cut."""
    return _cut(" ".join(str(name).split()), most).replace("$", r"\$")


def _cut(text: str, most: int) -> str:
    """The beginning and the end of a long text."""
    if len(text) <= most:
        return text
    half = (most - 3) // 2
    return f"{text[: most - 3 - half]}...{text[-half:]}"
