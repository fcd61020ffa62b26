"""Who may write where code is loaded from, and the permissions of what the program writes."""

import os
import stat
from pathlib import Path

import pytest

from scarlet_jax import paths

SOMEBODY, ELSE = 54321, 65432  # users who are neither this one nor root


@pytest.fixture
def place(tmp_path):
    """A file in a folder, in /tmp with its sticky bit, that nobody else may write to."""
    path = tmp_path.resolve() / "folder" / "file"
    path.parent.mkdir(mode=0o700)
    path.touch(mode=0o600)
    assert paths.not_private(path) is None
    return path


@pytest.mark.parametrize("which", ["file", "folder", "above"])
@pytest.mark.parametrize(
    ("mode", "words"), [(0o707, "everybody may write to"), (0o770, "another group"), (0o755, None), (0o1777, None)]
)
def test_permissions(place, which, mode, words, monkeypatch):
    monkeypatch.setattr(paths.os, "getegid", lambda: ELSE)
    opened = {"file": place, "folder": place.parent, "above": place.parent.parent}[which]
    opened.chmod(mode)
    if which == "file" and mode == 0o1777:
        words = "everybody may write to"  # the sticky bit protects the entries of a folder, and no file
    found = paths.not_private(place)
    if words is None:
        assert found is None
    else:
        assert words in found and found.endswith(str(opened))


def test_the_users_own_group_may_write(place, monkeypatch):
    monkeypatch.setattr(paths.os, "getegid", lambda: place.stat().st_gid)
    place.parent.chmod(0o770)
    assert paths.not_private(place) is None


def test_another_users_files_are_refused_and_roots_are_not(place, monkeypatch):
    if os.geteuid() == 0:
        os.chown(place.parent, SOMEBODY, -1)
    monkeypatch.setattr(paths.os, "geteuid", lambda: ELSE)
    assert "belongs to another user" in paths.not_private(place)
    assert paths.not_private(Path("/usr")) is None


@pytest.mark.parametrize("umask", [0o077, 0o027, 0o002])
def test_what_is_written_beside_its_place_has_the_permissions_of_any_other_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        with paths.beside(tmp_path / "file") as aside:
            aside.write_text("whole")
            aside.rename(tmp_path / "file")
        with paths.beside(tmp_path / "folder") as aside:
            aside.mkdir()
            aside.rename(tmp_path / "folder")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~umask


@pytest.mark.parametrize("made", [Path.touch, Path.mkdir])
def test_what_is_not_finished_is_removed(tmp_path, made):
    with pytest.raises(ZeroDivisionError), paths.beside(tmp_path / "file") as aside:
        made(aside)
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_private_folder_is_made_for_this_user_alone_whatever_the_umask(tmp_path):
    before = os.umask(0o002)
    try:
        made = paths.private_folder(tmp_path / "cache" / "programs")
    finally:
        os.umask(before)
    assert made == (tmp_path / "cache" / "programs").resolve() and stat.S_IMODE(made.stat().st_mode) == 0o700
    made.chmod(0o755)
    assert stat.S_IMODE(paths.private_folder(made).stat().st_mode) == 0o700


@pytest.mark.parametrize("which", ["cache", "cache/programs", "cache/programs/inner/file", "cache/programs/link"])
def test_a_private_folder_in_which_others_can_have_written_is_refused(tmp_path, which):
    made = paths.private_folder(tmp_path / "cache" / "programs")
    (made / "inner").mkdir()
    (made / "inner" / "file").touch()
    assert paths.private_folder(made) == made
    place = tmp_path / which
    if place.name == "link":
        place.symlink_to("/usr")
    else:
        place.chmod(0o777)
    with pytest.raises(PermissionError, match="everybody may write to") as caught:
        paths.private_folder(made)
    assert str(caught.value).endswith(str(place)) and paths.reason(caught.value) == str(caught.value)
