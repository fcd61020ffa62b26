"""Data sets prepared by TFDS: order, form, versions, and agreement with TFDS's own decoding."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from scarlet_jax.data import prepared, resize, sources
from scarlet_jax.paths import cache_dir
from tests.support import data_fakes as fakes
from tests.support.data_fakes import load, refusal

REAL = sources.data_dir("")


def records_of(count: int, channels: int, seed: int = 0) -> list[tuple[str, np.ndarray, int]]:
    rng = np.random.default_rng(seed)
    return [(f"r_{i:03d}", rng.integers(0, 256, (6, 5, channels), dtype=np.uint8), i % 3) for i in range(count)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("held", ["test", "validation"])
def test_prepared_records_are_sorted_by_id_whatever_their_order_on_disk(tmp_path, channels, held):
    train, test = records_of(31, channels), records_of(7, channels, 1)
    shuffled = random.Random(0).sample(train, len(train))
    fakes.write_prepared("toy", tmp_path / "data", {"train": shuffled, held: test[::-1]})
    source = load("toy", tmp_path)
    np.testing.assert_array_equal(source.train_image, np.stack([image for _, image, _ in train]))
    np.testing.assert_array_equal(source.test_image, np.stack([image for _, image, _ in test]))
    assert source.train_label.tolist() == [label for _, _, label in train]
    assert source.num_classes == 3 and source.version == "1.0.0"


def test_a_prepared_data_set_without_a_test_part_is_split(tmp_path):
    fakes.write_prepared("toy", tmp_path / "data", {"train": records_of(30, 3)})
    source = load("toy", tmp_path)
    assert len(source.train_label) == 24 and np.bincount(source.test_label).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    "odd,word",
    [(("r", np.zeros((7, 5, 3), np.uint8), 0), "different sizes"), (("r", np.zeros((6, 5, 3), np.uint8), -1), "label")],
)
def test_prepared_images_of_several_sizes_or_without_label_are_refused(tmp_path, odd, word):
    fakes.write_prepared("toy", tmp_path / "data", {"train": [*records_of(5, 3), odd]})
    sentence = refusal("toy", tmp_path)
    assert word in sentence and "'toy'" in sentence


@pytest.mark.needs_data("cifar100")
def test_real_cifar100_is_decoded_in_the_order_of_its_ids():
    cache = cache_dir()  # the suite's own, so that the suite decodes once
    source = sources.load_source("cifar100", REAL, cache)
    assert source.num_classes == 100 and "apple" in source.class_names
    assert source.train_image.shape[1:] == (32, 32, 3)

    import tensorflow_datasets as tfds

    records = tfds.data_source("cifar100", split="test", data_dir=REAL, download=False)  # TFDS's own decoding
    ids = [record["id"] for record in records]
    order = np.argsort(ids)
    for row in random.Random(0).sample(range(len(ids)), 50):
        record = records[int(order[row])]
        np.testing.assert_array_equal(source.test_image[row], record["image"])
        assert source.test_label[row] == record["label"]

    again = sources.load_source("cifar100", REAL, cache)
    np.testing.assert_array_equal(again.train_image, source.train_image)
    assert isinstance(again.train_image.base, np.memmap)


@pytest.mark.needs_data("cifar10")
@pytest.mark.needs_data("cifar100")
def test_versions_and_names_of_prepared_data_sets():
    folder = prepared.locate("cifar10", REAL)
    assert folder is not None
    assert prepared.locate(f"cifar10:{folder.name}", REAL) == folder
    assert prepared.locate("cifar10:0.0.1", REAL) is None
    assert {"cifar10", "cifar100"} <= set(prepared.names(REAL))


def a_prepared_folder(tmp_path: Path, info: str, features: str, version: str = "1.0.0") -> None:
    folder = tmp_path / "data" / "toy" / version
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(info)
    (folder / "features.json").write_text(features)


GOOD = '{"featuresDict": {"features": {"image": {"image": {}}, "label": {"classLabel": {}}}}}'


@pytest.mark.parametrize(
    "info,features,word",
    [
        ('{"fileFormat": "tfrecord"}', GOOD, "tfrecord"),
        ('{"fileFormat": "array_record"}', '{"featuresDict": {"features": {"text": {}}}}', "'image'"),
        ("{", GOOD, "prepare it again"),
        ('{"fileFormat": "array_record"}', GOOD, "prepare it again"),  # sound to look at, but nothing inside
    ],
)
def test_unfit_prepared_data_sets_are_refused(tmp_path, info, features, word):
    a_prepared_folder(tmp_path, info, features)
    assert word in refusal("toy", tmp_path)


def test_the_newest_version_is_the_highest_number(tmp_path):
    for version in ("2.0.0", "10.0.0", "9.9.9"):
        a_prepared_folder(tmp_path, "{}", GOOD, version)
    folder = prepared.locate("toy", tmp_path / "data")
    assert folder is not None and folder.name == "10.0.0"


def test_a_pool_is_brought_to_a_size_by_averaging(tmp_path):
    """6x5 to 3x5: pairs of rows are averaged; images of other sizes are welcome, and all of train is taken."""
    records = records_of(30, 3)
    other = ("s", np.full((9, 2, 3), 77, np.uint8), 1)
    fakes.write_prepared("toy", tmp_path / "data", {"train": [other, *records]})
    pool = load("toy", tmp_path, labelled=False, size=(3, 5))
    assert pool.train_image.shape == (31, 3, 5, 3) and len(pool.test_image) == 0
    image = np.stack([image for _, image, _ in records]).astype(float)
    means = image.reshape(30, 3, 2, 5, 3).mean(2)
    assert np.abs(pool.train_image[:30] - means).max() <= 0.5  # rounded to whole numbers
    assert (pool.train_image[30] == 77).all()
    assert load("toy", tmp_path, labelled=False, size=(2, 2)).train_image.shape == (31, 2, 2, 3)


@pytest.mark.parametrize("height,width", [(4, 6), (4, 3), (4, 5), (4, 15)])
@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_does_not_alias(height, width, channels):
    """Stripes one pixel wide become even gray where that side is halved, whether the other shrinks, grows or stays."""
    stripes = np.zeros((8, 6, channels), np.uint8)
    stripes[::2] = 255
    for image, size in ((stripes, (height, width)), (stripes.transpose(1, 0, 2), (width, height))):
        result = resize.in_size(np.ascontiguousarray(image), *size)
        assert result.shape == (*size, channels) and np.abs(result - 127.5).max() <= 0.5


def test_the_common_form_is_shared_by_both_roles(tmp_path):
    """A pool that has the private size already, and a test part, costs no second cache entry."""
    fakes.write_prepared("toy", tmp_path / "data", {"train": records_of(30, 3), "test": records_of(5, 3)})
    folder = prepared.locate("toy", tmp_path / "data")
    assert folder is not None
    feature = folder / "features.json"
    feature.write_text(feature.read_text().replace('["-1", "-1", "3"]', '["6", "5", "3"]'))
    load("toy", tmp_path)
    assert len(load("toy", tmp_path, labelled=False, size=(6, 5)).train_image) == 30
    assert len(list((tmp_path / "cache").iterdir())) == 1
    load("toy", tmp_path, labelled=False, size=(5, 6))
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_damaged_record_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    good = cv2.imencode
    monkeypatch.setattr(cv2, "imencode", lambda form, image: good(form, image) if image.max() else (True, np.ones(9)))
    black = ("r_003_black", np.zeros((6, 5, 3), np.uint8), 0)
    fakes.write_prepared("toy", tmp_path / "data", {"train": [*records_of(9, 3), black]})
    assert "r_003_black" in refusal("toy", tmp_path)
    assert list((tmp_path / "cache").iterdir()) == []


MEASURE = """
import re, sys
from pathlib import Path
from scarlet_jax.data import sources
root = Path(sys.argv[1])
source = sources.load_source("toy", root / "data", root / "cache")
assert source.train_image.shape == (240, 600, 600, 3) and source.train_image[100, 5, 5, 0] == 100
status = Path("/proc/self/status").read_text()  # getrusage would count what the parent had before exec
print(source.train_image.nbytes, 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of a process's memory")
def test_decoding_needs_less_memory_than_half_again_the_decoded_size(tmp_path):
    """Everything counts: the interpreter, TFDS, the encoded images. Cold cache, then warm."""
    records = [(f"{i:03d}", np.full((600, 600, 3), i, np.uint8), i % 3) for i in range(240)]
    fakes.write_prepared("toy", tmp_path / "data", {"train": records, "test": records[:1]})
    for _ in range(2):
        command = [sys.executable, "-c", MEASURE, str(tmp_path)]
        done = subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parents[2])
        decoded, peak = map(int, done.stdout.split())
        print(f"peak {peak:,} bytes for {decoded:,} decoded")
        assert peak < 1.5 * decoded
