"""Entries that are kept between processes: found again, bounded, and never a reason to fail."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest

from scarlet_jax import paths
from scarlet_jax.models.kept import Kept

KEY = {"name": "a", "versions": [1, 2]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "scarlet_jax" / "things"


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_an_entry_is_found_under_its_key_alone(folder: Path) -> None:
    kept = Kept("things", 1000)
    assert kept.read(KEY) is None
    kept.write(KEY, b"first")
    kept.write(KEY, b"second")
    assert Kept("things", 1000).read(KEY) == b"second"
    assert Kept("things", 1000).read({"versions": [1, 2], "name": "a"}) == b"second"
    assert kept.read(KEY | {"name": "b"}) is None
    assert Kept("others", 1000).read(KEY) is None
    assert len(files(folder)) == 1 and stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:10], lambda b: b"", lambda b: b[:-1] + b"?"])
def test_a_damaged_entry_is_none_and_is_replaced(folder: Path, damage) -> None:
    kept = Kept("things", 1000)
    kept.write(KEY, b"value")
    [path] = files(folder)
    path.write_bytes(damage(path.read_bytes()))
    assert kept.read(KEY) is None and files(folder) == []
    kept.write(KEY, b"value")
    assert kept.read(KEY) == b"value"


def test_what_was_not_used_for_the_longest_time_goes_first(folder: Path) -> None:
    kept = Kept("things", 3 * (100 + 32))
    keys = [{"number": number} for number in range(5)]
    written: list[Path] = []
    for age, key in enumerate(keys[:3]):
        kept.write(key, b"x" * 100)
        written += [path for path in files(folder) if path not in written]
        os.utime(written[-1], (age, age))
    assert kept.read(keys[0]) is not None  # used now: 1 is the oldest
    kept.write(keys[3], b"x" * 100)
    assert [kept.read(key) is not None for key in keys] == [True, False, True, True, False]
    (folder / ".left-behind").write_bytes(b"y" * 100)  # of a process that was killed while it wrote
    os.utime(folder / ".left-behind", (1, 1))
    kept.write(keys[4], b"x" * 100)
    assert not (folder / ".left-behind").exists()


def test_an_entry_above_the_bound_is_not_kept(folder: Path) -> None:
    kept = Kept("things", 50)
    kept.write(KEY, b"x" * 100)
    assert kept.read(KEY) is None and files(folder) == []


def test_a_folder_that_others_can_write_to_is_not_used(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = Kept("things", 1000)
    kept.write(KEY, b"value")
    folder.parent.chmod(0o777)
    with caplog.at_level(logging.WARNING, logger="scarlet_jax"):
        assert kept.read(KEY) is None
        kept.write(KEY, b"other")
    folder.parent.chmod(0o700)
    assert kept.read(KEY) == b"value"
    [line] = caplog.messages
    assert line.startswith("nothing is kept in the cache folder things: everybody may write to")


def test_where_nothing_can_be_kept_nothing_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(paths, "cache_dir", lambda: tmp_path / "file" / "cache")
    kept = Kept("things", 1000)
    kept.write(KEY, b"value")
    assert kept.read(KEY) is None and len(caplog.messages) == 1
