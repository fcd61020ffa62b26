"""Optimizers, and the factor of their learning rates in each round. `scarlet_jax.training_tables` names them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from scarlet_jax.types import Array, Numbers


def sgd(
    lr: Array | float, momentum: Array | float | None = None, weight_decay: Array | float | None = None
) -> optax.GradientTransformation:
    """SGD as in the reference: the L2 penalty is added to the gradient; momentum has no dampening.

    The numbers may be arguments of a compiled program. None, or a constant 0, leaves momentum or the penalty out.
    """
    return optax.chain(*_penalty(weight_decay), optax.sgd(lr, None if _off(momentum) else momentum))


def adam(lr: Array | float, weight_decay: Array | float | None = None) -> optax.GradientTransformation:
    """Adam (Kingma and Ba, 2015) as `torch.optim.Adam`: decay rates 0.9 and 0.999, epsilon 1e-8 outside the root.

    The L2 penalty is added to the gradient and so passes through the moments, which AdamW avoids.
    """
    return optax.chain(*_penalty(weight_decay), optax.adam(lr, b1=0.9, b2=0.999, eps=1e-8))


def _penalty(weight_decay: Array | float | None) -> list[optax.GradientTransformation]:
    return [] if _off(weight_decay) else [optax.add_decayed_weights(weight_decay)]


def _off(number: Array | float | None) -> bool:
    return number is None or isinstance(number, int | float) and number == 0


class Cosine(NamedTuple):
    """From 1 along half a cosine to nearly 0 in the last round of the horizon, and from there on constant."""

    horizon: Array  # i32[] rounds, at least 1

    def factor(self, round_: Array) -> jax.Array:
        """f32[]: (1 + cos(pi r / horizon)) / 2, where r is the round, at most horizon - 1: it never is 0."""
        share = jnp.minimum(round_, self.horizon - 1) / self.horizon
        return (1 + jnp.cos(jnp.pi * share)) / 2


class Step(NamedTuple):
    """1, multiplied by gamma in each round that is a milestone."""

    milestones: Array  # i32[n] rounds, ascending
    gamma: Array  # f32[]

    def factor(self, round_: Array) -> jax.Array:
        """f32[]: gamma to the power of the number of milestones up to this round."""
        return jnp.prod(jnp.where(self.milestones <= round_, self.gamma, 1))


def at_round(numbers: Numbers, round_: Array) -> Numbers:
    """The numbers of a run as they are in a round: both learning rates have the schedule's factor, if there is one."""
    if numbers.schedule is None:
        return numbers
    factor = numbers.schedule.factor(round_)
    fit, kd = (rates._replace(lr=rates.lr * factor) for rates in (numbers.fit, numbers.kd))
    return numbers._replace(fit=fit, kd=kd, schedule=None)
