"""Where the native library is loaded from. The compiler is a script that copies the library that was built already."""

import logging
import os
import shutil
import stat
from pathlib import Path

import pytest

from scarlet_jax import paths
from scarlet_jax.models.conv.native import build

pytestmark = pytest.mark.skipif(build.find_compiler() is None, reason="needs a C++ compiler")


@pytest.fixture
def compiler(tmp_path):
    assert build.problem() is None
    [built] = (paths.cache_dir() / "native").glob("conv-*.so")
    script = tmp_path / "compiler"
    script.write_text(f"#!/bin/sh\n[ $1 = --version ] && exit\nfor last; do :; done\ncp {built} $last\n")
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def planted(compiler, tmp_path):
    """A library where the program would put its own."""
    library = Path(build.load(compiler, tmp_path / "cache" / "native")._name)
    assert library.parent == tmp_path / "cache" / "native"
    return library


def test_the_folder_and_the_library_are_this_users_alone(planted, compiler):
    assert stat.S_IMODE(planted.parent.stat().st_mode) == 0o700
    planted.parent.chmod(0o755)  # as an earlier version made it
    assert Path(build.load(compiler, planted.parent)._name) == planted
    assert stat.S_IMODE(planted.parent.stat().st_mode) == 0o700
    assert list(planted.parent.iterdir()) == [planted]


def by_another_user(path):
    if os.geteuid() == 0:
        os.chown(path, 54321, -1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda library: library.chmod(0o777), "everybody may write to"),
        (lambda library: library.parent.chmod(0o777), "everybody may write to"),
        (lambda library: library.parent.parent.chmod(0o777), "everybody may write to"),
        (lambda library: library.parent.chmod(0o770), "another group"),
        (by_another_user, "belongs to another user"),
        (lambda library: by_another_user(library.parent), "belongs to another user"),
    ],
)
def test_a_library_that_others_can_have_planted_is_not_loaded(planted, compiler, change, words, monkeypatch, caplog):
    change(planted)
    monkeypatch.setattr(paths.os, "getegid", lambda: 65432)
    if "user" in words and os.geteuid() != 0:
        monkeypatch.setattr(paths.os, "geteuid", lambda: 65432)
    before = planted.stat().st_mtime_ns
    with caplog.at_level(logging.WARNING, logger="scarlet_jax"):
        if "user" in words and os.geteuid() == 65432:  # this user's temporary folder is then another user's, too
            with pytest.raises(PermissionError, match=words):
                build.load(compiler, planted.parent)
            return
        loaded = Path(build.load(compiler, planted.parent)._name)
    assert loaded.parent != planted.parent and not loaded.exists(), "built in a temporary folder, and removed"
    assert planted.stat().st_mtime_ns == before
    [line] = caplog.messages
    assert line.startswith("the native convolution is built for this process alone: ") and words in line


def test_a_link_to_a_folder_of_others_is_followed(planted, compiler, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(planted.parent)
    assert Path(build.load(compiler, link)._name) == planted
    planted.parent.chmod(0o777)
    assert Path(build.load(compiler, link)._name).parent != planted.parent


def test_where_nothing_can_be_kept_it_is_built_all_the_same(compiler, tmp_path, caplog):
    (tmp_path / "cache").write_text("no folder")
    with caplog.at_level(logging.WARNING, logger="scarlet_jax"):
        assert not Path(build.load(compiler, tmp_path / "cache" / "native")._name).exists()
    assert "built for this process alone: " in caplog.text


def test_a_temporary_folder_that_others_may_change_is_refused(planted, compiler, tmp_path, monkeypatch):
    planted.parent.chmod(0o777)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    monkeypatch.setattr(build.tempfile, "tempdir", str(shared))
    with pytest.raises(PermissionError, match="everybody may write to"):
        build.load(compiler, planted.parent)
    assert not list(shared.iterdir())
    shutil.rmtree(planted.parent)
