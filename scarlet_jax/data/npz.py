"""A user's own data set: one `.npz` file, which may come from anywhere.

All that is wanted of it is checked by the arrays' headers, types and sizes included, before an array is read.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scarlet_jax import names
from scarlet_jax.data import packed
from scarlet_jax.data.record import Source, stratified_split
from scarlet_jax.errors import UserError
from scarlet_jax.texts import listing

MOST_CLASSES = 65_536
_MOST_HEADER = 10_000  # bytes; NumPy's own bound
_MOST_CLIENTS_BYTES = 1 << 28  # of the clients of all images
_CHANNELS = (1, 3, 4)


class Stated(NamedTuple):
    """An array as its header describes it."""

    member: packed.Member
    start: int  # byte of the member at which the numbers begin
    dtype: np.dtype
    shape: tuple[int, ...]
    columns_first: bool

    def __str__(self) -> str:
        return f"{names.in_sentence(self.dtype, 40)}{list(self.shape[:6])}"


def read(path: Path, labelled: bool = True, clients: bool = False) -> Source:
    """Read `image` u8[n, H, W, channels] or u8[n, H, W], `label` integer[n], and optionally `test_image`, `test_label`,
    and with `clients`, if they are there, the client of every image, `client` integer[n] and `test_client`.

    Without test arrays a seeded fifth of every class becomes the test part. With `labelled=False`, for a public pool,
    `image` alone is read and is all training images; the number of classes is 0.

    Raises:
        UserError: no such file, not an `.npz`, a missing array, or one of a wrong type, shape or length.
    """
    file = names.of_file(path)
    wanted = ("image", "label", "test_image", "test_label") if labelled else ("image",)
    with _explained(file, ".npz"), packed.zip_members(path) as members:
        found = _find(members, (*wanted, "client", "test_client") if clients else wanted)
        _check(file, found, list(members), labelled)
        arrays = {key: _values(key, stated) for key, stated in found.items()}
    return _source(path, arrays)


def read_clients(path: Path) -> dict[str, np.ndarray]:
    """The arrays `client` and, if it is there, `test_client` of an `.npz`, i32 of any length.

    Raises:
        UserError: as `read`.
    """
    file = names.of_file(path)
    with _explained(file, ".npz"), packed.zip_members(path) as members:
        found = _find(members, ("client", "test_client"))
        if "client" not in found:
            raise UserError(f"{file} needs the array client; it has {_listed(list(members))}.")
        return {key: _clients(file, key, stated) for key, stated in found.items()}


def read_npy(path: Path) -> np.ndarray:
    """The client of each image in an `.npy`, i32 of any length.

    Raises:
        UserError: as `read`.
    """
    file = names.of_file(path)
    with _explained(file, ".npy"):
        packed.check_regular(path)
        return _clients(file, "it", _stated("it", packed.Member(path.stat().st_size, lambda: path.open("rb"))))


@contextlib.contextmanager
def _explained(file: str, form: str) -> Iterator[None]:
    """Whatever reading a missing, damaged or hostile file raises, as a sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"there is no file {file}.") from error
    except packed.DAMAGE as error:
        packed.check_readable([Path(file)], error)
        reason = names.in_sentence(error) if str(error) else type(error).__name__
        raise UserError(f"{file} is not a readable {form} of plain arrays ({reason}); NumPy writes one.") from error


def _find(members: Mapping[str, packed.Member], wanted: Sequence[str]) -> dict[str, Stated]:
    """The headers of the wanted arrays that are there."""
    keys = {name.removesuffix(".npy"): member for name, member in members.items()}
    return {key: _stated(key, keys[key]) for key in wanted if key in keys}


def _clients(file: str, key: str, stated: Stated) -> np.ndarray:
    if stated.dtype.kind not in "iu" or len(stated.shape) != 1:
        raise UserError(f"{file}: {key} is {stated}; it must be integer[n], one for each image.")
    packed.check_size(stated.member.size, _MOST_CLIENTS_BYTES)
    return numbers(file, key, _values(key, stated))


def _source(path: Path, arrays: dict[str, np.ndarray]) -> Source:
    """The data set in arrays that were checked by their headers."""
    file, image = names.of_file(path), _four(arrays["image"])
    origin = f"file {names.of_file(path.name)}"
    if "label" not in arrays:
        none = np.zeros(0, np.int32)
        return Source(str(path), "", origin, image, np.zeros(len(image), np.int32), image[:0], none, 0, ())
    labels = {key: numbers(file, key, array) for key, array in arrays.items() if not key.endswith("image")}
    label, client, held_out = labels["label"], labels.get("client"), None
    if "test_image" in arrays:
        test_image, test_label = _four(arrays["test_image"]), labels["test_label"]
        test_client = labels.get("test_client")
    else:
        train, test = held_out = stratified_split(label)
        image, test_image, label, test_label = image[train], image[test], label[train], label[test]
        client, test_client = (None, None) if client is None else (client[train], client[test])
    num_classes = int(max(label.max(initial=-1), test_label.max(initial=-1))) + 1
    return Source(
        str(path), "", origin, image, label, test_image, test_label, num_classes, (), client, test_client, held_out
    )


