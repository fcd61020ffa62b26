"""What a checkpoint says of itself: whose it is and of which round. Plain JSON, read before any data are loaded."""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from scarlet_jax.errors import UserError, first_line
from scarlet_jax.system_errors import SystemFault, fault_of

DIRECTORY = "checkpoints"  # in a workdir

# What the same config, data and seed compute, and how a state is laid out, as one number. Raise it with every change
# that makes other bits or reads a state otherwise: a run goes on only with the number that it began with.
SEMANTICS = 1


class Found(NamedTuple):
    """A checkpoint's folder."""

    rounds: int  # that its name promises
    record: dict[str, Any] | None  # None: damaged
    damage: str  # what is wrong with the record; empty for a good one


def steps(workdir: Path) -> list[int]:
    """Numbers of the folders in `checkpoints/` that hold something, ascending; none is opened."""
    directory = workdir / DIRECTORY
    try:
        entries = sorted(directory.iterdir())
    except FileNotFoundError:
        return []
    return sorted(int(path.name) for path in entries if _is_number(path.name) and not is_empty(path))


def survey(workdir: Path) -> list[Found]:
    """The checkpoints of a workdir with their records, newest first.

    Raises:
      UserError: a record cannot be read. It may be good: nothing must be decided without it.
    """
    found = []
    for rounds in reversed(steps(workdir)):
        place = workdir / DIRECTORY / str(rounds)
        try:
            found.append(Found(rounds, read(place), ""))
        except Exception as error:
            found.append(Found(rounds, None, damage_of(place, error)))
    return found


def read(place: Path) -> dict[str, Any]:
    """The record of the checkpoint in a folder.

    Raises:
      OSError: it cannot be read.
      ValueError: it is damaged.
    """
    try:
        text = (place / "record" / "metadata").read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise ValueError("its record is missing") from None
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or seal(record) != record:
        raise ValueError("its record is not what was written")
    return record


def seal(record: dict[str, Any]) -> dict[str, Any]:
    """The record with a checksum of itself."""
    content = {name: value for name, value in record.items() if name != "check"}
    return content | {"check": zlib.crc32(json.dumps(content, sort_keys=True).encode())}


def check_owner(workdir: Path, found: Iterable[Found], run: str | None) -> str | None:
    """Refuse checkpoints that are whole and yet not those with which this run goes on.

    Args:
      workdir: of the run.
      found: its checkpoints; damaged ones are passed over.
      run: id of the run; None where environment.json does not tell.

    Returns:
      The id of the run; that of the newest checkpoint where none was given.

    Raises:
      UserError: another run, another version of the program, or another round than the folder's name says.
    """
    for rounds, record, _ in found:
        if record is None:
            continue
        place = workdir / DIRECTORY / str(rounds)
        number = record.get("semantics")
        if number != SEMANTICS:
            raise UserError(
                f"checkpoint {place} was written by another version of the program (semantics {number or 'unnumbered'}"
                f", here {SEMANTICS}); use the commit named in environment.json, or give --workdir another directory."
            )
        run = run or record["run"]
        if record["run"] != run:
            raise UserError(
                f"checkpoint {place} is of another run ({record['run']}; the run in this workdir is {run}); "
                "move it away, or give --workdir another directory."
            )
        if record["rounds"] != rounds:
            raise UserError(
                f"checkpoint {place} holds the state after {record['rounds']} rounds, not {rounds}: its folder was "
                "copied or renamed; give the folder its name back, or move it away."
            )
    return run


def refuse_damaged(workdir: Path, damaged: dict[int, str]) -> None:
    """Refuse to go on where there are checkpoints and none is good.

    Raises:
      UserError: names them.
    """
    if damaged:
        listing = "; ".join(f"{rounds}: {damage.rstrip('.')}" for rounds, damage in damaged.items())
        raise UserError(
            f"every checkpoint in {workdir / DIRECTORY} is damaged ({listing}); all stay as they are: bring back a "
            f"good copy of one. To start anew on purpose, remove {workdir}, or give --workdir another directory."
        )


def damage_of(place: Path, error: Exception) -> str:
    """What is wrong with a checkpoint that made a reader fail. It is damaged only if all its files can be read.

    Raises:
      UserError: the system refuses to read it, which says nothing about its content.
      Exception: the reader's own error where it is not about the content either.
    """
    _refuse(place, fault_of(error))
    check_readable(place)  # libraries report what they may not open as missing, or as wrong
    if isinstance(error, UserError) or type(error).__name__ == "JaxRuntimeError":
        raise error
    return first_line(error)


def check_readable(place: Path, whole: bool = True) -> None:
    """Read every file of a checkpoint; without `whole` only open it, which tells whether this user may.

    Raises:
      UserError: the system refuses one of them.
    """
    buffer = bytearray(1 << 20)
    try:
        for path in _files(place):
            with open(path, "rb", buffering=0) as file:
                while whole and file.readinto(buffer):
                    pass
    except OSError as error:
        _refuse(place, fault_of(error))


def _refuse(place: Path, fault: SystemFault | None) -> None:
    """Raise for a fault of the system; a file that is missing, or of the wrong kind, is damage."""
    if fault is None or fault.code in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR):
        return
    where = f"{fault.path}: " if fault.path and Path(fault.path) != place else ""
    raise UserError(
        f"checkpoint {place} cannot be read ({where}{fault.reason}); this is no damage, and all stays as it is: mend "
        "that, then give the same command again."
    )


def _files(place: Path) -> Iterator[Path]:
    """All files below a folder; what cannot be listed raises, unlike in Path.rglob."""
    with os.scandir(place) as entries:
        listing = sorted(entries, key=lambda entry: entry.name)
    for entry in listing:
        path = Path(entry.path)
        if entry.is_dir():
            yield from _files(path)
        elif entry.is_file():
            yield path


def is_empty(path: Path) -> bool:
    """Whether this is a folder without anything in it; one that cannot be listed may hold something."""
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is None
    except OSError:
        return False


def _is_number(name: str) -> bool:
    """As Orbax names its folders: no leading zeros, and no digits of other scripts."""
    return name.isascii() and name.isdecimal() and len(name) < 19 and str(int(name)) == name
