"""Federations of a few clients on digits, made as the program makes them, whose rounds a test calls itself."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from configs import digits
from scarlet_jax import build
from scarlet_jax.data import federation as federation_data
from scarlet_jax.engine.layout import make_mesh
from tests.support.harness import TINY

# Half of the clients in a round, which have unequal numbers of images. Tests that ask for the same share its programs.
HALF: dict[str, Any] = {"participation": 0.5, "partition__name": "label_dirichlet", "public_augment": False}


@functools.cache
def made(method: str, **fields: Any):
    """The algorithm, and the data on the device; without a cache, if none is asked for.

    Args:
      method: as behind the name of a config, such as "cfd+cache".
      **fields: of the config by dotted name, with __ for the dot.
    """
    config = digits.get_config(method)
    own = {name.replace("__", "."): value for name, value in fields.items()}
    config.update_from_flattened_dict(TINY | {"cache.duration": 0} | own)
    loaded = federation_data.load(config)
    return build.make_algorithm(config, loaded.data, loaded.num_classes, make_mesh()), jax.device_put(loaded.data)


def federation(method: str, **fields: Any):
    """As `made`, and the state before round 0."""
    algorithm, data = made(method, **fields)
    return algorithm, data, algorithm.init(data)


def server_learner(algorithm):
    """Of the server's model."""
    return algorithm.population.server(algorithm.population.host_numbers)


def same_bits(one, other) -> None:
    """Of two pytrees."""
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(one), jax.device_get(other))


def close(one, other) -> None:
    """Of two pytrees: after a few steps at rate 0.1 on an MLP, with sums in another order."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, other)
