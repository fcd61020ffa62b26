"""What the files beside a prepared data set's records say, checked before TFDS reads them and believes it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scarlet_jax import names
from scarlet_jax.data import packed
from scarlet_jax.data.npz import MOST_CLASSES
from scarlet_jax.errors import UserError

MOST_LETTERS = 200  # of the name of a data set, and of a class
# What names a Python class in features.json: now, as protocol buffers also allow it, and in old versions of TFDS.
_CLASS_KEYS = ("pythonClassName", "python_class_name", "type")
_OWN_CLASS = re.compile(r"tensorflow_datasets\.core\.features\.([a-z0-9_]+\.)*[A-Za-z0-9_]+")


def check(name: str, folder: Path) -> tuple[str, ...]:
    """The names of the features; refuses, before the slow import of TFDS, what could not be read afterwards."""
    try:
        info, described = (packed.read_json(folder / f"{part}.json") for part in ("dataset_info", "features"))
        form, features = info.get("fileFormat"), described["featuresDict"]["features"]
        fit = "image" in features.get("image", {}) and "classLabel" in features.get("label", {})
        counts = [int(count) for key in ("numClasses", "num_classes") for count in _everywhere(described, key)]
        for path in folder.iterdir():
            if not path.is_dir():
                packed.check_regular(path)
            if path.suffix in (".txt", ".json"):  # read as a whole by TFDS
                packed.check_size(path.stat().st_size, packed.DESCRIPTION)
        there = ", ".join(names.in_sentence(feature, 40)[1:-1] for feature in list(features)[:20])
    except UserError as error:
        raise UserError(f"data set {name!r} in {folder} cannot be read: {error}") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        packed.check_readable(sorted(folder.iterdir()) if folder.is_dir() else [folder], error)
        reason = names.in_sentence(error) if isinstance(error, OSError | ValueError) else "it is not as TFDS writes it"
        raise UserError(f"data set {name!r} in {folder} cannot be read ({reason}); prepare it again.") from error
    if form != "array_record":
        raise UserError(
            f"data set {name!r} in {folder} is stored as {names.in_sentence(form or 'tfrecord')}, which needs "
            "TensorFlow to read; prepare it again with file_format='array_record'."
        )
    if not fit:
        raise UserError(
            f"data set {name!r} in {folder} has features {there}; an 'image' and a class 'label' are needed."
        )
    if counts and not 1 <= max(counts) <= MOST_CLASSES:  # TFDS makes a name for each
        raise UserError(
            f"data set {name!r} in {folder} declares {max(counts):,} classes; allowed is 1 to {MOST_CLASSES:,}."
        )
    for foreign in (str(value) for key in _CLASS_KEYS for value in _everywhere(described, key)):
        if not _OWN_CLASS.fullmatch(foreign):  # TFDS imports the module that is named
            raise UserError(
                f"data set {name!r} in {folder} has a feature of class {names.in_sentence(foreign)}, and reading it "
                "would import that module; only TFDS's own features are read."
            )
    return tuple(features)


def _everywhere(described: Any, key: str) -> Iterator[Any]:
    """Every number or text that has this key, anywhere in a description."""
    todo = [described]
    while todo:
        part = todo.pop()
        if isinstance(part, list):
            todo += part
        elif isinstance(part, dict):
            todo += part.values()
            if isinstance(part.get(key), str | int):
                yield part[key]


def check_classes(count: int, class_names: list[str] | None) -> None:
    """Bound what is made for each class, and its name."""
    if not 1 <= count <= MOST_CLASSES:
        raise UserError(f"it declares {count:,} classes; allowed is 1 to {MOST_CLASSES:,}")
    if class_names and max(map(len, class_names)) > MOST_LETTERS:
        raise UserError(f"the name of a class has more than {MOST_LETTERS} letters.")
