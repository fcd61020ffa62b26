"""From a config to what a run computes: the algorithm, the mesh of devices, the byte planner."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import config_dict

from scarlet_jax import counts, methods
from scarlet_jax.engine.layout import make_layout
from scarlet_jax.engine.layout import make_mesh as mesh_of
from scarlet_jax.engine.learner import Augmentation, Learner, Training, kl_divergence, sgd
from scarlet_jax.engine.population import Group, Population
from scarlet_jax.errors import UserError, bad_field
from scarlet_jax.methods import METHODS, distillation, load
from scarlet_jax.methods.base import Algorithm, Method
from scarlet_jax.models import MODELS, build_model, resolve_conv_for
from scarlet_jax.options import fields
from scarlet_jax.options.groups import model_groups
from scarlet_jax.protocol.draws import Draws, GroupSize
from scarlet_jax.protocol.planner import Planner, Shares
from scarlet_jax.protocol.round import Settings
from scarlet_jax.types import Data


class Chosen(NamedTuple):
    """What a run has chosen for the fields of its config that leave the choice to the run. The config never changes."""

    conv: str  # for `model.conv`: the name of an implementation, or a mixture of them
    chunks: tuple[int, ...]  # for `clients_per_chunk`, of each group: clients trained together on a device
    duration: int  # for `cache.duration`: D


def check(config: config_dict.ConfigDict) -> None:
    """Refuse what the chosen method does not allow, before anything is loaded.

    Raises:
      UserError: unknown method, a field it does not have, a cache or groups where there can be none, groups that do not
        add up.
    """
    name = config.method.name
    build = _builder(config)
    if methods.find(name).distils:
        build()
        if name == "cfd" and config.kd_epochs == 0:
            raise bad_field("kd_epochs", 0, "at least 1", "but cfd broadcasts predictions recorded during distillation")
    elif config.cache.duration:
        why = f"but method {name} sends no soft labels to cache"
        raise bad_field("cache.duration", config.cache.duration, "open, or 0", why)
    if name == "centralized" and config.participation != 1:
        raise bad_field("participation", config.participation, "1", "but centralized trains on the images of all")
    groups = model_groups(config)
    if methods.find(name).one_architecture:
        names = {group.name for group in groups} | {config.model.server}
        if len(names) > 1:
            raise bad_field(
                "model.client",
                config.model.client,
                "one architecture, the same in both",
                f"and config.model.server is {config.model.server!r}, but {name} has a single model for all",
            )


def check_images(config: config_dict.ConfigDict, shape: Sequence[int]) -> None:
    """Refuse models that cannot take images of `shape` (H, W, channels), before anything is compiled.

    Raises:
      UserError: names the field and the least size.
    """
    used = [("client", group.name) for group in model_groups(config)]
    if methods.find(config.method.name).server:
        used.append(("server", config.model.server))
    for field, name in used:
        least = MODELS[name].least
        if min(shape[:2]) < least:
            fit = ", ".join(other for other, entry in MODELS.items() if entry.least <= min(shape[:2]))
            raise UserError(
                f"config.model.{field} is {config.model[field]!r}, but {name} needs images of at least {least}x{least} "
                f"pixels, and those of config.data.private have {shape[0]}x{shape[1]}; allowed is one of {fit}."
            )


def make_method(config: config_dict.ConfigDict) -> Method:
    """The distillation method a config names, with the fields the user set.

    Raises:
      UserError: unknown name, a field that this method does not have, or not a distillation method.
    """
    build = _builder(config)
    if not methods.find(config.method.name).distils:
        listed = _listed(name for name, entry in METHODS.items() if entry.distils)
        raise bad_field("method.name", config.method.name, listed, "which sends no soft labels")
    return build()


def settings(config: config_dict.ConfigDict, num_classes: int, duration: int) -> Settings:
    """The protocol's numbers, with the cache duration D that was chosen."""
    return Settings(
        num_classes=num_classes,
        duration=duration,
        on_expiry=config.cache.on_expiry,
        cache_ratio=config.cache.ratio,
        label_bits=config.comm.label_bits,
    )


def draws(config: config_dict.ConfigDict) -> Draws:
    """Who takes part, and what is drawn."""
    groups = tuple(GroupSize(group.clients, group.participants) for group in model_groups(config))
    public_size = counts.kept(config.public_size, config.public_val_ratio)
    return Draws(config.seed, groups, public_size, config.public_per_round)


def make_planner(
    config: config_dict.ConfigDict, num_classes: int, shares: Shares | None = None, memory: int | None = None
) -> Planner:
    """The byte planner of a validated config.

    Args:
      config: of configs/base.py's fields.
      num_classes: C of the private data.
      shares: of what a method that selects sends and keeps; None: all.
      memory: bytes that may be used; None: any number.

    Raises:
      UserError: the method sends no soft labels.
    """
    method = make_method(config)
    how = method.uplink, method.downlink, method.answers is not None
    numbers = settings(config, num_classes, fields.durations(config)["duration"])
    return Planner(config.rounds, draws(config), numbers, *how, shares, memory)


def num_participants(config: config_dict.ConfigDict) -> int:
    """M."""
    return counts.participants(config.num_clients, config.participation)


def evaluates_all(config: config_dict.ConfigDict) -> bool:
    """Whether an evaluation is of all clients, be it that all take part."""
    return config.eval_clients == "all" or num_participants(config) == config.num_clients


