"""Where this program keeps what it can make again."""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path

from scarlet_jax.errors import UserError


def cache_dir(configured: str = "") -> Path:
    """`configured`, else $XDG_CACHE_HOME/scarlet_jax, else ~/.cache/scarlet_jax."""
    if configured:
        return expand(configured)
    return expand(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "scarlet_jax"


def expand(path: str) -> Path:
    """The path, with ~ replaced by the home directory; without one, as in a container whose user has no name, by a
    private folder among the temporary files.

    Raises:
      UserError: it begins with ~NAME, and there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        first, *rest = Path(path).parts
        if first != "~":
            raise UserError(f"{path!r} begins with the home directory of a user that does not exist.") from error
        return _instead_of_home().joinpath(*rest)


@functools.cache
def _instead_of_home() -> Path:
    folder = Path(tempfile.gettempdir()) / f"scarlet_jax-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid == os.getuid() and found.st_mode == 0o40700:  # a directory, and nobody else's
        return folder
    return Path(tempfile.mkdtemp(prefix="scarlet_jax-"))
