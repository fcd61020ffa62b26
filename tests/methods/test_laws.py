"""What must hold of methods whatever they compute."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import digits
from scarlet_jax import build as registry
from scarlet_jax import methods
from scarlet_jax.data import federation as federation_data
from scarlet_jax.engine.layout import make_mesh
from scarlet_jax.methods import METHODS, averaging
from scarlet_jax.methods.fedavg import proximal
from scarlet_jax.tables import load
from tests.support.harness import TINY
from tests.support.uploads import uploads

pytestmark = pytest.mark.usefixtures("quick_compilation")
DISTILLATION = [name for name, entry in METHODS.items() if entry.distils]


def federation(method="dsfl", **fields):
    """A few clients on digits: the algorithm, the data on the device, the state before round 0."""
    config = digits.get_config(method)
    config.update_from_flattened_dict(
        TINY | {"cache.duration": 0} | {name.replace("__", "."): value for name, value in fields.items()}
    )
    loaded = federation_data.load(config)
    algorithm = registry.make_algorithm(config, loaded.data, loaded.num_classes, make_mesh())
    data = jax.device_put(loaded.data)
    return algorithm, data, algorithm.init(data)


def same_bits(one, other):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(one), jax.device_get(other))


def close(one, other):
    """After a few steps at rate 0.1 on an MLP, sums in another order."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, other)


def first(clients):
    return jax.tree.map(lambda a: np.asarray(a)[0], clients[0])


def some_rows(rng, clients=5, samples=7, classes=4):
    probs = jnp.asarray(rng.dirichlet(np.ones(classes), (clients, samples)), jnp.float32)
    sent = rng.random((clients, samples)) < 0.7
    sent[:, 0] = False  # a sample that nobody answered
    return probs, jnp.asarray(sent)


def aggregated(name, probs, sent):
    """The labels that a method makes of rows f32[M, P, C], sent bool[M, P]."""
    return load(METHODS[name].builder)().aggregate((), uploads(probs, sent))[0]


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
    if labels.payload is not None:  # COMET numbers its clusters by their first client
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


def test_a_broadcast_that_is_never_used_leaves_individual_training():
    alone, data, state = federation("individual")
    federated, _, other = federation("dsfl", kd_epochs=0)
    for _ in range(2):
        state, report = alone.round(state, data)
        other, _ = federated.round(other, data)
        assert alone.bill(report)["wire"] == (0, 0)
    same_bits(state.clients[0].params, other.clients[0].params)
    evaluation = alone.evaluate(state, data, report.participants)
    assert evaluation.server is None


def test_one_client_alone_is_centralized_training():
    one = {"num_clients": 1, "epochs": 2}
    central, data, state = federation("centralized", **one)
    algorithms = {name: federation(name, **one) for name in ("individual", "fedavg", "feddf")}
    expected, _ = central.round(state, data)
    for name, (algorithm, own_data, start) in algorithms.items():
        end, report = algorithm.round(start, own_data)
        if name == "individual":
            close(first(end.clients).params, expected.server.params)
        elif name == "fedavg":
            close(end.server.params, expected.server.params)
            close(end.server.batch_stats, expected.server.batch_stats)
            size = 4 * sum(x.size for x in jax.tree.leaves((end.server.params, end.server.batch_stats)))
            assert algorithm.bill(report) == {"reference": (size, size), "wire": (size, size)}
        else:
            # Its teacher is its own prediction: the gradient is nearly nothing, and the model hardly moves.
            assert float(report.server_kd_loss) < 0.05


def test_feddf_without_distillation_is_fedavg():
    average, data, state = federation("fedavg", participation=0.5, partition__name="label_dirichlet")
    ensemble, _, other = federation("feddf", participation=0.5, partition__name="label_dirichlet", kd_epochs=0)
    for _ in range(2):
        state, _ = average.round(state, data)
        other, _ = ensemble.round(other, data)
    close(state.server.params, other.server.params)


