"""What is legal in a data set, and yet probably not meant."""

import numpy as np
import pytest

from scarlet_jax.data.record import Source
from scarlet_jax.data.remarks import remarks


def source(train, test=(), classes=6, names=(), brightest=255):
    image = np.full((len(train), 2, 2, 1), brightest, np.uint8)
    labels = [np.array(labels, np.int32) for labels in (train, test)]
    return Source("mine.npz", "", "a file", image, labels[0], image[: len(test)], labels[1], classes, names)


def test_nothing_is_said_of_an_ordinary_set():
    assert remarks(source(range(6))) == []


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        ([0, 2, 5], [], "in which 3 of 6 classes have no training images (1, 3 to 4); np.unique("),
        ([0, 2, 5], [1, 5], "(1, 3 to 4), 1 of them with test images; np.unique("),
        ([5], [], "in which 5 of 6 classes have no training images (0 to 4); "),
    ],
)
def test_classes_without_images_are_listed(train, test, words):
    [sentence] = remarks(source(train, test))
    assert sentence.startswith("config.data.private is 'mine.npz', ") and words in sentence and sentence.endswith(".")


def test_named_classes_are_not_to_be_numbered_anew():
    [sentence] = remarks(source([0, 1], classes=3, names=("a", "b", "c")), "config.data.public")
    assert sentence.startswith("config.data.public is ") and "np.unique" not in sentence


def test_one_class_and_dark_images():
    sentences = remarks(source([0, 0], classes=1, brightest=1))
    assert len(sentences) == 2
    assert "all of one class: every model is right about them." in sentences[0]
    assert "whose pixels are 0 and 1" in sentences[1]
