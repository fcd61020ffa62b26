"""Where the cache is, with and without a home directory."""

import os
import pwd
import tempfile
from pathlib import Path

import pytest

from scarlet_jax import paths
from scarlet_jax.data import sources
from scarlet_jax.errors import UserError


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """A user without HOME and without an entry in the list of users, as of `docker run --user 12345`."""

    def nameless(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "XDG_CACHE_HOME", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nameless)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    paths.temporary_home.cache_clear()
    yield tmp_path
    paths.temporary_home.cache_clear()


def test_without_a_home_the_cache_is_a_private_folder(nobody):
    folder = nobody / f"scarlet_jax-{os.getuid()}"
    assert paths.cache_dir() == folder / ".cache" / "scarlet_jax"
    assert sources.data_dir() == folder / "tensorflow_datasets"
    assert folder.stat().st_mode == 0o40700
    assert sources.same("~/a.npz", str(folder / "a.npz"))


@pytest.mark.parametrize("laid", ["open", "link"])
def test_a_folder_that_somebody_else_may_have_laid_there_is_not_used(nobody, laid):
    folder = nobody / f"scarlet_jax-{os.getuid()}"
    if laid == "open":
        folder.mkdir()
        folder.chmod(0o777)
    else:
        (nobody / "theirs").mkdir(mode=0o700)
        folder.symlink_to(nobody / "theirs")
    found = paths.cache_dir().parents[1]
    assert found != folder and found.stat().st_mode == 0o40700 and found == paths.cache_dir().parents[1]


def test_without_a_home_what_is_named_otherwise_counts(nobody, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert paths.cache_dir() == Path("/cache/scarlet_jax") and paths.cache_dir("/mine") == Path("/mine")
    assert sources.data_dir("/data") == Path("/data")


def test_the_home_of_a_user_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match=r"'~no-such-user/x' begins with the home directory of a user that does not"):
        paths.expand("~no-such-user/x")
