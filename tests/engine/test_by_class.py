"""Sums by class, the classes of a client and the nearest prototype, against plain NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from scarlet_jax.engine.by_class import ByClass, ClassVectors, held, nearness, no_sums
from scarlet_jax.types import Split
from tests.support import plain_features as plain
from tests.support.plain_linear import EPOCHS
from tests.support.populations import CLASSES, SIDE, noise


def test_sums_are_of_the_images_of_a_class_without_padding():
    rng = np.random.default_rng(0)
    sums, values, labels = no_sums(4, 3), [], []
    for _ in range(3):
        value, label = rng.normal(size=(5, 3)).astype(np.float32), rng.integers(0, 3, 5)
        mask = np.array([True, True, False, True, False])
        sums = sums.add(jnp.asarray(value), jnp.asarray(label), jnp.asarray(mask))
        values, labels = [*values, *value[mask]], [*labels, *label[mask]]
    labels = np.array(labels)
    means = sums.means()
    assert sums.images.tolist() == [int((labels == c).sum()) for c in range(4)]
    assert means.known.tolist() == [bool((labels == c).any()) for c in range(4)] and not means.known[3]
    for c in set(labels.tolist()):
        np.testing.assert_allclose(means.vector[c], np.array(values)[labels == c].mean(0), rtol=1e-5)


def test_a_client_holds_the_classes_of_its_images():
    labels = jnp.array([2, 0, 0, 1])
    split = Split(jnp.array([[1, 2, 0], [3, 0, 0], [0, 0, 0]]), jnp.array([2, 2, 0]))
    found = [held(labels, split, client, 4).tolist() for client in range(3)]
    assert found == [[True, False, False, False], [False, True, True, False], [False] * 4]


def test_the_nearest_prototype_is_that_of_the_smallest_distance():
    rng = np.random.default_rng(1)
    features, vectors = rng.normal(size=(20, 6)), rng.normal(size=(5, 6))
    known = np.array([True, True, False, True, False])
    near = np.asarray(nearness(jnp.float32(features), ClassVectors(jnp.float32(vectors), jnp.asarray(known))))
    distance = ((features[:, None] - vectors) ** 2).sum(-1)
    assert (near[:, ~known] == -np.inf).all()
    differences = near[:, known] + distance[:, known]  # a constant of each row
    np.testing.assert_allclose(differences, differences[:, :1] * np.ones(3), atol=1e-5)
    assert near.argmax(1).tolist() == np.where(known, distance, np.inf).argmin(1).tolist()


def test_the_last_epoch_or_all_are_summed():
    data = jax.device_put(noise([7], [2], public_val=0))
    learner, rows, size = plain.learner(), data.train.rows[0], data.train.size[0]
    state = learner.init(jax.random.key(0), (SIDE, SIDE, 1))
    images = [0] * CLASSES
    for label in np.asarray(data.private_label[rows[:size]]):
        images[label] += 1
    for last in (True, False):
        own = ByClass(lambda o, y: 0 * o.logits[:, 0], lambda o: o.features, plain.FEATURES, last)
        arguments = jax.random.key(1), data.private_image, data.private_label, rows, size
        trained, metrics = learner.fit(state, *arguments, by_class=own)
        assert metrics.outputs.images.tolist() == [n * (1 if last else EPOCHS) for n in images]
        same, without = learner.fit(state, *arguments)
        assert without.outputs is None and float(without.loss) == float(metrics.loss)
        for a, b in zip(jax.tree.leaves(trained.params), jax.tree.leaves(same.params), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_a_model_says_how_many_features_it_gives():
    assert plain.learner().feature_size((SIDE, SIDE, 1)) == plain.FEATURES
    assert plain.learner(gives=False).feature_size((SIDE, SIDE, 1)) is None
