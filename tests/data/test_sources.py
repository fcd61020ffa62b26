"""Where images come from: each kind of source, the order in which they are tried, and what a user is told."""

from __future__ import annotations

import gzip
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scarlet_jax.data import sources
from scarlet_jax.data.archives import PUBLISHED
from scarlet_jax.data.record import stratified_split
from scarlet_jax.paths import cache_dir
from tests.support import data_fakes as fakes
from tests.support.data_fakes import load, refusal


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_digits_are_bundled_and_always_split_alike(tmp_path):
    one, other = load("digits", tmp_path), load("digits", tmp_path)
    assert one.train_image.shape[1:] == (8, 8, 1) and one.train_image.dtype == np.uint8
    assert len(one.train_image) + len(one.test_image) == 1797
    assert 0.19 < len(one.test_image) / 1797 < 0.21
    assert one.train_image.min() == 0 and one.train_image.max() == 255
    assert one.num_classes == 10 and len(one.class_names) == 10
    np.testing.assert_array_equal(one.test_image, other.test_image)
    assert (np.bincount(one.test_label) > 30).all()


def test_a_stratified_split_is_a_partition_and_leaves_a_lone_image_in_train():
    label = np.array([0] * 50 + [1] * 10 + [2])
    train, test = stratified_split(label)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(61))
    np.testing.assert_array_equal(np.bincount(label[test], minlength=3), [10, 2, 0])


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("packed", [True, False])
def test_published_archives_and_folders(tmp_path, name, packed):
    if packed:
        image, label = fakes.write_archive(name, tmp_path / "data", tmp_path / "scratch")
    else:
        image, label = fakes.write_folder(name, tmp_path / "data")
    for _ in range(2):  # decoded, then from the cache
        source = load(name, tmp_path)
        np.testing.assert_array_equal(source.train_image, image)
        np.testing.assert_array_equal(source.train_label, label)
        assert source.test_image.shape == (12, 32, 32, 3)
        assert source.num_classes == PUBLISHED[name].num_classes
        assert source.class_names[1] == "class 1"


def test_a_half_extracted_folder_does_not_hide_the_archive(tmp_path):
    image, _ = fakes.write_archive("cifar10", tmp_path / "data", tmp_path / "scratch")
    fakes.write_folder("cifar10", tmp_path / "data")
    (tmp_path / "data" / "cifar-10-batches-py" / "data_batch_3").unlink()
    np.testing.assert_array_equal(load("cifar10", tmp_path).train_image, image)


def test_a_folder_written_by_python_3_is_read_too(tmp_path):
    image, label = fakes.write_folder("cifar10", tmp_path / "data")
    rows = image.transpose(0, 3, 1, 2).reshape(60, 3072)
    batch = pickle.dumps({b"data": rows[:12], b"labels": label[:12].tolist()}, protocol=2)
    (tmp_path / "data" / "cifar-10-batches-py" / "data_batch_1").write_bytes(batch)
    np.testing.assert_array_equal(load("cifar10", tmp_path).train_image, image)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_damaged_archive_is_named(tmp_path, keep):
    fakes.write_archive("cifar10", tmp_path / "data", tmp_path / "scratch")
    path = tmp_path / "data" / "cifar-10-python.tar.gz"
    blob = path.read_bytes()
    path.write_bytes(blob[: int(keep * len(blob))])
    sentence = refusal("cifar10", tmp_path)
    assert str(path) in sentence and "damaged" in sentence
    assert not (tmp_path / "cache").exists()


def test_a_damaged_archive_whose_pictures_can_be_read_is_named(tmp_path):
    """What is stored uncompressed unpacks to other pixels, which only the checksum at the archive's end gives away."""
    image, _ = fakes.write_archive("cifar10", tmp_path / "data", tmp_path / "scratch")
    path = tmp_path / "data" / "cifar-10-python.tar.gz"
    blob = bytearray(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=0))
    blob[blob.index(image[30].transpose(2, 0, 1).tobytes()[1000:1100])] ^= 1
    path.write_bytes(blob)
    sentence = refusal("cifar10", tmp_path)
    assert str(path) in sentence and "CRC" in sentence


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize(
    "batch",
    [
        pickle.dumps(Evil()),
        pickle.dumps({b"data": np.zeros((2, 3), np.uint8), b"labels": [0, 1]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 10]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8)}),
        b"no pickle",
    ],
)
def test_a_folder_with_a_bad_file_is_named_and_runs_no_code(tmp_path, batch):
    fakes.write_folder("cifar10", tmp_path / "data")
    (tmp_path / "data" / "cifar-10-batches-py" / "data_batch_2").write_bytes(batch)
    assert str(tmp_path / "data" / "cifar-10-batches-py") in refusal("cifar10", tmp_path)