def test_weighted_mean_by_hand():
    rng = np.random.default_rng(3)
    stacked = {"a": rng.normal(size=(3, 2, 4)).astype(np.float32), "b": rng.normal(size=(3,)).astype(np.float32)}
    old = {"a": np.ones((2, 4), np.float32), "b": np.float32(1)}
    weight = np.array([1, 0, 3])
    mean = averaging.weighted_mean(stacked, jnp.asarray(weight), old)
    for name in stacked:
        by_hand = (stacked[name][0] + 3 * stacked[name][2]) / 4
        np.testing.assert_allclose(mean[name], by_hand, rtol=1e-6)
    same_bits(averaging.weighted_mean(stacked, jnp.zeros(3, int), old), old)


def test_fedprox_adds_its_gradient_and_holds_clients_back():
    anchor, w, g = jnp.array([1.0, -2.0]), jnp.array([3.0, 0.5]), jnp.array([0.1, 0.2])
    chain = optax.chain(proximal(0.5), optax.sgd(1.0))
    update, _ = chain.update(g, chain.init(anchor), w)
    np.testing.assert_allclose(update, -(np.array([0.1, 0.2]) + 0.5 * np.array([2.0, 2.5])), rtol=1e-6)
    moved = {}
    for mu in (0.0, 5.0):
        algorithm, data, state = federation("fedavg", method__prox_mu=mu, epochs=5, batch_size=10)
        start = jax.device_get(state.server.params)
        end, _ = algorithm.round(state, data)
        difference = jax.tree.map(lambda a, b: float(jnp.sum((a - b) ** 2)), end.server.params, start)
        moved[mu] = sum(jax.tree.leaves(difference))
    assert moved[5.0] < 0.5 * moved[0.0]


def test_a_clients_weight_is_its_number_of_images():
    """Against averaging the models that individual training gives from the same start."""
    fields = {"partition__name": "label_dirichlet", "same_init": True}
    average, data, state = federation("fedavg", **fields)
    alone, _, own = federation("individual", **fields)
    state, _ = average.round(state, data)
    own, _ = alone.round(own, data)
    size = np.asarray(data.train.size, np.float64)
    assert len(set(size)) > 1

    def by_hand(stacked):
        return np.tensordot(size / size.sum(), np.asarray(stacked, np.float64), 1)

    close(state.server.params, jax.tree.map(by_hand, own.clients[0].params))


@pytest.mark.parametrize("fields", [{"method__quantile": 1.0}, {"method__threshold": 1e-6}])
@pytest.mark.parametrize("cache", ["", "+cache"])
def test_rounds_in_which_nothing_passes_a_selector(fields, cache):
    more = {} if not cache else {"cache__duration": 2}
    algorithm, data, state = federation("selective_fd" + cache, **fields, **more)
    for _ in range(3):
        server = jax.device_get(state.server)
        state, report = algorithm.round(state, data)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(jax.device_get((state.server, state.clients))))
        billed = algorithm.bill(report)
        requested, sent = int(report.counts.requested), np.asarray(report.counts.sent)
        # 320 bits a label, and a bit per request that says which are answered.
        assert billed["wire"].uplink == sum(-(-(320 * int(s) + requested) // 8) for s in sent)
        if "method__threshold" in fields:
            assert not np.asarray(state.broadcast.keep).any() and int(report.counts.listed) == 0
            same_bits(state.server, server)  # nothing to distil from changes nothing
        else:
            assert (sent < requested).any()


@pytest.mark.parametrize("name", METHODS)
def test_the_table_repeats_the_parameters_of_the_builder(name):
    entry = METHODS[name]
    for reference in (entry.builder, *([entry.gradient[1]] if entry.gradient else [])):
        found = inspect.signature(load(reference)).parameters
        assert list(found) == list(entry.parameters)
    for key, own in methods.signature(load(entry.builder)).items():
        assert (own.default, own.kind) == (entry.parameters[key].default, entry.parameters[key].kind)
        assert not entry.parameters[key].traced or own.kind is float
