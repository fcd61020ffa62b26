"""The leaf fields of a config by dotted name: values, types, and the nearest name to a misspelt one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import config_dict


def leaves(config: config_dict.ConfigDict) -> dict[str, Any]:
    """Value of every leaf field, in the order of the config; None where a field is open."""
    return {name: group[key] for name, group, key in _walk(config, "")}


def types(config: config_dict.ConfigDict) -> dict[str, type]:
    """Type of every leaf field; an open field has its placeholder's type."""
    return {name: group.get_type(key) for name, group, key in _walk(config, "")}


def nearest(field: str, known: Sequence[str]) -> str | None:
    """The known field that was probably meant: the same last name in another group, or a similar spelling."""
    last = field.rpartition(".")[2]
    by_last_name = {name.rpartition(".")[2]: name for name in reversed(known)}
    if last in by_last_name:
        return by_last_name[last]
    close = difflib.get_close_matches(field, known, n=1)
    if close:
        return close[0]
    close = difflib.get_close_matches(last, list(by_last_name), n=1)
    return by_last_name[close[0]] if close else None


def _walk(config: config_dict.ConfigDict, prefix: str) -> Iterator[tuple[str, config_dict.ConfigDict, str]]:
    """Dotted name, group and key of every leaf."""
    for key in config:
        if isinstance(config[key], config_dict.ConfigDict):
            yield from _walk(config[key], f"{prefix}{key}.")
        else:
            yield prefix + key, config, key


def span(text: str) -> range | None:
    """The rounds that "3:5" names, 3 and 4, counted from 0; none for "". None where the text is of another form."""
    match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", text)
    if match is None:
        return None if text else range(0)
    first, end = map(int, match.groups())
    return range(first, end) if first < end else None
