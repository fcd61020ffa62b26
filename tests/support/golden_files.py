"""The numbers of the reference implementation, as they lie in tests/golden; its README there says what each one is."""

import functools
import json
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[1] / "golden"


@functools.cache
def golden(name: str) -> dict[str, np.ndarray]:
    """All arrays of one .npz."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return dict(arrays)


@functools.cache
def golden_bytes() -> dict:
    """comm_bytes.json."""
    return json.loads((FOLDER / "comm_bytes.json").read_text())