def _check(file: str, found: Mapping[str, Stated], there: list[str], labelled: bool) -> None:
    """Refuse, by what the headers state."""
    needed = ("image", "label") if labelled else ("image",)
    if not set(needed) <= set(found):
        raise UserError(
            f"{file} needs the array{'s' if labelled else ''} {' and '.join(needed)}; it has {_listed(there)}."
        )
    if ("test_image" in found) != ("test_label" in found):
        raise UserError(f"{file} has only one of test_image and test_label; give both or neither.")
    if "test_client" in found and not {"client", "test_image"} <= set(found):
        raise UserError(f"{file} has test_client, which needs client and test_image beside it.")
    for key in ("image", "test_image"):
        if key in found:
            _check_image(file, key, found[key])
    for key in set(found) - {"image", "test_image"}:
        images = found["test_image" if key.startswith("test_") else "image"].shape[0]
        _check_numbers(file, key, found[key], images)
    if "test_image" in found and found["test_image"].shape[1:] != found["image"].shape[1:]:
        raise UserError(f"{file}: test_image is {found['test_image']}, but image is {found['image']}.")
    total = sum(stated.dtype.itemsize * math.prod(stated.shape) for stated in found.values())
    if total > packed.memory_limit():
        raise UserError(
            f"{file} holds {total / 1e9:,.1f} GB of arrays; there are {packed.memory_limit() / 1e9:,.1f} GB of memory."
        )


def _listed(there: list[str]) -> str:
    there = [name.removesuffix(".npy") for name in there]
    return listing((names.in_sentence(name, 40).strip("'\"") for name in there), most=8) or "none"


def _check_image(file: str, key: str, stated: Stated) -> None:
    shape = stated.shape
    if stated.dtype != np.uint8 or len(shape) not in (3, 4) or 0 in shape:
        raise UserError(
            f"{file}: {key} is {stated}; it must be uint8[n, H, W, channels] or uint8[n, H, W], pixels from 0 to 255."
        )
    if len(shape) == 4 and shape[3] not in _CHANNELS and shape[1] in _CHANNELS:
        raise UserError(
            f"{file}: {key} is {stated}, which has its channels first; they must be last: save "
            f"{key}.transpose(0, 2, 3, 1)."
        )


def _check_numbers(file: str, key: str, stated: Stated, images: int) -> None:
    if stated.dtype.kind in "iu" and stated.shape == (images,):
        return
    hint = ""
    if stated.shape == (images, 1):
        hint = f": save {key}[:, 0]"
    elif len(stated.shape) == 2 and stated.shape[0] == images:
        hint = f": save {key}.argmax(1) if these are one-hot rows"
    elif stated.shape == (images,) and stated.dtype.kind in "fb":
        hint = f": save {key}.astype(int)"
    raise UserError(f"{file}: {key} is {stated}; it must be integer[{images}], one for each image{hint}.")


def _stated(key: str, member: packed.Member) -> Stated:
    """The header of an array; ValueError if it has none, or one that does not fit the member's size."""
    with member.open() as stream:
        head = io.BytesIO(stream.read(_MOST_HEADER))
    try:
        version = np.lib.format.read_magic(head)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, columns_first, dtype = readers[version](head, max_header_size=_MOST_HEADER)
    except Exception as error:  # a text that NumPy parses as Python: whatever its parser raises
        raise ValueError(f"{key} is no array with a header that NumPy writes") from error
    size = dtype.itemsize * math.prod(shape)
    if dtype.hasobject:
        raise ValueError(f"{key} holds Python objects")
    if min(shape, default=0) < 0 or head.tell() + size != member.size:
        raise ValueError(f"{key} states {size:,} bytes and has {member.size - head.tell():,}")
    return Stated(member, head.tell(), dtype, shape, columns_first)


def _values(key: str, stated: Stated) -> np.ndarray:
    """The numbers of an array whose header was checked."""
    array = np.empty(stated.shape[::-1] if stated.columns_first else stated.shape, stated.dtype)
    try:
        with stated.member.open() as stream:
            stream.read(stated.start)
            packed.read_into(stream, array.reshape(-1).view(np.uint8).data)
            stream.read(1)  # at the end its checksum is compared
    except packed.DAMAGE as error:
        raise ValueError(f"{key}: {error}") from error
    return np.ascontiguousarray(array.T) if stated.columns_first else array


def _four(image: np.ndarray) -> np.ndarray:
    return image if image.ndim == 4 else image[..., None]


def numbers(file: str, key: str, array: np.ndarray) -> np.ndarray:
    """Labels, or numbers of clients, as i32."""
    if len(array) and (array.min() < 0 or array.max() >= MOST_CLASSES):
        what, most = "classes" if key.endswith("label") else "clients", MOST_CLASSES - 1
        raise UserError(
            f"{file}: {key} holds {array.min()}..{array.max()}; {what} are numbered from 0, at most {most:,}."
        )
    return array.astype(np.int32)
