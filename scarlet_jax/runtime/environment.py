"""environment.json of a run: its id, and for each start versions, devices, choices and the repository's commit."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import subprocess
import sys
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from scarlet_jax.runtime import workdir as workdirs

_log = logging.getLogger(__name__)


def read_environment(workdir: Path) -> dict[str, Any] | None:
    """environment.json; None where it is missing or torn."""
    try:
        value = json.loads((workdir / "environment.json").read_bytes())
        choices = [start["choices"] for start in value["starts"]]
        whole = isinstance(value["run"], str) and bool(choices) and all(isinstance(c, dict) for c in choices)
    except (FileNotFoundError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return value if whole else None


def record_environment(workdir: Path, choices: dict[str, Any], run: str | None) -> str:
    """Append this start to environment.json: versions, devices, choices made, the repository's commit.

    Args:
      workdir: of the run.
      choices: what "auto" means in this run.
      run: its id. None: it is new, and earlier starts are forgotten, because nothing of theirs is left.

    Returns:
      The run's id, which outlives its starts.
    """
    path = workdir / "environment.json"
    before = read_environment(workdir) if run else None
    if run and before is None:
        kept = workdirs.keep_aside(path)
        _log.warning(
            "%s is %s: the run's id and choices are taken from its checkpoint; what is known of earlier starts is lost",
            path,
            f"damaged, and kept as {kept.name}" if kept else "gone",
        )
    before = before or {"run": run or uuid.uuid4().hex[:12], "starts": []}
    packages = ("scarlet_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets")
    versions = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    start = {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "versions": versions,
        "devices": [f"{d.platform}:{d.device_kind}" for d in jax.devices()],
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "choices": choices,
        "commit": _commit(),
    }
    workdirs.write_json(path, before | {"starts": [*before["starts"], start]})
    return before["run"]


def _commit() -> str | None:
    """Commit of the checkout this file is tracked in, with "-dirty" when files differ; outside of one
    $SCARLET_COMMIT, which a container image carries; None if there is neither."""

    def git(*arguments: str) -> str:
        # From this file's folder: an installed package may lie inside another project's checkout.
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("SCARLET_COMMIT") or None
