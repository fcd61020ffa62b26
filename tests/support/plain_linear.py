"""Federations of linear models, and the same in NumPy alone: z = x W + b, trained by gradients written out.

Every list of images is one batch, so that the order in which an epoch visits them does not matter. Models, samples and
participants are the federation's; nothing else is taken from it.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np

from scarlet_jax.engine.learner import Augmentation, KdLoss, Learner, kl_divergence
from scarlet_jax.engine.optimizers import sgd
from scarlet_jax.engine.training import Training
from scarlet_jax.protocol.draws import Draws, GroupSize
from scarlet_jax.protocol.round import Settings
from tests.support.populations import CLASSES, NUMBERS, Linear, noise, population

GROUPS = ((5, 3), (3, 2))  # K and M of each group
SIZES = (3, 7, 0, 5, 4, 6, 2, 9)  # private images; one client has none
PUBLIC, DRAWN = 20, 8
LR, KD_LR, EPOCHS, KD_EPOCHS = 0.05, 0.2, 2, 3

Model = tuple[np.ndarray, np.ndarray]  # W f64[d, C], b f64[C]


def learner(kd_loss: KdLoss = kl_divergence) -> Learner:
    """Of linear models, with batches that hold any client's images."""
    fit, kd = Training(EPOCHS, 64, sgd(LR)), Training(KD_EPOCHS, 64, sgd(KD_LR))
    return Learner(Linear(), fit, kd, Augmentation(False, False, False, False), kd_loss)


def parts(own: Learner, server: bool | str, **options):
    """Population, draws, settings and data of the federation; `server` and the options as in `population`."""
    draws = Draws(NUMBERS.seed, tuple(GroupSize(*group) for group in GROUPS), PUBLIC, DRAWN)
    data = noise(SIZES, [2] * len(SIZES), PUBLIC, public_val=0)
    return population(GROUPS, learner=own, server=server, **options), draws, Settings(CLASSES), data


def models(state) -> list[Model]:
    """Of all clients, in their order."""
    found = []
    for (clients, _), group in zip(GROUPS, state.clients, strict=True):
        own = jax.device_get(group.params["linear"])
        found += [(own["kernel"][k].astype(float), own["bias"][k].astype(float)) for k in range(clients)]
    return found


def pixels(images: np.ndarray) -> np.ndarray:
    """u8[n, H, W, channels] -> f64[n, d]."""
    return (images.reshape(len(images), int(np.prod(images.shape[1:]))) / 255 - 0.5) / 0.5


def logits(model: Model, x: np.ndarray) -> np.ndarray:
    return x @ model[0] + model[1]


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def trained(model: Model, x: np.ndarray, slope: Callable[[np.ndarray], np.ndarray], lr: float, epochs: int) -> Model:
    """After one step an epoch. `slope` gives the gradient of each row's loss by its logits."""
    for _ in range(epochs if len(x) else 0):
        d = slope(logits(model, x)) / len(x)
        model = model[0] - lr * x.T @ d, model[1] - lr * d.sum(0)
    return model


def private(data, client: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels of a client's images."""
    rows = data.train.rows[client][: data.train.size[client]]
    return pixels(data.private_image[rows]), data.private_label[rows]


def fitted(model: Model, data, client: int, epochs: int = EPOCHS) -> Model:
    """After private training by cross-entropy."""
    x, y = private(data, client)
    return trained(model, x, lambda z: softmax(z) - np.eye(CLASSES)[y], LR, epochs)


def assert_models(state, expected: list[Model]) -> None:
    """That the clients' models are these, up to float32."""
    for ours, plain in zip(models(state), expected, strict=True):
        for a, b in zip(ours, plain, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def with_a_rare_class(data):
    """The data, in which images of the last class are the last client's alone."""
    label, last = data.private_label.copy(), len(SIZES) - 1
    label[label == CLASSES - 1] = CLASSES - 2
    label[data.train.rows[last][:3]] = CLASSES - 1
    return data._replace(private_label=label)
