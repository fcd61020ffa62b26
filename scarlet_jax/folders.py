"""Where this program keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir(configured: str = "") -> Path:
    """`configured`, else $XDG_CACHE_HOME/scarlet_jax, else ~/.cache/scarlet_jax."""
    if configured:
        return Path(configured).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "scarlet_jax"
