"""`partition.name = given`: whose each image is, from the data set or from a file; and `partition.seed`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from configs import base
from configs import digits as card
from scarlet_jax import build
from scarlet_jax.data.federation import Federation, load
from scarlet_jax.errors import UserError

COUNT = 60
RNG = np.random.default_rng(5)
# The first pixel of an image says which it is, whatever is done to the order.
IMAGE = np.broadcast_to(np.arange(COUNT, dtype=np.uint8)[:, None, None], (COUNT, 8, 8)).copy()
LABEL, CLIENT = RNG.integers(0, 3, COUNT), RNG.permutation(np.arange(COUNT) % 4)


def federation_of(tmp_path: Path, arrays: dict[str, np.ndarray], **fields) -> Federation:
    np.savez(tmp_path / "mine.npz", **arrays)
    config = base.get_config()
    config.num_clients, config.public_size = 4, 8
    config.data.private, config.data.public = str(tmp_path / "mine.npz"), "digits"
    config.partition.name = "given"
    config.update_from_flattened_dict(fields)
    return load(config)


def owned(fed: Federation, split: str, store: str) -> list[set[int]]:
    rows = getattr(fed.data, split)
    image = getattr(fed.data, store)[:, 0, 0, 0]
    return [set(image[own[:size]].tolist()) for own, size in zip(rows.rows, rows.size, strict=True)]


def everyone(client: np.ndarray) -> list[set[int]]:
    return [set(np.flatnonzero(client == k).tolist()) for k in range(4)]


def test_every_image_goes_to_its_client_in_both_parts(tmp_path):
    """Without test arrays a fifth is held out: an image's client keeps it, in one part or in the other."""
    fed = federation_of(tmp_path, {"image": IMAGE, "label": LABEL, "client": CLIENT})
    train, test = owned(fed, "train", "private_image"), owned(fed, "test", "test_image")
    assert [a | b for a, b in zip(train, test, strict=True)] == everyone(CLIENT)
    assert sum(map(len, test)) == len(fed.data.test_image) > 5


def test_test_clients_are_taken_where_they_are_given(tmp_path):
    arrays = {"image": IMAGE, "label": LABEL, "client": CLIENT, "test_image": IMAGE, "test_label": LABEL}
    fed = federation_of(tmp_path, arrays | {"test_client": CLIENT[::-1]})
    assert owned(fed, "train", "private_image") == everyone(CLIENT)
    assert owned(fed, "test", "test_image") == everyone(CLIENT[::-1])


def test_otherwise_test_images_follow_the_training_images_of_their_class(tmp_path):
    label = np.where(CLIENT == 0, 0, np.where(CLIENT == 1, 1, 2))  # class 2 is shared by clients 2 and 3
    test = {"test_image": IMAGE, "test_label": np.repeat([0, 1, 2], 20)}
    fed = federation_of(tmp_path, {"image": IMAGE, "label": label, "client": CLIENT} | test)
    parts = owned(fed, "test", "test_image")
    assert parts[0] == set(range(20)) and parts[1] == set(range(20, 40))
    assert len(parts[2]) == len(parts[3]) == 10 and parts[2] | parts[3] == set(range(40, 60))


