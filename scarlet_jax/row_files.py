"""The rows and the config of a run, read from its files, of which metrics.jsonl and metrics.csv restore each other.

Nothing here imports jax, because reports read these files, too.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from scarlet_jax.metric_tables import client_columns

Row = dict[str, Any]

_COUNTS = ("round", "client", "samples")  # columns of clients.csv that are whole numbers


class Parsed(NamedTuple):
    """The rows of a file, and its damaged lines."""

    rows: dict[int, Any]  # round -> its row; in clients.csv its lines
    bad: list[int]  # numbers, from 1, of the lines that are no rows of this file
    tail: bool  # the last line has no end: it was being written when a process was killed
    columns: tuple[str, ...] = ()  # of clients.csv
    values: list[list[int | float | None]] = []  # of its good lines, in their order


class Metrics(NamedTuple):
    """metrics.jsonl and metrics.csv together."""

    rows: list[Row]  # by round, each round once
    jsonl: Parsed
    csv: Parsed


def read_metrics(workdir: Path) -> Metrics:
    """Every row that is intact in one of the two files.

    If both have a row of a round, the one with more fields counts, or that of metrics.jsonl.
    """
    jsonl = _parse_jsonl(workdir / "metrics.jsonl")
    table = _parse_csv(workdir / "metrics.csv", [tuple(row) for row in jsonl.rows.values()])
    rows = []
    for round_ in sorted(jsonl.rows.keys() | table.rows.keys()):
        candidates = [parsed.rows[round_] for parsed in (jsonl, table) if round_ in parsed.rows]
        rows.append(max(candidates, key=len))  # the first of the longest: a row may have lost fields
    return Metrics(rows, jsonl, table)


def read_clients(workdir: Path, prototypes: bool = False) -> Parsed:
    """clients.csv: the intact lines of each round, without their ends, each client once.

    The columns are those of the file, which a program with other metrics may have written. Where the header is damaged,
    they are those of this program, for a method with or without `prototypes`.
    """
    lines, tail = _lines(workdir / "clients.csv")
    columns = next((own for own in (tuple(line.split(",")) for line in lines) if set(_COUNTS) <= set(own)), None)
    columns = columns or client_columns(prototypes)
    header, places = ",".join(columns), [columns.index(name) for name in _COUNTS]
    rows: dict[int, dict[int, str]] = {}
    good, bad = [], []
    for number, line in enumerate(lines, 1):
        if line == header:
            continue
        values = _numbers(line.split(","))
        if values is None or len(values) != len(columns) or not all(_is_count(values[i]) for i in places):
            bad.append(number)
            continue
        own: dict[int, str] = rows.setdefault(values[places[0]], {})  # type: ignore[arg-type]
        if values[places[1]] not in own:
            own[values[places[1]]] = line  # type: ignore[index]
            good.append(values)
    return Parsed({round_: list(own.values()) for round_, own in rows.items()}, bad, tail, columns, good)


def _parse_jsonl(path: Path) -> Parsed:
    lines, tail = _lines(path)
    rows: dict[int, Row] = {}
    bad: list[int] = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        _take(row, number, rows, bad)
    return Parsed(rows, bad, tail)


def _parse_csv(path: Path, columns: list[tuple[str, ...]]) -> Parsed:
    """Read metrics.csv.

    Args:
      path: of the file.
      columns: those of the rows in metrics.jsonl, used if the header is damaged.
    """
    lines, tail = _lines(path)
    split = [line.split(",") for line in lines]
    header = next((fields for fields in split if "round" in fields), None)
    if columns and (header is None or not set(header) <= set().union(*columns)):
        header = list(Counter(columns).most_common(1)[0][0])
    rows: dict[int, Row] = {}
    bad: list[int] = []
    for number, fields in enumerate(split, 1):
        if fields == header:
            continue
        values = _numbers(fields)
        whole = header is not None and values is not None and len(values) == len(header)
        _take(dict(zip(header, values, strict=True)) if whole else None, number, rows, bad)  # type: ignore[arg-type]
    return Parsed(rows, bad, tail)


def _lines(path: Path) -> tuple[list[str], bool]:
    """The whole lines of a text file, without their ends, and whether a part of one follows; none without a file."""
    try:
        *lines, rest = path.read_bytes().decode(errors="replace").split("\n")
    except FileNotFoundError:
        return [], False
    return [line.removesuffix("\r") for line in lines], bool(rest)  # as csv and other programs end lines


def _take(value: Any, number: int, rows: dict[int, Row], bad: list[int]) -> None:
    """Sort one line's value into the rows or the bad lines; a round's first row counts."""
    whole = (
        isinstance(value, dict)
        and _is_count(value.get("round"))
        and all(type(entry) in (int, float, type(None)) for entry in value.values())
    )
    if whole and value["round"] not in rows:
        rows[value["round"]] = value
    else:
        bad.append(number)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _numbers(texts: list[str]) -> list[int | float | None] | None:
    """Fields of a CSV line; None where one of them is neither a number nor empty."""
    try:
        return [None if not t else int(t) if t.lstrip("-").isdecimal() else float(t) for t in texts]
    except ValueError:
        return None


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The fields of a config.json by their dotted names."""
    fields: dict[str, Any] = {}
    for key, value in tree.items():
        fields |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return fields
