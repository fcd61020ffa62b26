"""KT-pFL against a federation of linear models in NumPy, and its coefficients against their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scarlet_jax import build
from scarlet_jax.commands import plan
from scarlet_jax.errors import UserError
from scarlet_jax.methods import distillation
from scarlet_jax.methods.kt_pfl import kt_pfl, on_simplex, step
from scarlet_jax.preview import checks
from tests.support import plain_linear as plain
from tests.support.harness import tiny

pytestmark = pytest.mark.usefixtures("quick_compilation")
LR, RHO = 0.3, 0.2


def nearest_on_simplex(row):
    """By bisection for the threshold, in float64."""
    low, high = row.min() - 1, row.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(row - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(row - low, 0)


def moved(own, probs):
    """Coefficients after the paper's step, one pair of clients after another."""
    new, clients = np.zeros_like(own), len(own)
    for n in range(clients):
        teacher = sum(own[n, m] * probs[m] for m in range(clients))
        for m in range(clients):
            slope = (probs[m] * (np.log(teacher / probs[n]) + 1)).sum(-1).mean()
            new[n, m] = own[n, m] - LR * (slope + 2 * RHO * (own[n, m] - 1 / clients))
        new[n] = nearest_on_simplex(new[n])
    return new


def test_a_federation_is_a_plain_loop():
    parts = plain.parts(plain.learner(), server=False)
    data = parts[-1]
    algorithm = distillation.make(lambda numbers: kt_pfl(LR, RHO), *parts)
    state, device_data = algorithm.init(data), jax.device_put(data)
    clients = len(plain.SIZES)
    models, coefficients, last = plain.models(state), np.full((clients, clients), 1 / clients), None
    others = 0
    for r in range(4):
        state, report = algorithm.round(state, device_data)
        draw, ids = np.asarray(algorithm.draws.public(jnp.int32(r))), np.asarray(report.participants)
        sent = []
        for k in ids:
            if last is not None:
                x, probs, senders = last
                own = coefficients[k, senders]
                teacher = np.einsum("m,mpc->pc", own / own.sum(), probs)
                others += k not in senders
                models[k] = plain.trained(
                    models[k], x, lambda z, t=teacher: plain.softmax(z) - t, plain.KD_LR, plain.KD_EPOCHS
                )
            models[k] = plain.fitted(models[k], data, k)
            sent.append(plain.softmax(plain.logits(models[k], plain.pixels(data.public_image[draw]))))
        last = plain.pixels(data.public_image[draw]), np.array(sent), ids
        own = coefficients[np.ix_(ids, ids)]
        mass = own.sum(1, keepdims=True)
        coefficients[np.ix_(ids, ids)] = mass * moved(own / mass, last[1])
        plain.assert_models(state, models)
        np.testing.assert_allclose(state.method.coefficients, coefficients, rtol=1e-3, atol=1e-5)
        assert np.asarray(state.method.senders).nonzero()[0].tolist() == ids.tolist()
        np.testing.assert_allclose(state.broadcast.payload, last[1].swapaxes(0, 1), rtol=1e-4, atol=1e-5)
        # Both ways [P, C] of float32 and an index a sample, for each participant.
        listed, samples = (plain.DRAWN if r else 0), plain.DRAWN
        billed, m = algorithm.bill(report), len(ids)
        assert billed["reference"] == (m * samples * (16 + 8), m * (listed * (16 + 8) + 8 * samples))
        assert billed["wire"] == (m * samples * 16, m * (listed * (16 + 4) + 4 * samples))
    assert others, "a client is taught that did not send"
    assert np.ptp(coefficients) > 1e-3, "they have moved"
    np.testing.assert_allclose(np.asarray(state.method.coefficients).sum(1), 1, rtol=1e-5)


def test_rows_are_moved_to_the_nearest_point_of_the_simplex():
    rows = np.random.default_rng(0).normal(0, 1, (50, 6))
    rows[0] = 1 / 6
    rows[1] = np.eye(6)[2] * 9
    made = np.asarray(on_simplex(jnp.asarray(rows, jnp.float32)))
    np.testing.assert_allclose(made, [nearest_on_simplex(row) for row in rows], atol=1e-6)
    assert (made >= 0).all() and (made == 0).any()


def test_certain_labels_move_coefficients_by_a_finite_step():
    """Soft labels with zeros, as a quantised or a saturated softmax has them."""
    probs = jnp.eye(4)[jnp.arange(12).reshape(3, 4) % 4]
    assert np.isfinite(step(jnp.full((3, 3), 1 / 3), probs, 0.1, 0.1)).all()


def test_labels_of_one_client_alone_are_not_cached():
    with pytest.raises(
        UserError, match=r"cache\.duration is 5, but kt_pfl sends each client .* allowed is open, or 0\."
    ):
        checks.check(tiny(method__name="kt_pfl", cache__duration=5))
    checks.check(tiny(method__name="kt_pfl", cache__duration=0))


def test_a_plan_is_the_closed_form_and_has_no_other_durations():
    """M participants send and receive P rows of C float32, and are sent the indices of the requests."""
    config = tiny(method__name="kt_pfl", cache__duration=None, participation=0.5)
    planner = build.make_planner(config, 10)
    result, (m, p, c) = planner.run(), (2, 20, 10)
    listed = [0, *[p] * (config.rounds - 1)]
    assert result.uplink_bytes["reference"].tolist() == [m * p * (4 * c + 8)] * config.rounds
    assert result.downlink_bytes["reference"].tolist() == [m * (n * (4 * c + 8) + 8 * p) for n in listed]
    assert result.uplink_bytes["wire"].tolist() == [m * p * 4 * c] * config.rounds
    assert result.downlink_bytes["wire"].tolist() == [m * (n * (4 * c + 4) + 4 * p) for n in listed]
    table = plan.variants_table(planner)
    assert "0*" in table and "drop" not in table and "refresh" not in table
