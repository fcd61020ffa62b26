"""The experiment cards of the package, found by name.

The name `digits` stands for configs/digits.py, and `paper/cifar10` for configs/paper/cifar10.py.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
# In a checkout `scarlet_jax/configs` is a link to the folder at the top; in an installed package it is a folder.
FOLDER = (_PACKAGE / "configs").resolve()
_SHARED_PARTS = ("base", "common")


def find(config: str) -> str:
    """The value of --config with a card's name replaced by its file: `digits:dsfl` -> `configs/digits.py:dsfl`.

    An existing file wins over a card. What is neither a file nor a card is returned unchanged.
    """
    name, colon, argument = config.partition(":")
    if os.path.isfile(name) or name not in names():
        return config
    return f"{shortest(FOLDER / f'{name}.py')}{colon}{argument}"


def names() -> list[str]:
    """The names of all cards, in alphabetical order."""
    return sorted(_name(file) for file in FOLDER.rglob("*.py") if not file.name.startswith("_"))


def shown(file: Path) -> str:
    """How a user can name a config file: by its path, or a card by its name unless this is a checkout's directory."""
    file = file.absolute()
    in_checkout = FOLDER.parent != _PACKAGE and FOLDER.is_relative_to(Path.cwd())
    return _name(file) if file.is_relative_to(FOLDER) and not in_checkout else shortest(file)


def shortest(file: Path) -> str:
    """The path of a file from the working directory or from the root, whichever is shorter."""
    return min(os.path.relpath(file), str(file), key=len)


def offered() -> str:
    """The experiments that a user can name, for the end of a sentence."""
    found = _experiments()
    return f"there are {', '.join(found)}" if found else "there is none in the folder configs"


def meant(file: str) -> str | None:
    """The experiment that a user probably means: of this path, of a path that ends with it, or spelt almost like it."""
    if os.path.isdir(file) or not Path(file).name:
        return None
    wanted = Path(file).with_suffix("").as_posix().casefold()
    paths = {Path(path).with_suffix("").as_posix().casefold(): path for path in reversed(_experiments())}
    for path in paths:
        if path == wanted or path.endswith(f"/{wanted}"):
            return min((paths[p] for p in paths if p == wanted or p.endswith(f"/{wanted}")), key=len)
    near = difflib.get_close_matches(wanted, list(paths), 1)
    if near:
        return paths[near[0]]
    names = {path.rpartition("/")[2]: paths[path] for path in sorted(paths, key=len, reverse=True)}
    near = difflib.get_close_matches(wanted.rpartition("/")[2], list(names), 1)
    return names[near[0]] if near else None


def _experiments() -> list[str]:
    """The cards that can be run, as a user can name them. `base` and `common` only hold what several cards share."""
    folder = Path("configs") if Path("configs").is_dir() else FOLDER
    found = sorted(f for f in folder.rglob("*.py") if not f.name.startswith("_") and f.stem not in _SHARED_PARTS)
    return [shown(file) for file in found]


def _name(file: Path) -> str:
    return file.relative_to(FOLDER).with_suffix("").as_posix()
