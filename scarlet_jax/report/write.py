"""A report's directory: made beside its place, then put there at once; nothing that is not ours is overwritten."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from scarlet_jax.errors import UserError
from scarlet_jax.report import page, text
from scarlet_jax.report.groups import group_runs
from scarlet_jax.report.runs import load
from scarlet_jax.report.table import Entry, Options, tabulate

MARKER = ".scarlet_jax_report.json"  # names the files of a report, each with the hash of what was written

_EXCHANGE = 2  # RENAME_EXCHANGE of Linux's renameat2
_AT_FDCWD = -100


def write_report(
    run_dirs: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str], options: Options | None = None
) -> list[Entry]:
    """Draw and tabulate runs into `out`: report.html, table.md, table.csv, and each figure as .svg and .png.

    The same runs and options give the same bytes. A report that was made there before is replaced, at once.

    Args:
      run_dirs: one or more run directories, in the order in which they are to be shown.
      out: directory to make.

    Returns:
      The table's rows.

    Raises:
      UserError: a run cannot be read, the baseline is unknown, or `out` holds something that is not a report of this
        program as it wrote it.
    """
    options = options or Options()
    if not run_dirs:
        raise UserError("There is nothing to report: give one run directory or more.")
    place = check_place(out)
    groups = group_runs([load(run_dir) for run_dir in run_dirs])
    entries = tabulate(groups, options)
    lines = text.notes(groups, entries, options)

    from scarlet_jax.report import figures, style  # matplotlib takes a second: not before all else is known to be right

    files: dict[str, bytes] = {
        "table.md": text.markdown(entries, options, lines).encode(),
        "table.csv": text.csv_text(entries, options).encode(),
    }
    with style.applied():
        drawn = figures.draw(groups, options)
        for figure in drawn:
            for kind in ("svg", "png"):
                files[f"{figure.name}.{kind}"] = page.rendered(figure.figure, kind)
    pictures = [(figure.title, files[f"{figure.name}.svg"]) for figure in drawn]
    files["report.html"] = page.render(pictures, text.html_tables(entries, options), lines).encode()
    try:
        _put(place, files)
    except OSError as error:
        raise UserError(f"The report cannot be written to {out}: {error.strerror}.") from error
    return entries


def check_place(out: str | os.PathLike[str]) -> Path:
    """Where a report goes, with links resolved.

    Raises:
      UserError: something is there, and it is not a report of this program as it wrote it.
    """
    place, shown = Path(out).resolve(), str(out)
    if not place.exists():
        return place
    if not place.is_dir():
        raise UserError(f"{shown} is a file: give --out a directory that does not exist yet.")
    found = {str(path.relative_to(place)) for path in place.rglob("*") if not path.is_dir()}
    folders = any(path.is_dir() for path in place.iterdir())
    if not found and not folders:
        return place
    try:
        written = json.loads((place / MARKER).read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{shown} is not a report made by this program: give --out a directory that does not exist yet."
        ) from None
    foreign = sorted(found - {*written, MARKER})
    changed = [n for n in sorted(found & set(written)) if _digest((place / n).read_bytes()) != written[n]]
    if foreign or changed or folders:
        what = (
            f"{foreign[0]}, which is not of it" if foreign else f"{changed[0]}, changed since" if changed else "folders"
        )
        raise UserError(f"The report in {shown} also holds {what}: move that away, or give --out another directory.")
    return place


def _put(place: Path, files: dict[str, bytes]) -> None:
    """Write the files into a new directory and put it in `place`, whose present content goes."""
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        marker = {"files": {name: _digest(content) for name, content in sorted(files.items())}}
        for name, content in (files | {MARKER: (json.dumps(marker, indent=2) + "\n").encode()}).items():
            (aside / name).write_bytes(content)
        if place.exists():
            _exchange(aside, place)
        else:
            aside.rename(place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)  # the old report by now, or what could not be finished


def _exchange(one: Path, other: Path) -> None:
    """Swap two directories; in one step where the system can."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        rename = None
    if rename is not None:
        if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) == 0:
            return
        if ctypes.get_errno() not in (errno.ENOSYS, errno.EINVAL):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))
    old = one.with_name(one.name + ".old")
    other.rename(old)
    try:
        one.rename(other)
    except OSError:
        old.rename(other)
        raise
    old.rename(one)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
