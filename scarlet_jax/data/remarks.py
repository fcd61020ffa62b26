"""What is legal in a data set, and yet probably not meant."""

from __future__ import annotations

import numpy as np

from scarlet_jax import names
from scarlet_jax.data.record import Source

_LOOKED_AT = 1_000  # images whose pixels are looked at
_LISTED = 5  # ranges of classes that are listed


def remarks(source: Source, field: str = "config.data.private") -> list[str]:
    """One sentence for each oddity of a private data set."""
    name, found = names.in_sentence(source.name), []
    counts = np.bincount(source.train_label, minlength=source.num_classes)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        tested = int((np.bincount(source.test_label, minlength=source.num_classes)[empty] > 0).sum())
        found.append(
            f"{field} is {name}, in which {len(empty):,} of {source.num_classes:,} classes have no training images "
            f"({_ranges(empty)})"
            + (f", {tested:,} of them with test images" if tested else "")
            + ("." if source.class_names else "; np.unique(label, return_inverse=True)[1] numbers labels without gaps.")
        )
    if source.num_classes == 1:
        found.append(f"{field} is {name}, whose images are all of one class: every model is right about them.")
    if source.train_image[:_LOOKED_AT].max(initial=0) <= 1:
        found.append(
            f"{field} is {name}, whose pixels are 0 and 1 as far as looked at; they are taken to be from 0 to 255."
        )
    return found


def _ranges(numbers: np.ndarray) -> str:
    """Ascending numbers as "0, 3 to 7"."""
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs[:_LISTED]]
    return ", ".join(texts) + (", ..." if len(runs) > _LISTED else "")
