"""Files have the permissions that the user's umask leaves; what is executed is this user's alone."""

import stat
import subprocess

import pytest

from scarlet_jax.models.conv.native import build
from tests.support.harness import ROOT, command, environment


@pytest.mark.parametrize("umask", [0o077, 0o002])
def test_a_run_respects_the_umask(tmp_path, umask):
    run, cache = tmp_path / "run", tmp_path / "cache"
    subprocess.run(
        command(run, rounds=2, model__client="cnn"), cwd=ROOT, env=environment() | {"XDG_CACHE_HOME": str(cache)},
        check=True, capture_output=True, timeout=300, umask=umask,
    )  # fmt: skip
    native = cache / "scarlet_jax" / "native"
    if build.find_compiler() is not None:
        assert stat.S_IMODE(native.stat().st_mode) == 0o700
    found = [path for path in (*run.rglob("*"), *cache.rglob("*")) if native not in (path, path.parent)]
    assert len(found) > 20
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) == (0o777 if path.is_dir() else 0o666) & ~umask, path
