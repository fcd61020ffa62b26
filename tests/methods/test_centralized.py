"""Centralized training: with a single client every method is the same."""

import jax
import numpy as np
import pytest

from tests.support.federations import close, federation, server_learner

pytestmark = pytest.mark.usefixtures("quick_compilation")


def first(clients):
    return jax.tree.map(lambda a: np.asarray(a)[0], clients[0])


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


def test_every_image_of_every_client_is_trained_on_and_nothing_is_billed():
    """With clients of unequal size, the loss of an epoch is the mean over all of their images."""
    algorithm, data, state = federation("centralized", partition__name="label_dirichlet", lr=0.0, private_augment=False)
    rows = [data.train.rows[k, :n] for k, n in enumerate(np.asarray(data.train.size))]
    everything = np.concatenate(rows)
    assert len(set(map(len, rows))) > 1 and len(set(everything.tolist())) == len(everything)
    learner = server_learner(algorithm)
    probs = np.asarray(learner.predict(state.server, data.private_image, everything), np.float64)
    own = probs[np.arange(len(everything)), np.asarray(data.private_label)[everything]]
    state, report = algorithm.round(state, data)
    np.testing.assert_allclose(report.fit_loss, [-np.log(own).mean()] * 4, rtol=1e-4)
    assert algorithm.bill(report) == {} and algorithm.reads_all and state.clients == ()
    assert np.asarray(report.participants).tolist() == list(range(4))
