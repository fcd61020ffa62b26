"""Small populations whose models are linear: they compile in a moment, and every client has another one."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from scarlet_jax.engine.layout import make_layout, make_mesh
from scarlet_jax.engine.learner import Augmentation, Learner
from scarlet_jax.engine.optimizers import sgd
from scarlet_jax.engine.population import Group, Population
from scarlet_jax.engine.training import Training
from scarlet_jax.types import Data, ModelState, Numbers, Rates, Split

CLASSES, SIDE = 4, 3
NUMBERS = Numbers(np.uint32(1), Rates(np.float32(0.5)), Rates(np.float32(0.5)), None, {})  # the learners have their own


class Linear(nn.Module):
    """z = W x + b of the pixels."""

    num_classes: int = CLASSES

    @nn.compact
    def __call__(self, x, train, mask=None):
        del train, mask
        return nn.Dense(self.num_classes, name="linear")(x.reshape(x.shape[0], -1))


def linear_learner(epochs=1, batch_size=4, lr=0.5, kd_lr=0.5) -> Learner:
    """Without augmentation."""
    fit, kd = (Training(epochs, batch_size, sgd(rate, 0.0, 0.0)) for rate in (lr, kd_lr))
    return Learner(Linear(), fit, kd, Augmentation(private=False, public=False, flip=False, crop=False))


def population(groups=((5, 3), (3, 2)), chunk=1, server: bool | str = True, learner=None, **options) -> Population:
    """On one device.

    Args:
      groups: K and M of each.
      chunk: clients trained together.
      server: whether there is a server model; "each": one for each group.
      learner: of all models; by default a new one for each.
      **options: of `Population`.
    """
    mesh, first, made = make_mesh(jax.devices()[:1]), 0, []
    for number, (clients, participants) in enumerate(groups):
        layout = make_layout(mesh, clients, participants, chunk, first)
        own = learner or linear_learner()
        made.append(Group(f"kind{number}", lambda numbers, own=own: own, layout))
        first += clients
    options = {"same_init": False} | options
    central = (learner or linear_learner()) if server else None
    make_central: Any = (lambda numbers: central) if server else None
    if server == "each":
        make_central = {group.name: group.learner for group in made}
    return Population(NUMBERS, made, make_central, image_shape=(SIDE, SIDE, 1), mesh=mesh, **options)


class Start(NamedTuple):
    """The models of a federation before round 0."""

    clients: tuple[ModelState, ...]
    server: ModelState | None


def started(made: Population, data: Data) -> Start:
    """Padded and laid out, as an algorithm gets them."""
    return made.init(lambda *arguments: Start(*arguments[-3:-1]))(jax.device_put(data))


def images(rng, count) -> np.ndarray:
    """u8[count, 3, 3, 1] of noise."""
    return rng.integers(0, 256, (count, SIDE, SIDE, 1), np.uint8)


def divided(rng, total, sizes) -> Split:
    """Distinct rows below `total` for clients of these sizes."""
    rows = np.zeros((len(sizes), max(1, *sizes)), np.int32)
    chosen, start = rng.permutation(total), 0
    for client, size in enumerate(sizes):
        rows[client, :size] = chosen[start : start + size]
        start += size
    return Split(rows, np.array(sizes, np.int32))


def noise(sizes, test_sizes, public=20, public_val=6, val_sizes=None, seed=0) -> Data:
    """A federation of noise, in NumPy: `sizes` private images of each client, `test_sizes` test images."""
    rng = np.random.default_rng(seed)
    val_sizes = val_sizes or [0] * len(sizes)
    n, t = sum(sizes) + sum(val_sizes), sum(test_sizes)
    both = divided(rng, n, [a + b for a, b in zip(sizes, val_sizes, strict=True)])
    train, val = np.zeros_like(both.rows), np.zeros_like(both.rows)
    for client, (size, held_out) in enumerate(zip(sizes, val_sizes, strict=True)):
        train[client, :size] = both.rows[client, :size]
        val[client, :held_out] = both.rows[client, size : size + held_out]
    labels = [rng.integers(0, CLASSES, count).astype(np.int32) for count in (n, t)]
    return Data(
        images(rng, n), labels[0], images(rng, t), labels[1], images(rng, public), images(rng, public_val),
        Split(train, np.array(sizes, np.int32)), Split(val, np.array(val_sizes, np.int32)), divided(rng, t, test_sizes),
    )  # fmt: skip


def client(stacked, number):
    """The model of one client, from stacked ones."""
    return jax.tree.map(lambda a: np.asarray(a)[number], stacked)
