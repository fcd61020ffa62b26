"""From a config to a federation, and the partition that is written down."""

from __future__ import annotations

import csv
import threading

import numpy as np
import pytest

from configs import base
from scarlet_jax.data import describe, sources
from scarlet_jax.data.federation import load
from scarlet_jax.errors import UserError
from tests.support import data_fakes as fakes


def config_of(tmp_path, **fields):
    config = base.get_config()
    config.num_clients, config.public_size = 10, 300
    config.data.private = config.data.public = "digits"
    config.data.dir, config.data.cache_dir = str(tmp_path / "data"), str(tmp_path / "cache")
    config.partition.alpha = 0.3
    config.update_from_flattened_dict(fields)
    return config


def rows_of(split) -> list[np.ndarray]:
    return [index[:size] for index, size in zip(split.rows, split.size, strict=True)]


def npz(tmp_path, name: str, shape, count: int = 60) -> str:
    rng = np.random.default_rng(1)
    path = tmp_path / f"{name}.npz"
    np.savez(path, image=rng.integers(0, 256, (count, *shape), dtype=np.uint8), label=np.arange(count) % 3)
    return str(path)


@pytest.mark.parametrize("partitioner", ["dirichlet", "label_dirichlet", "iid", "shards"])
def test_shapes_types_and_disjointness(tmp_path, partitioner):
    config = config_of(tmp_path, **{"partition.name": partitioner, "private_val_ratio": 0.2, "public_val_ratio": 0.1})
    fed = load(config)
    data = fed.data
    assert fed.image_shape == (8, 8, 1) and fed.num_classes == 10 and len(fed.class_names) == 10
    for image in (data.private_image, data.test_image, data.public_image, data.public_val_image):
        assert image.dtype == np.uint8 and image.shape[1:] == (8, 8, 1)
    for label in (data.private_label, data.test_label):
        assert label.dtype == np.int32
    assert len(data.public_image) == 270 and len(data.public_val_image) == 30
    for split in (data.train, data.val, data.test):
        assert split.rows.dtype == split.size.dtype == np.int32
        assert split.rows.shape == (10, max(1, split.size.max()))
        for index, size in zip(split.rows, split.size, strict=True):
            assert not index[size:].any()
    private = np.concatenate(rows_of(data.train) + rows_of(data.val))
    assert len(np.unique(private)) == len(private)
    if partitioner != "dirichlet":
        assert len(private) == len(data.private_image)
    source = sources.load_source("digits", tmp_path, tmp_path)
    np.testing.assert_array_equal(data.private_image, source.train_image[fed.private_rows])
    np.testing.assert_array_equal(data.public_image, source.train_image[fed.public_rows])
    everyone = np.concatenate([fed.private_rows, fed.public_rows, fed.public_val_rows])
    np.testing.assert_array_equal(np.sort(everyone), np.arange(len(source.train_image)))


def check_equal(one, other) -> None:
    for a, b in zip(one.data, other.data, strict=True):
        for x, y in zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]:
            np.testing.assert_array_equal(x, y)


def test_the_seed_decides_everything(tmp_path):
    check_equal(load(config_of(tmp_path)), load(config_of(tmp_path)))
    one, other = load(config_of(tmp_path)), load(config_of(tmp_path, seed=1))
    assert not np.array_equal(one.public_rows, other.public_rows)
    assert not np.array_equal(one.data.train.rows, other.data.train.rows)


def test_random_parts_leave_the_main_generator_alone(tmp_path):
    """With two data sets, train_size equal to everything draws the same partition as 0."""
    public = npz(tmp_path, "public", (8, 8, 1))
    fields = {"data.public": public, "public_size": 20}
    whole = load(config_of(tmp_path, **fields))
    everything = load(config_of(tmp_path, **fields, **{"data.train_size": len(whole.data.private_image)}))
    check_equal(whole, everything)
    part = load(config_of(tmp_path, **fields, **{"data.train_size": 200, "data.test_size": 100}))
    assert len(part.data.private_image) == 200 and len(part.data.test_image) == 100
    assert (np.diff(part.private_rows) > 0).all()


@pytest.mark.parametrize("private,public", [((8, 8, 1), (16, 16, 1)), ((12, 10, 3), (8, 8, 1)), ((8, 8, 3), (5, 9, 3))])
def test_public_images_take_the_private_form(tmp_path, private, public):
    config = config_of(
        tmp_path,
        **{"data.private": npz(tmp_path, "a", private), "data.public": npz(tmp_path, "b", public), "public_size": 30},
    )
    config.num_clients = 3
    fed = load(config)
    assert fed.data.public_image.shape == (30, *private)
    assert fed.data.public_image.std() > 10
    assert fed.class_names == ("0", "1", "2")


