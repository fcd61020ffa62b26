"""Where the program keeps files that it can make again, and who else may write there."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from scarlet_jax.errors import UserError


def cache_dir(configured: str = "") -> Path:
    """`configured`, else $XDG_CACHE_HOME/scarlet_jax, else ~/.cache/scarlet_jax."""
    if configured:
        return expand(configured)
    return expand(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "scarlet_jax"


def expand(path: str) -> Path:
    """The path with ~ replaced by the home directory.

    If there is no home directory, as in a container whose user has no name, a private temporary folder takes its place.

    Raises:
      UserError: the path begins with ~NAME, and there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        first, *rest = Path(path).parts
        if first != "~":
            raise UserError(f"{path!r} begins with the home directory of a user that does not exist.") from error
        return temporary_home().joinpath(*rest)


@functools.cache
def temporary_home() -> Path:
    """A folder for this user alone among the temporary files, in place of a home directory; the same for all calls."""
    folder = Path(tempfile.gettempdir()) / f"scarlet_jax-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid == os.getuid() and found.st_mode == 0o40700:  # a directory, and nobody else's
        return folder
    return Path(tempfile.mkdtemp(prefix="scarlet_jax-"))


def not_private(path: Path) -> str | None:
    """Why other users may have written what is in `path`, in a few words; None if only this user and root can have.

    Every folder above counts, too: a user who may write into it can put another folder in the place of the next one. In
    a folder with the sticky bit, such as /tmp, only the owner of an entry can do that.

    Args:
      path: an existing file or folder, resolved: without symbolic links and `..`.

    Raises:
      OSError: it cannot be looked at.
    """
    return next((why for place in (path, *path.parents) if (why := _open_to_others(place))), None)


def _open_to_others(place: Path) -> str | None:
    status = place.lstat()
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if status.st_uid not in (os.geteuid(), 0):
        return f"{place} belongs to another user ({status.st_uid})"
    if status.st_mode & stat.S_IWOTH and not sticky:
        return f"everybody may write to {place}"
    if status.st_mode & stat.S_IWGRP and status.st_gid != os.getegid() and not sticky:
        return f"another group ({status.st_gid}) may write to {place}"
    return None


def private_folder(folder: Path) -> Path:
    """Make `folder` for this user alone, for files that this process executes or trusts unread.

    Returns:
      The folder, without symbolic links, which might be changed later.

    Raises:
      OSError: it cannot be made, others than this user and root may write there, or it holds a file that others can
        have written. `reason` says which of these in a few words.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    resolved = folder.resolve(strict=True)
    if why := not_private(resolved):
        raise PermissionError(why)
    for place, folders, files in os.walk(resolved):
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):  # another process has just removed it
                if why := _open_to_others(Path(place, name)):
                    raise PermissionError(why)
    if resolved.stat().st_uid == os.geteuid():
        resolved.chmod(0o700)  # made with other permissions by an earlier version
    return resolved


def reason(error: OSError) -> str:
    """Why the system refuses something, and of which file, in a few words."""
    return f"{error.strerror}: {error.filename}" if error.strerror else str(error)


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A free name in the folder of `path`, for a file or folder that is renamed to `path` once it is complete.

    If something is left under that name at the end, it is removed. Unlike with `tempfile`, which always gives 0600 and
    0700, the umask decides about permissions.
    """
    aside = path.with_name(f".{path.name}-{uuid.uuid4().hex[:12]}")
    try:
        yield aside
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)