def test_download_once(tmp_path):
    image, _ = fakes.write_archive("cifar10", tmp_path / "www", tmp_path / "scratch")
    right = fakes.md5(tmp_path / "www" / "cifar-10-python.tar.gz")
    with fakes.serve(tmp_path / "www") as (url, asked):
        for _ in range(2):
            np.testing.assert_array_equal(load("cifar10", tmp_path, base_url=url, md5=right).train_image, image)
    assert asked == ["/cifar-10-python.tar.gz"]
    [stored] = (tmp_path / "data").iterdir()
    assert stored.name == "cifar-10-python.tar.gz"
    (tmp_path / "any").touch()
    assert stored.stat().st_mode == (tmp_path / "any").stat().st_mode, "others may read it where the umask allows that"


def test_a_wrong_checksum_is_thrown_away(tmp_path):
    fakes.write_archive("cifar10", tmp_path / "www", tmp_path / "scratch")
    with fakes.serve(tmp_path / "www") as (url, _):
        assert "checksum" in refusal("cifar10", tmp_path, base_url=url)  # the real archive's, not this one's
    assert not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize("cut", [0, 1000])
def test_an_interrupted_download_leaves_nothing_and_can_be_repeated(tmp_path, cut):
    fakes.write_archive("cifar10", tmp_path / "www", tmp_path / "scratch")
    right = fakes.md5(tmp_path / "www" / "cifar-10-python.tar.gz")
    with fakes.serve(tmp_path / "www", cut=cut) as (url, _):
        assert "downloading the archive failed" in refusal("cifar10", tmp_path, base_url=url, md5=right)
    assert not list((tmp_path / "data").iterdir())
    with fakes.serve(tmp_path / "www") as (url, _):
        assert len(load("cifar10", tmp_path, base_url=url, md5=right).train_image) == 60


def test_no_data_and_no_network_is_one_sentence(tmp_path):
    sentence = refusal("cifar100", tmp_path, field="data.public")
    for word in (
        "data.public is 'cifar100'",
        str(tmp_path / "data"),
        "cifar100/<version>/",
        "cifar-100-python.tar.gz",
        "or its folder cifar-100-python",
        "--config.data.dir",
        "TFDS_DATA_DIR",
    ):
        assert word in sentence


def test_a_file_that_is_missing_on_the_server_is_one_sentence(tmp_path):
    (tmp_path / "www").mkdir()
    with fakes.serve(tmp_path / "www") as (url, _):
        assert "HTTPError" in refusal("cifar10", tmp_path, base_url=url)


def test_a_data_directory_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "data").write_text("a file")
    fakes.write_archive("cifar10", tmp_path / "www", tmp_path / "scratch")
    with fakes.serve(tmp_path / "www") as (url, _):
        assert "cannot store" in refusal("cifar10", tmp_path, base_url=url)


@pytest.mark.parametrize("name,hint", [("cifar11", "cifar10"), ("digit", "digits"), ("zzz", "known here")])
def test_unknown_names_suggest_close_ones(tmp_path, name, hint):
    sentence = refusal(name, tmp_path)
    assert repr(name) in sentence and hint in sentence and str(tmp_path / "data") in sentence


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "", "a b", "x/../y"])
def test_strange_names_are_refused(tmp_path, name):
    refusal(name, tmp_path)


def test_where_things_are(monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", "here")
    monkeypatch.setenv("XDG_CACHE_HOME", "there")
    assert sources.data_dir("mine") == Path("mine") and sources.data_dir("") == Path("here")
    assert cache_dir("mine") == Path("mine") and cache_dir("") == Path("there/scarlet_jax")
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert sources.data_dir("") == Path.home() / "tensorflow_datasets"
    assert cache_dir("") == Path.home() / ".cache" / "scarlet_jax"


def test_importing_the_package_does_not_import_the_slow_libraries():
    code = (
        "import sys, scarlet_jax.data.federation, scarlet_jax.data.describe as d\n"
        "slow = {'tensorflow_datasets', 'tensorflow', 'sklearn', 'matplotlib', 'pooch', 'requests', 'cv2'}\n"
        "assert not slow & set(sys.modules), slow & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
