"""Models with features, and the same in NumPy alone: f = x V + a, z = f W + b, trained by gradients written out.

Every list of images is one batch, as in `plain_linear`, whose federation this is.
"""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax
import numpy as np

from scarlet_jax.engine.learner import Augmentation, Learner
from scarlet_jax.engine.optimizers import sgd
from scarlet_jax.engine.training import Training
from tests.support import plain_linear as plain
from tests.support.populations import CLASSES

FEATURES = 5

Model = list[np.ndarray]  # V f64[pixels, d], a f64[d], W f64[d, C], b f64[C]


class Deep(nn.Module):
    """Two linear layers, of which the first gives the features."""

    num_classes: int = CLASSES
    features: int = FEATURES
    gives: bool = True

    @nn.compact
    def __call__(self, x, train, mask=None):
        del train, mask
        x = nn.Dense(self.features, name="hidden")(x.reshape(x.shape[0], -1))
        if self.gives:
            self.sow("intermediates", "features", x)
        return nn.Dense(self.num_classes, name="linear")(x)


def learner(**of_model) -> Learner:
    fit, kd = (Training(epochs, 64, sgd(lr)) for epochs, lr in ((plain.EPOCHS, plain.LR), (1, plain.KD_LR)))
    return Learner(Deep(**of_model), fit, kd, Augmentation(False, False, False, False))


def models(state) -> list[Model]:
    """Of all clients, in their order."""
    found = []
    for (clients, _), group in zip(plain.GROUPS, state.clients, strict=True):
        layers = jax.device_get([group.params["hidden"], group.params["linear"]])
        found += [[own[x][k].astype(float) for own in layers for x in ("kernel", "bias")] for k in range(clients)]
    return found


def features(model: Model, x: np.ndarray) -> np.ndarray:
    return x @ model[0] + model[1]


def fitted(model: Model, x: np.ndarray, y: np.ndarray, slope: Callable[[np.ndarray], np.ndarray]):
    """The model after private training, and the features before its last step.

    Args:
      model: before.
      x, y: pixels and labels.
      slope: gives the gradient of each row's additional loss by its features.
    """
    f = np.zeros((len(x), FEATURES))
    for _ in range(plain.EPOCHS if len(x) else 0):
        v, a, w, b = model
        f = features(model, x)
        d = (plain.softmax(f @ w + b) - np.eye(CLASSES)[y]) / len(x)
        back = d @ w.T + slope(f) / len(x)
        steps = x.T @ back, back.sum(0), f.T @ d, d.sum(0)
        model = [old - plain.LR * step for old, step in zip((v, a, w, b), steps, strict=True)]
    return model, f