@pytest.mark.parametrize("form", ["npy", "npz", "txt", "csv"])
def test_a_file_says_the_same_as_the_array(tmp_path, form):
    path = tmp_path / f"clients.{form}"
    if form == "npy":
        np.save(path, CLIENT)
    elif form == "npz":
        np.savez(path, client=CLIENT)
    else:
        path.write_text((", " if form == "csv" else "\n").join(map(str, CLIENT.tolist())) + "\n")
    arrays = {"image": IMAGE, "label": LABEL}
    one = federation_of(tmp_path, arrays | {"client": CLIENT})
    other = federation_of(tmp_path, arrays, **{"partition.file": str(path)})
    for split in ("train", "test"):
        for a, b in zip(getattr(one.data, split), getattr(other.data, split), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_pool_carved_out_and_random_parts_leave_every_image_with_its_client(tmp_path):
    client = tmp_path / "clients.txt"
    client.write_text("\n".join(str(i % 10) for i in range(1797)))
    config = base.get_config()
    config.num_clients, config.public_size = 10, 300
    config.data.private = config.data.public = "digits"
    config.data.train_size, config.partition.name, config.partition.file = 500, "given", str(client)
    fed = load(config)
    assert fed.data.train.size.sum() == 500
    from scarlet_jax.data.sources import load_source

    source = load_source("digits", tmp_path, tmp_path)
    assert source.held_out is not None
    for k, (rows, size) in enumerate(zip(fed.data.train.rows, fed.data.train.size, strict=True)):
        assert {int(row) % 10 for row in source.held_out[0][fed.private_rows[rows[:size]]]} == {k}


NONE: dict[str, np.ndarray] = {}
FAULTS = {
    "no clients at all": ({}, {}, "nothing says whose"),
    "too few clients asked for": ({"client": CLIENT}, {"num_clients": 3}, "config.num_clients is 3; allowed is 4"),
    "too many asked for": ({"client": CLIENT}, {"num_clients": 100}, "config.num_clients is 100; allowed is 4"),
    "a gap": ({"client": np.where(CLIENT == 1, 9, CLIENT)}, {}, "no training image belongs to client 1"),
    "counted from 1": ({"client": CLIENT + 1}, {}, "belongs to client 0"),
    "negative": ({"client": CLIENT - 1}, {}, "numbered from 0"),
    "too few numbers": ({"client": CLIENT[:-1]}, {}, "integer[60]"),
    "names": ({"client": CLIENT.astype(str)}, {}, "integer[60]"),
    "test clients without test images": ({"client": CLIENT, "test_client": CLIENT}, {}, "test_client"),
    "no file": ({}, {"partition.file": "gone.txt"}, "there is no file gone.txt"),
    "a folder": ({}, {"partition.file": "."}, "config.partition.file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_clients_that_do_not_fit_are_refused_in_one_sentence(tmp_path, fault):
    arrays, fields, words = FAULTS[fault]
    with pytest.raises(UserError) as error:
        federation_of(tmp_path, {"image": IMAGE, "label": LABEL} | arrays, **fields)
    sentence = str(error.value)
    assert words in sentence and sentence.endswith(".") and "\n" not in sentence, sentence


@pytest.mark.parametrize("blob", [b"0 1 x", b"", b"0 1 2", b"\x93NUMPY", b"9" * 5000, bytes(100)])
def test_files_that_are_no_list_of_clients_are_refused(tmp_path, blob):
    path = tmp_path / "clients.txt"
    path.write_bytes(blob)
    with pytest.raises(UserError, match=r"^config\.partition\.file: .*clients\.txt.*\.$"):
        federation_of(tmp_path, {"image": IMAGE, "label": LABEL}, **{"partition.file": str(path)})


def digits(seed: int, partition_seed: int | None) -> Federation:
    config = base.get_config()
    config.num_clients, config.public_size, config.seed = 5, 200, seed
    config.data.private = config.data.public = "digits"
    config.data.train_size, config.data.test_size, config.private_val_ratio = 600, 100, 0.1
    if partition_seed is not None:
        config.partition.seed = partition_seed
    return load(config)


def same(one: Federation, other: Federation) -> bool:
    flat = [
        (x, y)
        for a, b in zip(one.data, other.data, strict=True)
        for x, y in (zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)])
    ]
    return all(np.array_equal(x, y) for x, y in flat)


def test_one_split_meets_several_model_seeds():
    assert same(digits(0, 7), digits(1, 7))
    assert same(digits(7, None), digits(3, 7)), "open, it is the run's seed"
    assert not same(digits(0, None), digits(1, None)) and not same(digits(0, 7), digits(0, 8))


def test_weights_and_draws_still_follow_the_runs_seed():
    config = card.get_config()
    config.seed, config.partition.seed = 4, 9
    assert build.draws(config).seed == 4
