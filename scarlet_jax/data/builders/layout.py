"""Files of a published data set, in an archive or in the folder extracted from it: the same names, the same bytes."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import logging
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from scarlet_jax.data import builders, packed
from scarlet_jax.errors import UserError, first_line

_log = logging.getLogger(__name__)
_MOST_FILE_BYTES = 1 << 26  # of one file in it
_MOST_BYTES = 1 << 33  # of an unpacked archive
_LISTING = 1 << 25  # bytes of the list of members of a zip archive


class Files:
    """The files below the published folder of a data set, named relative to it with `/`.

    Args:
      where: the archive or the folder, for messages.
      readers: what reads each file, in the order in which reading them is fast: that of the archive.
    """

    def __init__(self, where: Path, readers: Mapping[str, Callable[[], bytes]]):
        self.where, self._readers = where, readers
        self.names = list(readers)

    def read(self, name: str) -> bytes:
        """The content of one file; UserError, naming it, if it is missing or damaged."""
        if name not in self._readers:
            raise UserError(f"{self.where} has no file {name}; it is not the published data set, or not all of it.")
        try:
            return self._readers[name]()
        except packed.DAMAGE as error:
            packed.check_readable([self.where / name if self.where.is_dir() else self.where], error)
            raise UserError(f"{name} in {self.where} is damaged ({first_line(error)}); fetch it anew.") from error

    def image(self, name: str) -> bytes:
        """The same for a picture, which must be one that can be decoded to its end."""
        from PIL import Image

        blob = self.read(name)
        try:
            with Image.open(io.BytesIO(blob)) as picture:
                picture.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise UserError(
                f"{name} in {self.where} is not a whole image ({first_line(error)}); fetch it anew."
            ) from error
        return blob


def find(dl_manager: Any, name: str) -> Path:
    """The folder or archive of data set `name` in TFDS's manual_dir; where there is none, TFDS downloads it."""
    form = builders.PUBLISHED[name]
    with contextlib.suppress(AssertionError):  # no manual_dir, or an empty one
        if found := builders.locate(name, Path(dl_manager.manual_dir)):
            if not found.is_dir():
                packed.check_regular(found)
            if found.name == form.archive and _md5(found) != form.md5:
                _log.warning("%s is not the published file, or is damaged: its MD5 is not %s", found, form.md5)
            return found
    return Path(dl_manager.download(form.base_url + form.archive))


@contextlib.contextmanager
def opened(path: Path, folder: str) -> Iterator[Files]:
    """The files under `folder` in the zip or tar archive `path`; or, if `path` is a directory, the files in it.

    Raises:
        UserError: an archive that cannot be opened, or without such a folder.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        found = {
            file.relative_to(path).as_posix(): functools.partial(packed.read_file, file, _MOST_FILE_BYTES)
            for file in files
        }
        yield Files(path, found)
        return
    with contextlib.ExitStack() as stack:
        readers: dict[str, Callable[[], bytes]] = {}
        try:
            packed.check_regular(path)
            if zipfile.is_zipfile(path):
                for name, member in stack.enter_context(packed.zip_members(path, _LISTING)).items():
                    readers[name] = functools.partial(member.read, _MOST_FILE_BYTES)
            else:
                tar = stack.enter_context(packed.tar_stream(path))
                for name, offset, size in packed.tar_members(tar, _MOST_BYTES):
                    readers[name.removeprefix("./")] = functools.partial(_extract, tar, offset, size)
                packed.read_to_end(tar, _MOST_BYTES)
        except packed.DAMAGE as error:
            packed.check_readable([path], error)
            reason = first_line(error)
            raise UserError(f"{path} is damaged or is no zip or tar archive ({reason}); fetch it anew.") from error
        inside = {
            name.removeprefix(folder + "/"): read for name, read in readers.items() if name.startswith(folder + "/")
        }
        if not inside:
            raise UserError(f"{path} has no folder {folder}; it is not the published archive.")
        yield Files(path, inside)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _extract(tar: packed.Stream, offset: int, size: int) -> bytes:
    packed.check_size(size, _MOST_FILE_BYTES)
    tar.seek(offset)
    return packed.read_exactly(tar, size)
