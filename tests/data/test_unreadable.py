"""A file of a data set that the system does not let be read is not called damaged."""

import errno
import io
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from scarlet_jax.data import npz, packed
from scarlet_jax.errors import UserError
from tests.support.harness import ROOT, environment, obeying


def an_npz(folder):
    path = folder / "mine.npz"
    np.savez(path, image=np.zeros((20, 8, 8), np.uint8), label=np.arange(20) % 2)
    return path, f"from scarlet_jax.data import npz; npz.read(Path({str(path)!r}), True)"


def an_archive(folder):
    path = folder / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("empty"), io.BytesIO())
    return path, f"from scarlet_jax.data import archives; archives.read('cifar10', (Path({str(path)!r}),))"


def a_prepared_set(folder):
    path = folder / "toy" / "1.0.0"
    path.mkdir(parents=True)
    (path / "features.json").write_text("{}")
    (path / "dataset_info.json").write_text('{"fileFormat": "array_record"}')
    return (
        path / "dataset_info.json",
        f"from scarlet_jax.data import prepared; prepared.read('toy', Path({str(path)!r}))",
    )


@pytest.mark.parametrize("make", [an_npz, an_archive, a_prepared_set])
def test_a_file_without_rights_is_named_with_the_systems_reason(make, tmp_path):
    path, code = make(tmp_path)
    path.chmod(0)
    imports = "from pathlib import Path\nfrom scarlet_jax.errors import UserError"
    code = f"{imports}\ntry:\n  {code}\nexcept UserError as error:\n  print(error)"
    done = subprocess.run(
        obeying([sys.executable, "-c", code]), cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    assert f"{path}: permission denied, while reading a data set; give this user the right to it" in done.stdout
    assert "damaged" not in done.stdout and "again" not in done.stdout


@pytest.mark.parametrize(("code", "words"), [(errno.EIO, "an input/output error"), (errno.EACCES, "permission denied")])
def test_an_error_of_the_disk_is_no_damage(code, words, tmp_path, monkeypatch):
    path, _ = an_npz(tmp_path)

    def refused(*args, **kwargs):
        raise OSError(code, "refused", str(path))

    monkeypatch.setattr(packed, "zip_members", refused)
    with pytest.raises(UserError, match=words) as refusal:
        npz.read(path, True)
    assert "damaged" not in str(refusal.value) and "readable" not in str(refusal.value)


def test_a_damaged_file_is_still_called_so(tmp_path):
    path, _ = an_npz(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="is not a readable"):
        npz.read(path, True)
