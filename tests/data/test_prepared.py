"""Data sets prepared by TFDS: order, form, versions, and agreement with TFDS's own decoding."""

from __future__ import annotations

import random
from pathlib import Path

import data_fakes as fakes
import numpy as np
import pytest
from data_fakes import load, refusal

from scarlet_jax.data import prepared, sources
from scarlet_jax.folders import cache_dir

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