@pytest.mark.parametrize("name", ["toy", "digits", "mine.npz"])
def test_a_gray_data_set_becomes_colour_where_the_pool_is(tmp_path, name):
    if name == "toy":
        rng = np.random.default_rng(2)
        records = [(f"{i:03d}", rng.integers(0, 256, (8, 8, 1), dtype=np.uint8), i % 3) for i in range(40)]
        fakes.write_prepared("toy", tmp_path / "data", {"train": records, "test": records[:10]})
    if name == "mine.npz":
        name = npz(tmp_path, "mine", (8, 8))
    gray = sources.load_source(name, tmp_path / "data", tmp_path / "cache")
    fields = {"data.private": name, "public_size": 20, "num_clients": 3}
    fed = load(config_of(tmp_path, **fields, **{"data.public": npz(tmp_path, "colour", (9, 7, 3))}))
    assert fed.image_shape == (8, 8, 3) and fed.data.public_image.shape == (20, 8, 8, 3)
    np.testing.assert_array_equal(fed.data.private_image, np.repeat(gray.train_image, 3, axis=3))
    np.testing.assert_array_equal(fed.data.test_image, np.repeat(gray.test_image, 3, axis=3))
    fed = load(config_of(tmp_path, **fields, **{"data.public": npz(tmp_path, "gray", (8, 8, 1))}))
    assert fed.image_shape == (8, 8, 1)


@pytest.mark.parametrize("public", ["digits", "a set that is nowhere"])
def test_a_method_that_uses_no_pool_asks_for_none(tmp_path, public):
    """A pool inside the private data set is set aside all the same: clients have the images of the other methods."""
    fields = {"private_val_ratio": 0.2, "data.train_size": 900}
    fed = load(config_of(tmp_path, **fields, **{"data.public": public}), public=False)
    assert fed.data.public_image.shape == fed.data.public_val_image.shape == (0, 8, 8, 1)
    assert not len(fed.public_rows) and list(fed.sources) == ["private"]
    assert "none public" in describe.text(fed)
    if public == "digits":
        other = load(config_of(tmp_path, **fields))
        for name in ("private_image", "private_label", "test_image", "test_label"):
            np.testing.assert_array_equal(getattr(fed.data, name), getattr(other.data, name))
        for split in ("train", "val", "test"):
            for ours, theirs in zip(getattr(fed.data, split), getattr(other.data, split), strict=True):
                np.testing.assert_array_equal(ours, theirs)
    else:
        with pytest.raises(UserError, match="nowhere"):
            load(config_of(tmp_path, **fields, **{"data.public": public}))


def test_empty_clients_are_padded(tmp_path):
    fed = load(config_of(tmp_path, seed=1, **{"partition.name": "label_dirichlet", "partition.alpha": 1e-6}))
    assert (fed.data.train.size == 0).any()
    assert fed.data.train.size.sum() == len(fed.data.private_image)


@pytest.mark.parametrize(
    "fields,words",
    [
        ({"public_size": 5000}, ["config.public_size is 5000", "1438", "allowed is 1 to 1428"]),
        ({"public_size": 0}, ["config.public_size is 0", "allowed is 1 to"]),
        ({"data.train_size": 1400}, ["config.data.train_size is 1400", "1 to 1138"]),
        ({"data.test_size": -1}, ["config.data.test_size is -1"]),
        ({"private_val_ratio": 1.0}, ["config.private_val_ratio is 1.0", "below 1"]),
        ({"public_val_ratio": -0.1}, ["config.public_val_ratio is -0.1"]),
        ({"partition.name": "none"}, ["config.partition.name is 'none'", "iid"]),
        ({"num_clients": 1139}, ["config.public_size is 300", "1139 clients"]),
        ({"num_clients": 1438}, ["config.num_clients is 1438", "allowed is 1 to 1437"]),
        ({"num_clients": 2000}, ["config.num_clients is 2000", "allowed is 1 to 1437"]),
        ({"num_clients": 0}, ["config.num_clients is 0"]),
        ({"seed": -1}, ["config.seed is -1"]),
        ({"data.private": "digitz"}, ["config.data.private is 'digitz'", "did you mean digits"]),
        ({"data.public": "gone.npz"}, ["data.public", "there is no file gone.npz"]),
    ],
)
def test_the_impossible_is_refused_by_name(tmp_path, fields, words):
    with pytest.raises(UserError) as error:
        load(config_of(tmp_path, **fields))
    sentence = str(error.value)
    assert all(word in sentence for word in words) and sentence.endswith(".") and "\n" not in sentence


