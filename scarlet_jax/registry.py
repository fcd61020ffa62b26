"""Config -> Algorithm. The only module beside `experiment` and `plan` that sees a ConfigDict."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable

import jax
from jax.sharding import Mesh
from ml_collections import config_dict

from scarlet_jax import distillation, fleet
from scarlet_jax.errors import UserError
from scarlet_jax.learner import Augmentation, Learner, Training, sgd
from scarlet_jax.methods.scarlet import scarlet
from scarlet_jax.models import build_model
from scarlet_jax.protocol import Settings
from scarlet_jax.types import Algorithm, Data, Method

# One line per method: its builder, whose parameters are its fields under config.method, with their defaults.
METHODS: dict[str, Callable[..., Method]] = {
    "scarlet": scarlet,
}


def make_method(config: config_dict.ConfigDict) -> Method:
    """The method a config names, with the fields the user set.

    Raises:
      UserError: unknown name, or a field that this method does not have.
    """
    name = config.method.name
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UserError(f"method.name is {name!r}{hint}; allowed are {', '.join(METHODS)}.")
    allowed = inspect.signature(METHODS[name]).parameters
    given = {key: value for key, value in config.method.items() if key != "name" and value is not None}
    for field, value in given.items():
        if field not in allowed:
            has = ", ".join(f"method.{key}" for key in allowed) or "no field of its own"
            raise UserError(f"method.{field} is {value}, but method {name} does not have it; {name} has {has}.")
    return METHODS[name](**given)


def cache_duration(config: config_dict.ConfigDict, method: Method) -> int:
    """D: the config's, or the method's own where the config leaves it open."""
    return method.duration if config.cache.duration is None else config.cache.duration


def settings(config: config_dict.ConfigDict, method: Method, num_classes: int) -> Settings:
    """The protocol's numbers."""
    return Settings(
        seed=config.seed,
        num_clients=config.num_clients,
        public_per_round=config.public_per_round,
        num_classes=num_classes,
        duration=cache_duration(config, method),
        on_expiry=config.cache.on_expiry,
        cache_ratio=config.cache.ratio,
        label_bits=config.comm.label_bits,
        same_init=config.same_init,
    )


def num_participants(config: config_dict.ConfigDict) -> int:
    """M = int(K * participation)."""
    # The tolerance keeps 0.29 * 100 at 29: the decimal the user typed counts, not its binary neighbour.
    return int(config.num_clients * config.participation + 1e-9)


def make_algorithm(config: config_dict.ConfigDict, data: Data, num_classes: int, mesh: Mesh) -> Algorithm:
    """Everything a run computes, for a validated config."""
    method = make_method(config)
    augmentation = Augmentation(config.private_augment, config.public_augment, config.data.flip, config.data.crop)
    fit = Training(config.epochs, config.batch_size, sgd(config.lr, config.momentum, config.weight_decay))
    kd = Training(config.kd_epochs, config.kd_batch_size, sgd(config.kd_lr, config.kd_momentum, config.kd_weight_decay))

    def learner(name: str) -> Learner:
        return Learner(build_model(name, num_classes, config.model.conv), fit, kd, augmentation)

    chunk = config.clients_per_chunk or default_chunk(config.num_clients, mesh)
    layout = fleet.make_layout(mesh, config.num_clients, num_participants(config), chunk)
    groups = [distillation.Group(learner(config.model.client), layout, 0)]
    return distillation.make(
        method,
        groups,
        learner(config.model.server),
        settings(config, method, num_classes),
        data.public_image.shape[0],
        tuple(data.private_image.shape[1:]),
        mesh,
    )


def default_chunk(num_clients: int, mesh: Mesh) -> int:
    """Clients trained together on a device: one on a CPU, where batching clients only spreads the working set; on an
    accelerator up to 32, in chunks of equal size."""
    if jax.devices()[0].platform == "cpu":
        return 1
    own = -(-num_clients // mesh.size)
    return -(-own // -(-own // 32))
