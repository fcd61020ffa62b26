"""What must hold of methods whatever they compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.engine.by_class import ClassVectors
from scarlet_jax.methods import METHODS
from scarlet_jax.methods.averaging import weighted_mean
from scarlet_jax.methods.class_knowledge import Sent, Sizes
from scarlet_jax.tables import load
from tests.support.federations import same_bits
from tests.support.populations import noise
from tests.support.uploads import some_rows, uploads

pytestmark = pytest.mark.usefixtures("quick_compilation")
DISTILLATION = [name for name, entry in METHODS.items() if entry.distils]


def aggregated(name, probs, sent):
    """The labels that a method makes of rows f32[M, P, C], sent bool[M, P], in its first round."""
    method = load(METHODS[name].builder)()
    own = method.init(noise([2] * len(probs), [1] * len(probs)))
    return method.aggregate(own, uploads(probs, sent))[0]


@pytest.mark.parametrize("name", DISTILLATION)
def test_the_order_of_clients_changes_no_aggregate(name):
    rng = np.random.default_rng(1)
    probs, sent = some_rows(rng)
    labels = aggregated(name, probs, sent)
    order = rng.permutation(5)
    shuffled = aggregated(name, probs[order], sent[order])
    answered = np.asarray(sent.any(0))
    np.testing.assert_allclose(shuffled.target[answered], labels.target[answered], rtol=1e-5)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(labels)), "nobody answered for sample 0"
    if labels.payload is not None:  # COMET numbers its clusters by their first client, and KT-pFL has a row of each
        ours, theirs = (np.sort(np.asarray(x.payload), 1)[answered] for x in (labels, shuffled))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    rows = np.asarray(labels.target)
    np.testing.assert_allclose(rows[answered].sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", DISTILLATION)
def test_rows_that_were_not_sent_are_not_seen(name):
    probs, sent = some_rows(np.random.default_rng(2))
    seen = aggregated(name, probs, sent)
    other = aggregated(name, jnp.where(sent[:, :, None], probs, 0.25), sent)
    same_bits(seen, other)


@pytest.fixture(params=[name for name, entry in METHODS.items() if entry.by_class])
def exchange(request):
    """A method that exchanges vectors of classes, after a first round, and what its clients 0 to 3 send in the next."""
    rng = np.random.default_rng(3)
    method = load(METHODS[request.param].builder)()

    def sent():
        known = rng.random((4, 5)) < [0.6, 0.6, 0.6, 0.6, 0]  # nobody has the last class
        images = np.where(known, rng.integers(1, 9, (4, 5)), 0)
        vectors = ClassVectors(rng.dirichlet(np.ones(5), (4, 5)).astype(np.float32), known)
        return jax.device_put(Sent(vectors, images.astype(np.int32), np.arange(4)))

    return method, method.aggregate(method.init(Sizes(4, 5, 5)), sent()), sent()


def taught(method, state):
    """The vectors that clients 0 to 3 receive; 0 for an unknown class."""
    vector, known = jax.vmap(lambda client: method.teach(state, client))(jnp.arange(4))
    return ClassVectors(jnp.where(known[:, :, None], vector, 0), known)


def test_clients_that_change_places_change_their_teachers_too(exchange):
    method, before, sent = exchange
    order = np.array([2, 0, 3, 1])
    vectors, images = jax.tree.map(lambda a: a[order], (sent.vectors, sent.images))
    moved = Sent(vectors, images, sent.ids)
    one, other = (taught(method, method.aggregate(before, own)) for own in (sent, moved))
    np.testing.assert_array_equal(other.known, one.known[order])
    assert one.known.any() and not one.known[:, -1].any()
    # Means of at most four numbers below 1, which are added in another order.
    np.testing.assert_allclose(other.vector, one.vector[order], atol=1e-6)


def test_vectors_of_classes_that_a_client_has_not_are_not_seen(exchange):
    method, before, sent = exchange
    vector = jnp.where(sent.vectors.known[..., None], sent.vectors.vector, 1e6)
    other = sent._replace(vectors=sent.vectors._replace(vector=vector))
    same_bits(*(taught(method, method.aggregate(before, own)) for own in (sent, other)))


def test_the_order_of_clients_changes_no_average_of_models():
    rng = np.random.default_rng(4)
    models, weight = {"w": rng.normal(size=(5, 3, 2)).astype(np.float32)}, np.array([3, 0, 7, 1, 2])
    order = rng.permutation(5)
    nothing = {"w": np.zeros((3, 2), np.float32)}
    one = weighted_mean(models, weight, nothing)
    other = weighted_mean({"w": models["w"][order]}, weight[order], nothing)
    np.testing.assert_allclose(other["w"], one["w"], atol=1e-6)
    np.testing.assert_allclose(one["w"], np.average(models["w"].astype(float), 0, weight), atol=1e-6)
