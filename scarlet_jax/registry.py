"""Config -> Algorithm. The only module beside `experiment` and `plan` that sees a ConfigDict."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import config_dict

from scarlet_jax import distillation, fleet
from scarlet_jax.errors import UserError
from scarlet_jax.learner import Augmentation, Learner, Training, kl_divergence, sgd
from scarlet_jax.methods.centralized import centralized
from scarlet_jax.methods.cfd import cfd
from scarlet_jax.methods.comet import comet
from scarlet_jax.methods.dsfl import dsfl
from scarlet_jax.methods.fedavg import fedavg
from scarlet_jax.methods.feddf import feddf
from scarlet_jax.methods.individual import individual
from scarlet_jax.methods.scarlet import scarlet
from scarlet_jax.methods.selective_fd import selective_fd
from scarlet_jax.models import LEAST_SIDE, build_model
from scarlet_jax.population import Group, Population
from scarlet_jax.protocol import Settings
from scarlet_jax.setup import Setup
from scarlet_jax.types import Algorithm, Data, Method

# One line per method: its builder, whose parameters are its fields under config.method, with their defaults.
DISTILLATION: dict[str, Callable[..., Method]] = {
    "scarlet": scarlet,
    "dsfl": dsfl,
    "cfd": cfd,
    "comet": comet,
    "selective_fd": selective_fd,
}
# These are given the run's Setup first, and make an Algorithm of their own.
OTHERS: dict[str, Callable[..., Algorithm]] = {
    "fedavg": fedavg,
    "feddf": feddf,
    "individual": individual,
    "centralized": centralized,
}
METHODS: dict[str, Callable[..., Any]] = DISTILLATION | OTHERS
SERVERLESS = ("individual",)  # no server model
ONE_ARCHITECTURE = ("fedavg", "feddf", "centralized")  # what they average, or train, is one model


class ModelGroup(NamedTuple):
    """Clients of one architecture."""

    name: str
    clients: int
    participants: int


def check(config: config_dict.ConfigDict) -> None:
    """Refuse what the chosen method does not allow, before anything is loaded.

    Raises:
      UserError: unknown method, a field it does not have, a cache or groups where there can be none, groups that do not
        add up.
    """
    name = config.method.name
    build = _builder(config)
    if name in DISTILLATION:
        build()
        if name == "cfd" and config.kd_epochs == 0:
            raise UserError("kd_epochs is 0, but cfd broadcasts what the server says while distilling; use 1 or more.")
    elif config.cache.duration:
        raise UserError(
            f"cache.duration is {config.cache.duration}, but method {name} sends no soft labels to cache; "
            "leave it open or use 0."
        )
    if name == "centralized" and config.participation != 1:
        raise UserError(
            f"participation is {config.participation}, but centralized trains on everyone's images; leave it at 1."
        )
    groups = model_groups(config)
    if name in ONE_ARCHITECTURE:
        names = {group.name for group in groups} | {config.model.server}
        if len(names) > 1:
            raise UserError(
                f"model.client is {config.model.client!r} and model.server {config.model.server!r}, but {name} needs "
                "one architecture for all; name the same one in both."
            )


def check_images(config: config_dict.ConfigDict, shape: Sequence[int]) -> None:
    """Refuse models that cannot take images of `shape` (H, W, channels), before anything is compiled.

    Raises:
      UserError: names the field and the least size.
    """
    used = [("client", group.name) for group in model_groups(config)]
    if config.method.name not in SERVERLESS:
        used.append(("server", config.model.server))
    for field, name in used:
        least = LEAST_SIDE[name]
        if min(shape[:2]) < least:
            fit = ", ".join(other for other, side in LEAST_SIDE.items() if side <= min(shape[:2]))
            raise UserError(
                f"config.model.{field} is {config.model[field]!r}, but {name} needs images of at least {least}x{least} "
                f"pixels, and those of config.data.private have {shape[0]}x{shape[1]}; allowed is one of {fit}."
            )


def make_method(config: config_dict.ConfigDict) -> Method:
    """The distillation method a config names, with the fields the user set.

    Raises:
      UserError: unknown name, a field that this method does not have, or not a distillation method.
    """
    if config.method.name in OTHERS:
        raise UserError(
            f"method.name is {config.method.name!r}, which sends no soft labels; allowed here are "
            f"{', '.join(DISTILLATION)}."
        )
    return _builder(config)()


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
    )


def num_participants(config: config_dict.ConfigDict) -> int:
    """M = int(K * participation)."""
    # The tolerance keeps 0.29 * 100 at 29: the decimal the user typed counts, not its binary neighbour.
    return int(config.num_clients * config.participation + 1e-9)


def make_mesh(config: config_dict.ConfigDict) -> Mesh:
    """Over all devices; over the first where one model is all there is, which the others could only train as well."""
    alone = config.num_clients == 1 or config.method.name == "centralized"
    return fleet.make_mesh(jax.devices()[:1] if alone and jax.process_count() == 1 else None)


def model_groups(config: config_dict.ConfigDict) -> list[ModelGroup]:
    """Groups of `model.client` ("resnet20", or "resnet20:60,cnn:40") with their shares of the participants.

    Shares are stratified: by the largest remainder, the earlier group first on ties.

    Raises:
      UserError: not of this form, counts that do not sum to num_clients, or a group without participants.
    """
    text, clients, total = config.model.client, config.num_clients, num_participants(config)
    parts = [part.strip().split(":") for part in text.split(",")]
    if len(parts) == 1 and len(parts[0]) == 1:
        return [ModelGroup(text, clients, total)]
    if not all(len(part) == 2 and part[1].strip().isdigit() and int(part[1]) > 0 for part in parts):
        raise UserError(f"model.client is {text!r}; allowed is a name, or groups such as resnet20:60,cnn:40.")
    sizes = [int(size) for _, size in parts]
    if len({name for name, _ in parts}) < len(parts):
        raise UserError(f"model.client is {text!r}; name each architecture once.")
    if sum(sizes) != clients:
        raise UserError(f"model.client is {text!r}, whose groups have {sum(sizes)} clients; num_clients is {clients}.")
    shares = [size * total // clients for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda i: (-(sizes[i] * total % clients), i))
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    groups = [
        ModelGroup(name.strip(), size, share) for (name, _), size, share in zip(parts, sizes, shares, strict=True)
    ]
    for group in groups:
        if not group.participants:
            raise UserError(
                f"participation is {config.participation}, which leaves no participant to the group "
                f"{group.name}:{group.clients} of model.client; raise it, or make the group larger."
            )
    return groups


def make_algorithm(config: config_dict.ConfigDict, data: Data, num_classes: int, mesh: Mesh) -> Algorithm:
    """Everything a run computes, for a validated config and NumPy data (or, to record its phases, their shapes)."""
    build = _builder(config)
    method = build() if config.method.name in DISTILLATION else None
    learners = functools.partial(_learner, config, num_classes)
    groups, first = [], 0
    for group in model_groups(config):
        chunk = config.clients_per_chunk or default_chunk(group.clients, mesh)
        layout = fleet.make_layout(mesh, group.clients, group.participants, chunk, first)
        loss = (method.kd_loss if method else None) or kl_divergence
        groups.append(Group(group.name, learners(group.name, loss), layout))
        first += group.clients
    population = Population(
        config.seed,
        groups,
        learners(config.model.server, kl_divergence),
        tuple(data.private_image.shape[1:]),
        config.same_init,
        mesh,
    )
    setup = Setup(config.seed, config.num_clients, num_classes, config.public_per_round, population, data)
    if method is None:
        return build(setup)
    return distillation.make(method, setup, settings(config, method, num_classes))


def default_chunk(num_clients: int, mesh: Mesh) -> int:
    """Clients trained together on a device: one on a CPU, where batching clients only spreads the working set; on an
    accelerator up to 32, in chunks of equal size."""
    if mesh.devices.flat[0].platform == "cpu":
        return 1
    own = -(-num_clients // mesh.size)
    return -(-own // -(-own // 32))


def _learner(config, num_classes: int, name: str, kd_loss) -> Learner:
    augmentation = Augmentation(config.private_augment, config.public_augment, config.data.flip, config.data.crop)
    fit = Training(config.epochs, config.batch_size, sgd(config.lr, config.momentum, config.weight_decay))
    kd = Training(config.kd_epochs, config.kd_batch_size, sgd(config.kd_lr, config.kd_momentum, config.kd_weight_decay))
    return Learner(
        build_model(name, num_classes, config.model.conv, config.model.dtype, config.remat),
        fit,
        kd,
        augmentation,
        kd_loss,
    )


def _builder(config: config_dict.ConfigDict) -> Callable[..., Any]:
    """The method's builder with the fields that the user set."""
    name = config.method.name
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UserError(f"method.name is {name!r}{hint}; allowed are {', '.join(METHODS)}.")
    allowed = [parameter for parameter in inspect.signature(METHODS[name]).parameters if parameter != "setup"]
    given = {key: value for key, value in config.method.items() if key != "name" and value is not None}
    for field, value in given.items():
        if field not in allowed:
            has = ", ".join(f"method.{key}" for key in allowed) or "no field of its own"
            raise UserError(f"method.{field} is {value}, but method {name} does not have it; {name} has {has}.")
    return functools.partial(METHODS[name], **given)
