"""A user's own .npz: what is read from it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_fakes import load, refusal


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
        ({"image": np.array([None]), "label": LABEL}, "plain arrays"),
        ({"image": IMAGE[:0], "label": LABEL[:0]}, "uint8"),
    ],
)
def test_unfit_npz_are_refused(tmp_path, arrays, word):
    assert word in refusal(an_npz(tmp_path, **arrays), tmp_path)


@pytest.mark.parametrize("blob", [b"", b"PK\x03\x04 broken", b"\x93NUMPY", b"text"])
def test_files_that_are_no_npz_are_refused(tmp_path, blob):
    path = tmp_path / "mine.npz"
    path.write_bytes(blob)
    assert str(path) in refusal(str(path), tmp_path)
    assert "there is no file" in refusal(str(tmp_path / "other.npz"), tmp_path)
