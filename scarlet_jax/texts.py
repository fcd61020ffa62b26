"""Numbers, lists and tables as plain text for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

_UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))


def byte_unit(largest: float) -> tuple[str, float]:
    """Name and size of the unit in which `largest` bytes is a number of at least 1."""
    return next((unit for unit in _UNITS if largest >= unit[1]), _UNITS[-1])


def size(value: float) -> str:
    """A number of bytes in its own unit: "512 B", "1.234 MB"."""
    unit, scale = byte_unit(value)
    return f"{value / scale:.4g} {unit}" if scale == 1 else f"{value / scale:.3f} {unit}"


def listing(items: Iterable[Any], most: int = 5) -> str:
    """The first of the items, and how many more there are: "1, 2, 3, 4, 5 and 7 more"."""
    texts = [str(item) for item in items]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def line(cells: Sequence[str], widths: Sequence[int], left: int = 1, between: str = "  ") -> str:
    """One line of a table; its first `left` cells are aligned to the left, the others to the right."""
    padded = (c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
    return between.join(padded).rstrip()


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, rule: bool = False) -> list[str]:
    """Lines of a table, indented by two spaces, each column as wide as its longest cell.

    Args:
      head: titles of the columns.
      rows: cells.
      left: number of columns that are aligned to the left.
      rule: whether a line of dashes follows the titles.
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    dashes = [["-" * width for width in widths]] if rule else []
    return ["  " + line(cells, widths, left) for cells in (head, *dashes, *rows)]