@pytest.mark.parametrize(
    "label,pixels,words",
    [
        (np.arange(60) % 3 * 1000, 255, ["1,998 of 2,001 classes", "(1 to 999, 1001 to 1999)", "np.unique(label"]),
        (np.arange(60) % 3 + 1, 255, ["1 of 4 classes", "(0)", "np.unique(label"]),
        (np.arange(60) % 30 * 2, 255, ["29 of 59 classes", "(1, 3, 5, 7, 9, ...)"]),
        (np.zeros(60, int), 255, ["all of one class"]),
        (np.arange(60) % 3, 1, ["pixels are 0 and 1"]),
        (np.arange(60) % 3, 255, []),
    ],
)
def test_what_is_legal_and_probably_not_meant_is_said_in_a_line(tmp_path, caplog, label, pixels, words):
    path = tmp_path / "odd.npz"
    np.savez(path, image=np.random.default_rng(0).integers(0, pixels + 1, (60, 8, 8), dtype=np.uint8), label=label)
    load(config_of(tmp_path, **{"data.private": str(path), "public_size": 20, "num_clients": 3}))
    assert [record.levelname for record in caplog.records] == ["WARNING"] * bool(words)
    for word in words:
        assert word in caplog.text
    for record in caplog.records:
        assert "\n" not in record.getMessage() and record.getMessage().endswith(".")


@pytest.mark.parametrize(
    "count,classes,fields,words",
    [
        (6, 6, {}, "config.data.private is .* has no test images; allowed is"),
        (2, 1, {"data.public": None}, "config.data.public is .* one training image"),
        (12, 3, {"data.public": None, "num_clients": 20}, r"config.num_clients is 20; allowed is 1 to \d,"),
        (12, 6, {"num_clients": 11}, r"config.num_clients is 11; allowed is 1 to 10,"),
    ],
)
def test_small_sets_are_told_a_range_that_exists(tmp_path, count, classes, fields, words):
    path = tmp_path / "small.npz"
    np.savez(path, image=np.zeros((count, 8, 8), np.uint8) + 9, label=np.arange(count) % classes)
    fields = {key: str(path) if value is None else value for key, value in fields.items()}
    with pytest.raises(UserError, match=words):
        load(config_of(tmp_path, **({"data.private": str(path), "public_size": 3, "num_clients": 1} | fields)))


@pytest.mark.needs_data("cifar10")
@pytest.mark.needs_data("cifar100")
def test_the_small_cifar_experiment():
    from configs import cifar10_small

    fed = load(cifar10_small.get_config())  # through the suite's own cache
    assert fed.data.private_image.shape == (5000, 32, 32, 3) and fed.data.public_image.shape == (1000, 32, 32, 3)
    assert fed.data.train.size.tolist() == [500] * 10 and fed.data.test.size.tolist() == [100] * 10
    assert fed.sources["private"]["origin"].startswith("TFDS cifar10")


@pytest.mark.parametrize("clients,ratio", [(10, 0.2), (1, 0.0), (60, 0.0)])
def test_the_partition_is_written_down(tmp_path, clients, ratio):
    fed = load(config_of(tmp_path, **{"num_clients": clients, "private_val_ratio": ratio}))
    workdir = tmp_path / "run"
    worker = threading.Thread(target=describe.write_partition, args=(fed, workdir))  # as the program does
    worker.start()
    worker.join()
    assert sorted(path.name for path in workdir.iterdir()) == ["partition.csv", "partition.npz", "partition.png"]
    with np.load(workdir / "partition.npz") as arrays:
        np.testing.assert_array_equal(arrays["train_index"], fed.data.train.rows)
        np.testing.assert_array_equal(arrays["val_size"], fed.data.val.size)
        np.testing.assert_array_equal(arrays["public_rows"], fed.public_rows)
        for client, rows in enumerate(rows_of(fed.data.train)):
            counts = np.bincount(fed.data.private_label[rows], minlength=10)
            np.testing.assert_array_equal(arrays["train_histogram"][client], counts)
    with (workdir / "partition.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 3 * clients
    for row in table:
        assert sum(int(row[name]) for name in fed.class_names) == int(row["size"])
    assert (workdir / "partition.png").read_bytes().startswith(b"\x89PNG")
    describe.write_partition(fed, workdir)  # a second run overwrites
    assert len(list(workdir.iterdir())) == 3
