"""What stops a run: the first number that is not finite is named, and what may help."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax.methods.base import RoundReport
from scarlet_jax.runtime import finite
from scarlet_jax.types import ModelState
from tests.support.harness import tiny
from tests.support.reports import evaluation, report, scores

NAN = float("nan")


@pytest.mark.parametrize(
    ("fields", "scores_", "words"),
    [
        ({}, {}, None),
        ({"fit_loss": np.array([1, NAN, np.inf])}, {}, "the training loss of client 4, 6 is not finite"),
        ({"kd_loss": np.array([1, 1, NAN])}, {}, "the distillation loss of client 6 is not finite"),
        ({"metrics": {"disagreement": NAN}}, {}, "the disagreement among clients is not finite"),
        ({"metrics": {"target_entropy": NAN}}, {}, "the entropy of the teacher is not finite"),
        ({"server_kd_loss": NAN}, {}, "the server's distillation loss is not finite"),
        ({}, {"clients": scores([0] * 3, [0] * 3, [1, NAN, 1], [1] * 3)}, "the test loss of client 4 is not finite"),
        ({}, {"server": scores(0, 0, NAN, 1)}, "the server's test loss is not finite"),
        (
            {},
            {"server": {"mlp": scores(0, 0, 1, 1), "cnn": scores(0, 0, NAN, 1)}},
            r"server's test loss \(cnn\) is not",
        ),
        ({"server_kd_loss": np.array([1, NAN])}, {}, "the server's distillation loss is not finite"),
        # What a round computes first is named: a client's distillation before its training, clients before the server.
        ({"kd_loss": np.array([NAN] * 3), "fit_loss": np.array([NAN] * 3), "server_kd_loss": NAN}, {}, "distillation"),
        ({"fit_loss": np.array([1, 1, NAN]), "metrics": {"target_entropy": NAN}}, {}, "the training loss of client 6"),
    ],
)
def test_the_first_number_that_is_not_finite_is_named(fields, scores_, words):
    values = report(**fields), evaluation(**scores_)
    if words is None:
        finite.check_report(2, *values)
        return
    with pytest.raises(finite.NonFiniteError, match=rf"^round 2: .*{words}.*; no checkpoint was saved yet, and .*\.$"):
        finite.check_report(2, *values)


def test_many_clients_are_cut_and_the_checkpoint_is_told():
    with pytest.raises(finite.NonFiniteError) as error:
        wide = RoundReport(np.arange(9), np.full(9, NAN), np.ones(9))
        finite.check_report(0, wide, None, saved=4)
    assert str(error.value) == (
        "round 0: the training loss of client 0, 1, 2, 3, 4 and 4 more is not finite; the checkpoint after 4 rounds "
        "stays, and a lower config.lr may help in another --workdir."
    )


def test_cures_name_the_fields_that_are_in_effect():
    config = tiny(lr=0.1, momentum=0.9, weight_decay=0.0, kd_lr=0.1, kd_momentum=0.0, kd_weight_decay=0.1)
    found = finite.cures(config)
    assert found == ("a lower config.lr or config.momentum", "a lower config.kd_lr or config.kd_weight_decay",
                     "another config.method.beta")  # fmt: skip
    config.method.name = "individual"
    assert finite.cures(config).method == "a lower config.lr"


class State(NamedTuple):
    """As a method with a server model has it."""

    clients: tuple
    server: ModelState


def states(kernels, server):
    """Groups of clients with one weight each, and a server."""

    def model(value):
        return ModelState({"w": jnp.asarray(value, jnp.float32)}, {}, jnp.zeros(len(value), jnp.uint32), ())

    return State(tuple(map(model, kernels)), model(server))


def test_a_state_that_is_not_finite_names_its_clients():
    whole = [[[1.0], [2.0]], [[3.0], [4.0], [5.0]]]
    finite.check_state(1, states(whole, [1.0]))
    spoilt = [[[1.0], [np.inf]], [[3.0], [NAN], [5.0]]]
    with pytest.raises(finite.NonFiniteError, match=r"round 1: the model of client 1, 3 is not finite after its last"):
        finite.check_state(1, states(spoilt, [NAN]))
    with pytest.raises(finite.NonFiniteError, match="the server's model is not finite"):
        finite.check_state(1, states(whole, [NAN]))
