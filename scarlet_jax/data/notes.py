"""Lines for the user while data are found, fetched and decoded, which can take minutes."""

from __future__ import annotations

import logging


def show() -> None:
    """Print what the data package logs as plain lines on stderr; commands call this, the library does not."""
    log = logging.getLogger(__package__)
    log.setLevel(logging.INFO)
    log.propagate = False  # absl would write each line with its place in the source
    if not log.handlers:
        log.addHandler(logging.StreamHandler())
