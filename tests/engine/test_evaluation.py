"""Evaluation against a plain loop over models and images in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.engine import evaluation, feed
from scarlet_jax.protocol.draws import Draws, GroupSize
from tests.support.populations import client, linear_learner, noise, population, started

pytestmark = pytest.mark.usefixtures("quick_compilation")
GROUPS, PARTICIPANTS = ((5, 3), (3, 2)), [0, 2, 4, 5, 7]
DATA = noise([4] * 8, [3, 0, 5, 1, 7, 2, 4, 6], val_sizes=[2, 1, 0, 3, 2, 2, 1, 0])


def softmax(params, images):
    kernel, bias = (np.asarray(params["linear"][name], np.float64) for name in ("kernel", "bias"))
    z = ((images.astype(np.float64) / 255 - 0.5) / 0.5).reshape(len(images), -1) @ kernel + bias
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def scores(params, images, labels):
    """Sums of hits, of hits among the best five of four classes and of losses, and the number of images."""
    probs = softmax(params, images) if len(images) else np.zeros((0, 4))
    own = probs[np.arange(len(labels)), labels]
    return (probs.argmax(1) == labels).sum(), len(labels), -np.log(own).sum(), len(labels)


def assert_scores(ours, expected, top5=True):
    """Against the four numbers of `scores`, of one model or of each. Validation images have no top-5."""
    expected = dict(zip(("top1", "top5", "loss", "samples"), np.asarray(expected, float).T, strict=True))
    found = ours.sums | {"samples": ours.samples}
    assert set(found) == set(expected) - (set() if top5 else {"top5"})
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)


def part(split, k):
    return split.rows[k, : split.size[k]]


def check(found, params, server, ids):
    """Every number, of the clients `ids` with `params`, and of a server (or None)."""
    assert np.asarray(found.ids).tolist() == ids
    pairs = [(p, k) for p, k in zip(params, ids, strict=True)]
    test = [scores(p, DATA.test_image[part(DATA.test, k)], DATA.test_label[part(DATA.test, k)]) for p, k in pairs]
    val = [scores(p, DATA.private_image[part(DATA.val, k)], DATA.private_label[part(DATA.val, k)]) for p, k in pairs]
    assert_scores(found.clients, test)
    assert_scores(found.client_val, val, top5=False)
    if server is None:
        assert found.server is None and found.public_val is None
        return
    assert_scores(found.server, scores(server, DATA.test_image, DATA.test_label))
    mean = np.mean([softmax(p, DATA.public_val_image) for p in params], 0)
    own = softmax(server, DATA.public_val_image)
    np.testing.assert_allclose(found.public_val.loss, (mean * np.log(mean / own)).sum(1).mean(), rtol=1e-4, atol=1e-6)
    assert float(found.public_val.agreement) == pytest.approx((mean.argmax(1) == own.argmax(1)).mean())


@pytest.mark.parametrize(("everyone", "server"), [(False, True), (True, False)])
def test_scores_are_those_of_a_loop(everyone, server):
    """Two groups of unequal sizes and shares, clients without test or validation images."""
    made = population(GROUPS, chunk=2, server=server, evaluate_all=everyone)
    clients, own = started(made, DATA)
    found = made.evaluate(clients, own, jax.device_put(DATA), jnp.array(PARTICIPANTS, jnp.int32))
    ids = list(range(8)) if everyone else PARTICIPANTS
    params = [client(clients[k >= 5].params, k - 5 * (k >= 5)) for k in ids]
    check(found, params, jax.device_get(own.params) if server else None, ids)


def test_clients_without_models_are_evaluated_with_the_servers():
    made = population(((8, 5),), own_models=False, learner=linear_learner())
    _, server = started(made, DATA)
    found = made.evaluate((), server, jax.device_put(DATA), jnp.array(PARTICIPANTS, jnp.int32))
    check(found, [jax.device_get(server.params)] * 5, jax.device_get(server.params), PARTICIPANTS)


def test_images_on_the_host_give_the_same_scores(monkeypatch):
    """The test set is sent in pieces of two batches of five images, the last of which is not full."""
    monkeypatch.setattr(evaluation, "SERVER_BATCH", 5)
    monkeypatch.setattr(evaluation, "PIECE", 2)
    assert len(DATA.test_label) == 28
    made = population(GROUPS, evaluate_all=True)
    clients, server = started(made, DATA)
    draws = Draws(0, tuple(GroupSize(*group) for group in GROUPS), 20, 4)
    fed = feed.Feed(DATA, feed.Schedule(draws, made.layouts), 1e-6, made.mesh)
    assert fed.on_host
    found = made.evaluate(clients, server, fed.evaluation(0), jnp.array(PARTICIPANTS, jnp.int32))
    params = [client(clients[k >= 5].params, k - 5 * (k >= 5)) for k in range(8)]
    check(found, params, jax.device_get(server.params), list(range(8)))


def test_a_server_model_of_each_architecture_is_scored_and_is_that_of_its_clients(monkeypatch):
    """Test images come in pieces of two batches, and each piece is sent once for all models."""
    monkeypatch.setattr(evaluation, "SERVER_BATCH", 5)
    monkeypatch.setattr(evaluation, "PIECE", 2)
    made = population(GROUPS, server="each", own_models=False)
    _, servers = started(made, DATA)
    servers["kind1"] = servers["kind1"]._replace(params=jax.tree.map(lambda a: 1 - a, servers["kind1"].params))
    draws = Draws(0, tuple(GroupSize(*group) for group in GROUPS), 20, 4)
    fed = feed.Feed(DATA, feed.Schedule(draws, made.layouts), 1e-6, made.mesh)
    found = made.evaluate(
        (), servers, fed.evaluation(0), jnp.asarray(feed.Schedule(draws, made.layouts).participants(0))
    )
    ids = np.asarray(found.ids).tolist()
    own = {name: jax.device_get(model.params) for name, model in servers.items()}
    params = [own["kind0" if k < 5 else "kind1"] for k in ids]
    assert list(found.servers) == list(made.server_names) == ["kind0", "kind1"]
    for name in own:
        check(found._replace(server=found.server[name], public_val=found.public_val[name]), params, own[name], ids)


@pytest.mark.parametrize(("size", "devices", "expected"), [(10_000, 1, 1000), (10_000, 8, 1000), (600, 1, 750),
                                                           (600, 4, 250), (100, 1, 100), (7, 3, 7)])  # fmt: skip
def test_a_piece_is_some_full_batches(size, devices, expected):
    """Four of 250 images for each device, or as many as cover the test set."""
    assert evaluation.piece_size(size, devices) == expected
