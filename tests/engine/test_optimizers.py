"""Adam against the loop of its paper, and the factors of schedules against closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scarlet_jax.engine import optimizers
from scarlet_jax.engine.optimizers import Cosine, Step
from scarlet_jax.types import Numbers, Rates


def plain_adam(weights, gradients, lr, decay):
    """Weights after each step, in float64, as the documentation of `torch.optim.Adam` writes the algorithm."""
    m, v, found = np.zeros_like(weights), np.zeros_like(weights), []
    for t, gradient in enumerate(gradients, 1):
        g = gradient + decay * weights
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        weights = weights - lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        found.append(weights)
    return found


# The weights after the hundred steps of the test below, by `torch.optim.Adam` of torch 2.13 in float64.
TORCH = {
    None: [
        0.425730565812144, 0.167895270541255, 0.940420654448508, 0.10490011715304, -0.235707790355778,
        0.662825755363986, 1.01222258497515, 0.661433806743806, -0.982471046156184, -1.4218038270398,
        -0.655770230154642, -0.0190400738533308,
    ],
    0.01: [
        0.425578110262969, 0.16770943093816, 0.940178792471275, 0.000314160524179383, -0.236255642578963,
        0.66110061778287, 1.01208114653728, 0.661348722852246, -0.981418536929833, -1.41855207806869,
        -0.655157897408776, -0.019043471720924,
    ],
}  # fmt: skip


@pytest.mark.parametrize("decay", [None, 0.01])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_adam_is_that_of_torch_and_the_plain_loop(decay, dtype, tolerance):
    """A hundred steps of gradients over six orders of magnitude, with a zero among them."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=12)
    gradients = rng.normal(size=(100, 12)) * np.logspace(-5, 1, 12) + np.linspace(-1, 1, 12)
    gradients[:, 3] = 0
    with jax.enable_x64(dtype is np.float64):

        @jax.jit
        def run(lr, weight_decay, params, gradients):
            optimizer = optimizers.adam(lr, weight_decay)

            def step(carry, gradient):
                updates, state = optimizer.update(gradient, carry[1], carry[0])
                params = optax.apply_updates(carry[0], updates)
                return (params, state), params

            return jax.lax.scan(step, (params, optimizer.init(params)), gradients)[1]

        penalty = None if decay is None else dtype(decay)
        ours = run(dtype(0.003), penalty, jnp.asarray(weights, dtype), jnp.asarray(gradients, dtype))
    expected = plain_adam(weights, gradients, 0.003, decay or 0)
    assert ours.dtype == dtype
    np.testing.assert_allclose(ours[-1], TORCH[decay], rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(ours, expected, rtol=tolerance, atol=tolerance)


def test_the_first_step_of_adam_has_the_size_of_the_rate():
    optimizer, params = optimizers.adam(0.25), jnp.array([1.0, 1.0, 1.0])
    updates, _ = jax.jit(optimizer.update)(jnp.array([1e-3, -7.0, 0.0]), optimizer.init(params), params)
    np.testing.assert_allclose(updates, [-0.25, 0.25, 0.0], rtol=1e-4)


@pytest.mark.parametrize("horizon", [1, 2, 7, 1000])
def test_a_cosine_falls_to_the_last_round_of_its_horizon_and_stays(horizon):
    factor = jax.jit(Cosine(np.int32(horizon)).factor)
    found = [float(factor(np.int32(r))) for r in range(horizon)]
    np.testing.assert_allclose(found, [(1 + math.cos(math.pi * r / horizon)) / 2 for r in range(horizon)], atol=1e-6)
    assert found[0] == 1 and min(found) > 0 and all(np.diff(found) < 0)
    assert {float(factor(np.int32(r))) for r in (horizon, horizon + 1, 10 * horizon)} == {found[-1]}


def test_a_step_multiplies_from_its_milestone_on():
    factor = jax.jit(Step(np.array([2, 5], np.int32), np.float32(0.5)).factor)
    assert [float(factor(np.int32(r))) for r in range(7)] == [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_the_factor_is_of_both_rates_and_of_nothing_else():
    fit, kd = Rates(np.float32(0.5), np.float32(0.9)), Rates(np.float32(0.25), None, np.float32(0.1))
    plain = Numbers(np.uint32(3), fit, kd, np.int32(2), {"beta": np.float32(2)})
    assert optimizers.at_round(plain, np.int32(9)) is plain, "without a schedule nothing is multiplied"
    scheduled = plain._replace(schedule=Step(np.array([1], np.int32), np.float32(0.5)))
    before, after = (jax.jit(optimizers.at_round)(scheduled, np.int32(r)) for r in (0, 1))
    assert jax.device_get(before) == plain
    halved = plain._replace(fit=fit._replace(lr=np.float32(0.25)), kd=kd._replace(lr=np.float32(0.125)))
    assert jax.device_get(after) == halved
