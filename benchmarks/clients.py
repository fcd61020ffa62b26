"""Our side of the comparison, as a process: four stacked clients that train or predict.

Arguments: convolution, batch size. Reads lines "MODEL MODE STEPS", does STEPS batches in all, answers when done.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from scarlet_jax.engine import fleet
from scarlet_jax.engine import layout as layouts
from scarlet_jax.engine.learner import Augmentation, Learner
from scarlet_jax.engine.optimizers import sgd
from scarlet_jax.engine.training import Training
from scarlet_jax.models import build_model

CLIENTS = 4


class Clients:
    """Compiled `fit` and `predict` of stacked clients: shuffling, decoding of uint8 and masks included."""

    def __init__(self, model: str, conv: str, batch: int):
        training = Training(1, batch, sgd(1e-3, 0.0, 0.0))
        learner = Learner(build_model(model, 10, conv), training, training, Augmentation(False, False, False, False))
        layout = layouts.make_layout(layouts.make_mesh(), CLIENTS, CLIENTS, 1)
        one = jax.jit(lambda key: learner.init(key, (32, 32, 3)))(jax.random.key(0))
        stacked = NamedSharding(layout.mesh, layouts.CLIENTS)
        stack = jax.jit(lambda m: jax.tree.map(lambda a: jnp.stack([a] * layout.stored), m), out_shardings=stacked)
        self._models = {"train": stack(one), "infer": stack(one)}
        self._ids = fleet.participant_ids(layout, jnp.arange(CLIENTS))

        def train(model, client, active, images, labels):
            size = jnp.where(active, labels.size, 0)
            return learner.fit(model, jax.random.key(1), images, labels, jnp.arange(labels.size), size)

        def infer(model, client, active, images, labels):
            return model, learner.predict(model, images, jnp.arange(labels.size))

        self._fleets = {
            "train": fleet.Fleet(train, layout, "train"),
            "infer": fleet.Fleet(infer, layout, "infer", updates=False),
        }

    def work(self, mode: str, images: jax.Array, labels: jax.Array) -> None:
        """All clients over all images."""
        self._models[mode], output = self._fleets[mode](self._models[mode], self._ids, images, labels)
        jax.block_until_ready((self._models[mode], output))


def main() -> None:
    """Answer until the input ends."""
    conv, batch = sys.argv[1], int(sys.argv[2])
    rng, programs = np.random.default_rng(0), {}
    print(f"jax {jax.__version__}, {len(jax.devices())} devices, {conv}", flush=True)
    for line in sys.stdin:
        model, mode, steps = line.split()
        size = batch * int(steps) // CLIENTS
        images = jnp.asarray(rng.integers(0, 256, (size, 32, 32, 3)), jnp.uint8)
        labels = jnp.asarray(rng.integers(0, 10, size), jnp.int32)
        if model not in programs:
            programs[model] = Clients(model, conv, batch)
        programs[model].work(mode, images, labels)
        print("done", flush=True)


if __name__ == "__main__":
    main()
