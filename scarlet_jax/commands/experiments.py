"""The config files of experiments, and which of them was meant."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

_SHARED_PARTS = ("base", "common")  # names of files that experiments start from, and that are none themselves


def files() -> list[str]:
    """The config files of experiments, as paths from the working directory."""
    folder = Path("configs") if Path("configs").is_dir() else CONFIGS
    found = sorted(f for f in folder.rglob("*.py") if not f.name.startswith("_") and f.stem not in _SHARED_PARTS)
    return [min(os.path.relpath(file), str(file), key=len) for file in found]


def offered() -> str:
    """What a user can name, for the end of a sentence."""
    return f"there are {', '.join(files())}" if files() else "there is none in the folder configs"


def meant(file: str) -> str | None:
    """The experiment whose path, name or end of a path is this, or is spelt like it."""
    if os.path.isdir(file) or not Path(file).name:
        return None
    wanted = Path(file).with_suffix("").as_posix().casefold()
    paths = {Path(path).with_suffix("").as_posix().casefold(): path for path in reversed(files())}
    for path in paths:
        if path == wanted or path.endswith(f"/{wanted}"):
            return min((paths[p] for p in paths if p == wanted or p.endswith(f"/{wanted}")), key=len)
    near = difflib.get_close_matches(wanted, list(paths), 1)
    if near:
        return paths[near[0]]
    names = {path.rpartition("/")[2]: paths[path] for path in sorted(paths, key=len, reverse=True)}
    near = difflib.get_close_matches(wanted.rpartition("/")[2], list(names), 1)
    return names[near[0]] if near else None
