"""A run's directory: who uses it, and with which config. Files are replaced atomically."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import itertools
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import config_dict

from scarlet_jax.configs import base
from scarlet_jax.errors import UserError
from scarlet_jax.row_files import flat
from scarlet_jax.runtime import checkpoint_record
from scarlet_jax.system_errors import refusing
from scarlet_jax.training_tables import resolved

# Fields that may differ when a run resumes: they change where and how it runs or how much is kept, not its results.
FREE_FIELDS = (
    "rounds", "clients_per_chunk", "data.dir", "data.cache_dir", "checkpoint.every", "checkpoint.keep", "wandb.mode",
    "wandb.project", "profile_rounds", "remat", "deterministic", "data.device_budget_mb", "compilation_cache",
    "stop.server_top1", "stop.client_top1", "stop.megabytes",
)  # fmt: skip

# What a run overwrites or deletes where it finds it; config.json is the first that it writes.
WRITTEN = (
    "config.json", "environment.json", "metrics.jsonl", "metrics.csv", "clients.csv", "summary.json", "partition.npz",
    "partition.csv", "partition.png", "participants.csv", "checkpoints", "tensorboard",
)  # fmt: skip
_OURS = {"method", "partition", "public_per_round", "checkpoint"}  # fields that every config.json of a run has


@contextlib.contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Hold the workdir for this process; the operating system lets go of it however the process ends.

    Raises:
      UserError: its name cannot be used, it is not a run's and holds files that a run would overwrite, another process
        holds it, or it cannot be made or written.
    """
    try:
        os.path.abspath(workdir).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"workdir {ascii(os.path.abspath(workdir))} has a name that is not UTF-8, which checkpoints cannot have; "
            "give --workdir another directory."
        ) from error
    with refusing(f"opening workdir {workdir}"):
        _check_place(workdir)  # first: nothing is made in somebody else's directory, not even the lock
        workdir.mkdir(parents=True, exist_ok=True)
        file = _open_lock(workdir / ".lock")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            process = _lock_text(workdir) or "unknown"
            raise UserError(
                f"workdir {workdir} is in use by another run (process {process}); "
                "wait for it, or give --workdir another."
            ) from error
        except OSError as error:  # some network file systems
            raise UserError(f"workdir {workdir} cannot be locked: {error.strerror}; choose another disk.") from error
        with refusing(f"opening workdir {workdir}"):
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        yield


def _open_lock(path: Path) -> io.FileIO:
    """Open or make a regular file, never through a link: what a link leads to is somebody else's."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # not waiting for a fifo's other end
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise _not_a_lock(path) from error
        raise
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise _not_a_lock(path)
    return os.fdopen(descriptor, "r+b", buffering=0)


def _not_a_lock(path: Path) -> UserError:
    return UserError(f"{path} is a link, or not a regular file; remove it, or give --workdir another directory.")


def _lock_text(workdir: Path) -> str | None:
    """The number of the process that locked the workdir; empty where none is there, None where something else is."""
    path = workdir / ".lock"
    if not path.is_file():
        return ""
    with open(path, "rb") as file:
        content = file.read(32)
    return content.decode() if not content or content.isdigit() else None


def _check_place(workdir: Path) -> None:
    """Refuse a directory whose files are somebody else's."""
    # In this order: another run may be starting here, and it writes config.json before all else.
    found = [name for name in WRITTEN if _occupied(workdir / name)]
    found += [".lock"] if _lock_text(workdir) is None else []
    if found and read_config(workdir) is None:
        raise UserError(
            f"workdir {workdir} is not the directory of a run, and holds {', '.join(found)}, which a run would "
            "overwrite; give --workdir another directory."
        )


def _occupied(path: Path) -> bool:
    """Whether there is a file, or a folder that holds something."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    aside = path.with_name(path.name + ".tmp")
    with open(aside, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def keep_aside(path: Path) -> Path | None:
    """Copy a damaged file to a new name beside it, before it is written anew; None where there is no file."""
    if not path.exists():
        return None
    aside = next(p for p in (path.with_name(f"{path.name}.damaged-{n}") for n in itertools.count(1)) if not p.exists())
    scratch = path.with_name(f"{path.name}.tmp")
    shutil.copyfile(path, scratch)
    scratch.replace(aside)
    return aside


def read_json(path: Path) -> Any | None:
    """A JSON file's value; None when there is none.

    Raises:
      UserError: the file is damaged.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); restore it, or give --workdir another directory.") from error


def read_config(workdir: Path) -> dict[str, Any] | None:
    """The run's config: of config.json, or of the newest checkpoint where that is torn or gone. None: it is no run's.

    Raises:
      UserError: config.json is damaged, and no checkpoint tells what it held.
    """
    damage: UserError | None = None
    try:
        config = read_json(workdir / "config.json")
    except UserError as error:
        config, damage = None, error
    if isinstance(config, dict) and config.keys() >= _OURS:
        return _renamed(config)
    records = [found.record for found in checkpoint_record.survey(workdir) if found.record]
    if records and "config" in records[0]:
        return _renamed(records[0]["config"])
    if damage is not None:
        raise damage
    return None


def _renamed(config: dict[str, Any]) -> dict[str, Any]:
    """A config of an earlier version, which had `model.dtype`, with `model.precision` in its place."""
    model = config.get("model")
    if not isinstance(model, dict) or "dtype" not in model:
        return config
    kept = {name: value for name, value in model.items() if name != "dtype"}
    return config | {"model": kept | {"precision": "bfloat16" if model["dtype"] == "bfloat16" else None}}


def check_config(workdir: Path, config: config_dict.ConfigDict) -> None:
    """Compare with the config the workdir was made with.

    Raises:
      UserError: a field that matters differs; names all of them.
    """
    old = read_config(workdir)
    if old is None:
        return
    new = json.loads(config.to_json())
    # A field that an earlier program did not have had what is now its default; an open learning rate is its value.
    defaults = flat(json.loads(base.get_config().to_json()))
    before, now = defaults | flat(old | resolved(old)), defaults | flat(new | resolved(new))
    changed = [f for f in sorted(before | now) if f not in FREE_FIELDS and before.get(f) != now.get(f)]
    if changed:
        listing = ", ".join(f"{f} was {before.get(f)!r} and is now {now.get(f)!r}" for f in changed)
        raise UserError(
            f"workdir {workdir} holds a run with another config: {listing}; "
            "use the same values to resume it, or give --workdir another directory."
        )


def write_config(workdir: Path, config: config_dict.ConfigDict) -> None:
    """Write config.json, unless it is the same already."""
    new = json.loads(config.to_json())
    path = workdir / "config.json"
    try:
        same = read_json(path) == new
    except UserError:
        same = False  # damaged
    if not same:
        write_json(path, new)