def method_fields(config: config_dict.ConfigDict) -> list[str]:
    """The fields of a config that its method reads, as in "method.beta"."""
    return [f"method.{name}" for name in inspect.signature(load(methods.find(config.method.name).builder)).parameters]


def make_mesh(config: config_dict.ConfigDict) -> Mesh:
    """All devices; only the first one if there is a single model to train."""
    alone = config.num_clients == 1 or config.method.name == "centralized"
    return mesh_of(jax.devices()[:1] if alone and jax.process_count() == 1 else None)


def model_names(config: config_dict.ConfigDict) -> set[str]:
    """Architectures that the run trains: the groups', and the server's where the method has a server model."""
    own = {group.name for group in model_groups(config)}
    return own | {config.model.server} if methods.find(config.method.name).server else own


def make_algorithm(
    config: config_dict.ConfigDict, data: Data, num_classes: int, mesh: Mesh, chosen: Chosen | None = None
) -> Algorithm:
    """Everything a run computes, for a validated config and NumPy data (or, to record its phases, their shapes).

    Args:
      config: of configs/base.py's fields.
      data: of the federation.
      num_classes: C.
      mesh: of the run's devices.
      chosen: for the fields that the config leaves open; None: `choose(config, mesh)`.
    """
    chosen = chosen or choose(config, mesh)
    entry = methods.find(config.method.name)
    made = _builder(config)()
    loss = (made.kd_loss if entry.distils else None) or kl_divergence
    learner = functools.partial(_learner, config, chosen.conv, num_classes, _gradient(config))
    groups, first = [], 0
    for group, chunk in zip(model_groups(config), chosen.chunks, strict=True):
        layout = make_layout(mesh, group.clients, group.participants, chunk, first)
        groups.append(Group(group.name, learner(group.name, loss), layout))
        first += group.clients
    population = Population(
        config.seed,
        groups,
        learner(config.model.server, kl_divergence) if entry.server else None,
        tuple(data.private_image.shape[1:]),
        config.same_init,
        mesh,
        entry.own_models,
        config.eval_clients == "all",
    )
    arguments = population, draws(config), settings(config, num_classes, chosen.duration), data
    return distillation.make(made, *arguments) if entry.distils else made(*arguments)


def choose(config: config_dict.ConfigDict, mesh: Mesh) -> Chosen:
    """What a run chooses without compiling or timing anything.

    Raises:
      UserError: `model.conv` names a convolution that cannot be used on these devices.
    """
    conv = resolve_conv_for(model_names(config), config.model.conv, mesh.devices.flat[0].platform)
    return Chosen(conv, choose_chunks(config, mesh), fields.durations(config)["duration"])


def choose_chunks(config: config_dict.ConfigDict, mesh: Mesh, before: Sequence[int] = ()) -> tuple[int, ...]:
    """Clients trained together on a device, of each group: the config's number, else that of an earlier start, else the
    default.

    One client on a CPU, where batching clients only spreads the working set; on an accelerator all of them.

    Args:
      config: of configs/base.py's fields.
      mesh: of the run's devices.
      before: what an earlier start of the run chose; empty: nothing.

    Returns:
      For each group at least 1, and at most the participants that a device has: more would be places without a client.
    """
    groups = model_groups(config)
    whole = [-(-group.participants // mesh.size) for group in groups]
    default = [1] * len(groups) if mesh.devices.flat[0].platform == "cpu" else whole
    wanted = [config.clients_per_chunk] * len(groups) if config.clients_per_chunk else before or default
    return tuple(min(chunk, own) for chunk, own in zip(wanted, whole, strict=True))


def _learner(config, conv: str, num_classes: int, gradient, name: str, kd_loss) -> Learner:
    augmentation = Augmentation(config.private_augment, config.public_augment, config.data.flip, config.data.crop)
    fit = Training(config.epochs, config.batch_size, sgd(config.lr, config.momentum, config.weight_decay))
    kd = Training(config.kd_epochs, config.kd_batch_size, sgd(config.kd_lr, config.kd_momentum, config.kd_weight_decay))
    model = build_model(name, num_classes, conv, config.model.dtype, config.remat)
    learner = Learner(model, fit, kd, augmentation, kd_loss)
    return learner if gradient is None else learner.with_gradient(gradient)


def _gradient(config: config_dict.ConfigDict) -> Any:
    """The method's change of the gradient of private training, or None."""
    reference = methods.find(config.method.name).gradient
    return load(reference)(**_given(config)) if reference else None


def _builder(config: config_dict.ConfigDict) -> Callable[..., Any]:
    """The method's builder with the fields that the user set."""
    name = config.method.name
    allowed = [field.removeprefix("method.") for field in method_fields(config)]
    given = _given(config)
    for field, value in given.items():
        if field not in allowed:
            has = ", ".join(f"method.{key}" for key in allowed) or "no field of its own"
            raise bad_field(f"method.{field}", value, "open", f"but method {name} does not have it ({name} has {has})")
    function = load(methods.find(name).builder)
    for field, parameter in inspect.signature(function).parameters.items():
        if parameter.default is parameter.empty and field not in given:
            raise bad_field(f"method.{field}", None, "a value of its own", f"but method {name} has no default for it")
    return functools.partial(function, **given)


def _given(config: config_dict.ConfigDict) -> dict[str, Any]:
    """The method's parameters that the user set."""
    return {key: value for key, value in config.method.items() if key != "name" and value is not None}


def _listed(names: Iterable[str]) -> str:
    return f"one of {', '.join(names)}"
