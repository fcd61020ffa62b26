"""A user's own .npz: what is read from it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.data_fakes import load, refusal


def an_npz(tmp_path: Path, **arrays) -> str:
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays)
    return str(path)


IMAGE = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
LABEL = np.arange(40) % 4


def test_npz_with_a_test_part(tmp_path):
    source = load(an_npz(tmp_path, image=IMAGE, label=LABEL, test_image=IMAGE[:8], test_label=LABEL[:8]), tmp_path)
    np.testing.assert_array_equal(source.train_image, IMAGE)
    np.testing.assert_array_equal(source.test_image, IMAGE[:8])
    assert source.num_classes == 4 and source.train_label.dtype == np.int32


def test_npz_without_a_test_part_is_split(tmp_path):
    source = load(an_npz(tmp_path, image=IMAGE[..., 0], label=LABEL.astype(np.uint8)), tmp_path)
    assert source.train_image.shape == (32, 6, 5, 1) and source.test_image.shape == (8, 6, 5, 1)
    np.testing.assert_array_equal(np.bincount(source.test_label), [2, 2, 2, 2])


def test_a_pool_uses_every_image_whatever_else_the_file_has(tmp_path):
    """As private data the same file gives a fifth away to be a test part; a pool has no use for one."""
    path = an_npz(tmp_path, image=IMAGE, label=LABEL)
    np.testing.assert_array_equal(load(path, tmp_path, labelled=False).train_image, IMAGE)
    assert len(load(path, tmp_path).train_image) == 32
    odd = an_npz(tmp_path, image=IMAGE, label=np.array(["cat"] * 40), test_image=IMAGE[0], client=np.zeros(3))
    np.testing.assert_array_equal(load(odd, tmp_path, labelled=False).train_image, IMAGE)
    assert len(load("digits", tmp_path, labelled=False).train_image) == 1797


def test_arrays_in_column_order_and_of_other_integer_types(tmp_path):
    path = an_npz(
        tmp_path, image=np.asfortranarray(IMAGE), label=LABEL.astype(">u2"),
        test_image=np.asfortranarray(IMAGE[:8]), test_label=LABEL[:8].astype(np.uint64),
    )  # fmt: skip
    source = load(path, tmp_path)
    np.testing.assert_array_equal(source.train_image, IMAGE)
    np.testing.assert_array_equal(source.test_image, IMAGE[:8])
    np.testing.assert_array_equal(source.train_label, LABEL)


@pytest.mark.parametrize("classes", [1, 2, 5, 6, 11])
def test_a_small_set_has_a_test_part_if_any_class_has_two_images(tmp_path, classes):
    source = load(an_npz(tmp_path, image=IMAGE[:12], label=np.arange(12) % classes), tmp_path)
    assert len(source.test_label) >= 1 and len(source.train_label) + len(source.test_label) == 12
    assert set(source.train_label) == set(range(classes)), "every class keeps an image to learn from"


def test_npz_without_labels_serves_as_public_pool_only(tmp_path):
    path = an_npz(tmp_path, image=IMAGE)
    assert len(load(path, tmp_path, labelled=False).train_image) == 40
    assert "image and label" in refusal(path, tmp_path)


@pytest.mark.parametrize(
    "arrays,word",
    [
        ({"image": IMAGE / 255, "label": LABEL}, "uint8"),
        ({"image": IMAGE[0, 0], "label": LABEL[:5]}, "uint8[n, H, W"),
        ({"image": IMAGE, "label": LABEL[:-1]}, "integer[40]"),
        ({"image": IMAGE, "label": LABEL * 0.5}, "integer[40]"),
        ({"image": IMAGE, "label": LABEL - 1}, "numbered from 0"),
        ({"image": IMAGE, "label": LABEL, "test_image": IMAGE}, "test_label"),
        ({"image": IMAGE, "label": LABEL, "test_image": IMAGE[:, :5], "test_label": LABEL}, "test_image"),
        ({"picture": IMAGE}, "image and label"),
        ({"x_train": IMAGE, "y_train": LABEL}, "it has x_train, y_train."),
        ({f"{'k' * 900}{i}": LABEL for i in range(30)}, "and 22 more."),
        ({"image": IMAGE.transpose(0, 3, 1, 2), "label": LABEL}, "save image.transpose(0, 2, 3, 1)"),
        ({"image": IMAGE[..., :1].transpose(0, 3, 1, 2), "label": LABEL}, "save image.transpose(0, 2, 3, 1)"),
        ({"image": IMAGE, "label": LABEL[:, None]}, "save label[:, 0]"),
        ({"image": IMAGE, "label": np.eye(4)[LABEL]}, "label.argmax(1)"),
        ({"image": IMAGE, "label": LABEL > 1}, "save label.astype(int)"),
        ({"image": IMAGE, "label": np.array(["cat"] * 40)}, "integer[40]"),
        ({"image": IMAGE, "label": LABEL + 65_533}, "at most 65,535"),
        ({"image": np.array([None]), "label": LABEL}, "plain arrays"),
        ({"image": IMAGE[:0], "label": LABEL[:0]}, "uint8"),
    ],
)
def test_unfit_npz_are_refused(tmp_path, arrays, word):
    sentence = refusal(an_npz(tmp_path, **arrays), tmp_path)
    assert word in sentence and sentence.endswith(".") and len(sentence) < 800, sentence


@pytest.mark.parametrize("blob", [b"", b"PK\x03\x04 broken", b"\x93NUMPY", b"text"])
def test_files_that_are_no_npz_are_refused(tmp_path, blob):
    path = tmp_path / "mine.npz"
    path.write_bytes(blob)
    assert str(path) in refusal(str(path), tmp_path)
    assert "there is no file" in refusal(str(tmp_path / "other.npz"), tmp_path)
