"""The user's own participants: a file that says which clients take part in each round (`sampling.by = given`)."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scarlet_jax import names
from scarlet_jax.data import packed
from scarlet_jax.errors import UserError

_MOST = 1 << 28  # bytes of the file


def given(file: str, rounds: int, groups: Sequence[tuple[str, int, int]]) -> np.ndarray:
    """The participants of the first `rounds` rounds of a file, i32[R, M], each row ascending.

    Args:
      file: text with a line of client ids for each round, divided by commas or white space; `.json`, a list of such
        lists; or `.npy`, integers [R, M].
      rounds: R. The file may have more rounds.
      groups: name, number of clients and number of participants of each group of clients, in the order of their ids.

    Raises:
      UserError: the file cannot be read, has too few rounds, or a round in which a group has another number of
        participants, or a client twice, or one that there is not.
    """
    where = names.of_file(Path(file))
    try:
        found = _read(Path(file).expanduser(), where)
    except UserError as error:
        raise UserError(f"config.sampling.file: {error}") from error
    if len(found) < rounds:
        raise UserError(
            f"config.sampling.file: {where} has the participants of {len(found):,} rounds; allowed is at least "
            f"config.rounds = {rounds:,}."
        )
    for number, ids in enumerate(found[:rounds]):
        fault = _fault(ids, groups)
        if fault:
            raise UserError(f"config.sampling.file: {where} names, for round {number} (counted from 0), {fault}.")
    return np.array([sorted(ids) for ids in found[:rounds]], np.int32)


def record(table: np.ndarray | None) -> list[int]:
    """A CRC-32 for each round of the participants i32[R, M], by which a later start knows them again; none for None."""
    return [] if table is None else [zlib.crc32(row.astype("<i4").tobytes()) for row in table]


def changed(before: Sequence[int], now: Sequence[int]) -> int | None:
    """The first round whose participants differ between two records, as far as both go; None: there is none."""
    return next((number for number, (own, other) in enumerate(zip(before, now, strict=False)) if own != other), None)


def as_text(table: np.ndarray) -> str:
    """The participants i32[R, M] as a file that `given` reads."""
    return "".join(",".join(map(str, row)) + "\n" for row in table.tolist())


def _read(path: Path, where: str) -> list[list[int]]:
    try:
        content = packed.read_file(path, _MOST)
        return _numbers(content, path.suffix)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {where}.") from error
    except (OSError, EOFError, ValueError, OverflowError, MemoryError, RecursionError) as error:
        reason = names.in_sentence(error) if str(error) else type(error).__name__
        raise UserError(
            f"{where} is no list of client ids, a line for each round, nor a .json or .npy of them ({reason})."
        ) from error


def _numbers(content: bytes, suffix: str) -> list[list[int]]:
    """The ids of each round, in the file's order."""
    if suffix == ".npy":
        array = np.load(io.BytesIO(content), allow_pickle=False)
        if array.ndim != 2 or array.dtype.kind not in "iu":
            raise ValueError(f"it holds {array.dtype}{list(array.shape)}, and not integers of two dimensions")
        return array.tolist()
    if suffix == ".json":
        rounds = json.loads(content)
        if not isinstance(rounds, list) or not all(_is_ids(ids) for ids in rounds):
            raise ValueError("it is not a list of lists of whole numbers")
        return rounds
    lines = content.decode().splitlines()
    while lines and not lines[-1].strip():  # an empty line at the end is no round
        lines.pop()
    return [[int(word) for word in line.replace(",", " ").split()] for line in lines]


def _is_ids(ids: Any) -> bool:
    return isinstance(ids, list) and all(isinstance(own, int) and not isinstance(own, bool) for own in ids)


def _fault(ids: Sequence[int], groups: Sequence[tuple[str, int, int]]) -> str:
    """What is wrong with the participants of a round; empty for nothing."""
    clients = sum(size for _, size, _ in groups)
    outside = next((own for own in ids if not 0 <= own < clients), None)
    if outside is not None:
        return f"client {outside}; allowed are the ids 0 to {clients - 1}"
    twice = next((own for place, own in enumerate(ids) if own in ids[:place]), None)
    if twice is not None:
        return f"client {twice} twice; allowed is each client once"
    first = 0
    for name, size, participants in groups:
        own = sum(first <= client < first + size for client in ids)
        if own != participants:
            place = f" of {name} (ids {first} to {first + size - 1})" if len(groups) > 1 else ""
            what = "client" if own == 1 else "clients"
            return f"{own} {what}{place}; allowed is {participants}, by config.participation"
        first += size
    return ""
