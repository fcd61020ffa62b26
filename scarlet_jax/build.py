"""From a config to what a run computes: the algorithm, the mesh of devices, the byte planner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import config_dict

from scarlet_jax import counts, methods
from scarlet_jax.engine.layout import make_layout
from scarlet_jax.engine.layout import make_mesh as mesh_of
from scarlet_jax.engine.learner import EVALUATION_BATCH, Augmentation, KdLoss, Learner, Training, kl_divergence, sgd
from scarlet_jax.engine.population import Group, MakeLearner, Population
from scarlet_jax.errors import UserError, bad_field
from scarlet_jax.methods import METHODS, class_knowledge, distillation
from scarlet_jax.methods.base import Algorithm, Method
from scarlet_jax.models import MODELS, build_model, resolve_conv_for
from scarlet_jax.options import fields
from scarlet_jax.options.groups import model_groups
from scarlet_jax.protocol.class_planner import ClassPlanner
from scarlet_jax.protocol.draws import Draws, GroupSize
from scarlet_jax.protocol.planner import Planner, Shares
from scarlet_jax.protocol.round import Settings
from scarlet_jax.tables import load
from scarlet_jax.types import Data, Numbers, Rates


class Chosen(NamedTuple):
    """What a run has chosen for the fields of its config that leave the choice to the run. The config never changes."""

    conv: str  # for `model.conv`: the name of an implementation, or a mixture of them
    chunks: tuple[int, ...]  # for `clients_per_chunk`, of each group: clients trained together on a device
    duration: int  # for `cache.duration`: D


def check(config: config_dict.ConfigDict) -> None:
    """Refuse what a valid config cannot have, before anything is loaded.

    Raises:
      UserError: groups of clients that do not add up, several architectures where the method has one, or what the
        method's own builder refuses.
    """
    name = config.method.name
    if methods.find(name).distils:
        _check_method(config, _build(config))
    groups = model_groups(config)
    if not methods.find(name).own_models:
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
      UserError: names the field and the least size, or the features that the method cannot exchange.
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
    if exchanges_features(config):
        feature_size(config, shape)


def feature_size(config: config_dict.ConfigDict, shape: Sequence[int]) -> int:
    """d of the features of the clients' models for images of `shape` (H, W, channels).

    Raises:
      UserError: a model gives no features, or not all give as many.
    """
    sizes = {}
    for group in model_groups(config):
        learner = _make_learner(config, "xla", 2, group.name)(numbers(config, 0))
        sizes[group.name] = learner.feature_size(tuple(shape))
    name, text = config.method.name, config.model.client
    if None in sizes.values():
        without = next(model for model, size in sizes.items() if size is None)
        raise bad_field("model.client", text, "models that sow their features", f"and {without} does not")
    if len(set(sizes.values())) > 1:
        listed = " and ".join(f"{size} of {model}" for model, size in sizes.items())
        why = f"but {name} averages the features of all clients, and these are {listed}"
        raise bad_field("model.client", text, "models with as many features for these images", why)
    return next(size for size in sizes.values() if size is not None)


def make_method(config: config_dict.ConfigDict) -> Method:
    """The distillation method that a valid config names.

    Raises:
      UserError: not a distillation method.
    """
    if not methods.find(config.method.name).distils:
        listed = ", ".join(name for name, entry in METHODS.items() if entry.distils)
        raise bad_field("method.name", config.method.name, f"one of {listed}", "which sends no soft labels")
    return _build(config)


def settings(config: config_dict.ConfigDict, num_classes: int, duration: int) -> Settings:
    """The protocol's numbers, with the cache duration D that was chosen."""
    return Settings(
        num_classes=num_classes,
        duration=duration,
        on_expiry=config.cache.on_expiry,
        cache_ratio=config.cache.ratio,
        label_bits=config.comm.label_bits,
    )


def uses_public(config: config_dict.ConfigDict) -> bool:
    """Whether the method uses the public pool."""
    return methods.find(config.method.name).public


def draws(config: config_dict.ConfigDict) -> Draws:
    """Who takes part, and what is drawn: nothing where the method uses no public pool."""
    groups = tuple(GroupSize(group.clients, group.participants) for group in model_groups(config))
    if not uses_public(config):
        return Draws(config.seed, groups, 0, 0)
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
    how = method.uplink, method.downlink, method.answers is not None, method.teach is None
    numbers = settings(config, num_classes, fields.durations(config)["duration"])
    return Planner(config.rounds, draws(config), numbers, *how, shares, memory)


def exchanges_features(config: config_dict.ConfigDict) -> bool:
    """Whether clients and server exchange vectors of features, of which all models must have as many."""
    return methods.find(config.method.name).by_class and _build(config).features


def make_class_planner(
    config: config_dict.ConfigDict,
    num_classes: int,
    shape: Sequence[int] | None,
    held: int | None = None,
    vector: int | None = None,
) -> ClassPlanner:
    """The byte planner of a validated config, whose method exchanges knowledge by class.

    Args:
      config: of configs/base.py's fields.
      num_classes: C of the private data.
      shape: H, W and channels of the images; None if `vector` is given, or no features are exchanged.
      held: classes that a client is assumed to hold; None: all.
      vector: d of features; None: that of the models.
    """
    size = num_classes
    if exchanges_features(config):
        size = vector or feature_size(config, shape or ())
    participants = draws(config).num_participants
    return ClassPlanner(config.rounds, config.num_clients, participants, num_classes, size, held or num_classes)


def num_participants(config: config_dict.ConfigDict) -> int:
    """M."""
    return counts.participants(config.num_clients, config.participation)


def evaluates_all(config: config_dict.ConfigDict) -> bool:
    """Whether an evaluation is of all clients, be it that all take part."""
    return config.eval_clients == "all" or num_participants(config) == config.num_clients


def make_mesh(config: config_dict.ConfigDict) -> Mesh:
    """All devices; only the first one if there is a single model to train."""
    alone = config.num_clients == 1 or methods.find(config.method.name).one_model
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
    build, parameters = load(entry.builder), fields.method_parameters(config)

    def make_method(numbers: Numbers) -> Any:
        return build(**parameters | numbers.method)

    def kd_loss(numbers: Numbers) -> KdLoss | None:
        return make_method(numbers).kd_loss if entry.distils else None

    # On an accelerator clients are evaluated in batches of training's size, whose convolutions are compiled anyway.
    batch = EVALUATION_BATCH if on_cpu(mesh) else config.batch_size
    groups, first = [], 0
    for group, chunk in zip(model_groups(config), chosen.chunks, strict=True):
        layout = make_layout(mesh, group.clients, group.participants, chunk, first)
        groups.append(
            Group(group.name, _make_learner(config, chosen.conv, num_classes, group.name, kd_loss, batch), layout)
        )
        first += group.clients
    rules = settings(config, num_classes, chosen.duration)
    population = Population(
        numbers(config, rules.duration),
        groups,
        _make_learner(config, chosen.conv, num_classes, config.model.server) if entry.server else None,
        tuple(data.private_image.shape[1:]),
        config.same_init,
        mesh,
        entry.own_models,
        config.eval_clients == "all",
    )
    arguments = population, draws(config), rules, data
    if entry.distils:
        return distillation.make(make_method, *arguments)
    if entry.by_class:
        return class_knowledge.make(make_method, *arguments)
    return make_method(population.host_numbers)(*arguments)


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
    default = [1] * len(groups) if on_cpu(mesh) else whole
    wanted = [config.clients_per_chunk] * len(groups) if config.clients_per_chunk else before or default
    return tuple(min(chunk, own) for chunk, own in zip(wanted, whole, strict=True))


def on_cpu(mesh: Mesh) -> bool:
    """Whether the devices are no accelerators."""
    return mesh.devices.flat[0].platform == "cpu"


def numbers(config: config_dict.ConfigDict, duration: int | jax.Array) -> Numbers:
    """What the programs of a run with the cache duration D take as arguments, as NumPy scalars."""
    return Numbers(
        np.uint32(config.seed),
        _rates(config.lr, config.momentum, config.weight_decay),
        _rates(config.kd_lr, config.kd_momentum, config.kd_weight_decay),
        np.int32(duration) if duration else None,
        _traced(config),
    )


def _traced(config: config_dict.ConfigDict) -> dict[str, Any]:
    """The method's parameters that the table says a builder can take as tracers."""
    kinds, values = methods.find(config.method.name).parameters, fields.method_parameters(config)
    as_array = {float: np.float32, int: np.int32}
    return {key: as_array[kinds[key].kind](value) for key, value in values.items() if kinds[key].traced}


def _rates(lr: float, *others: float) -> Rates:
    return Rates(np.float32(lr), *(np.float32(other) if other else None for other in others))


def _make_learner(
    config: config_dict.ConfigDict,
    conv: str,
    num_classes: int,
    name: str,
    kd_loss: Callable[[Numbers], KdLoss | None] = lambda numbers: None,
    evaluation_batch: int = EVALUATION_BATCH,
) -> MakeLearner:
    """What makes the learner of an architecture from the numbers of a run, which may be tracers.

    Args:
      config: validated.
      conv: the convolution chosen.
      num_classes: C.
      name: of the architecture.
      kd_loss: makes the distillation loss; its None is the default.
      evaluation_batch: images that are scored together.
    """
    augmentation = Augmentation(config.private_augment, config.public_augment, config.data.flip, config.data.crop)
    epochs, batch_size, kd_epochs, kd_batch_size = (
        config[field] for field in ("epochs", "batch_size", "kd_epochs", "kd_batch_size")
    )
    model = build_model(name, num_classes, conv, config.model.precision, config.remat)
    gradient = _gradient(config)

    def make(numbers: Numbers) -> Learner:
        fit = Training(epochs, batch_size, sgd(*numbers.fit))
        kd = Training(kd_epochs, kd_batch_size, sgd(*numbers.kd))
        learner = Learner(model, fit, kd, augmentation, kd_loss(numbers) or kl_divergence, evaluation_batch)
        changed = gradient(numbers)
        return learner if changed is None else learner.with_gradient(changed)

    return make


def _gradient(config: config_dict.ConfigDict) -> Callable[[Numbers], Any]:
    """What makes the method's change of the gradient of private training, or None, from the numbers of a run."""
    change, parameters = methods.find(config.method.name).gradient, fields.method_parameters(config)
    if change is None or not parameters[change[0]]:
        return lambda numbers: None
    return lambda numbers: load(change[1])(**parameters | numbers.method)


def _check_method(config: config_dict.ConfigDict, method: Method) -> None:
    """Refuse what a distillation method cannot have, whatever its name."""
    bits = config.comm.label_bits
    if method.logits and bits != 32:
        why = f"but {config.method.name} sends logits, and the quantiser is made for probabilities"
        raise bad_field("comm.label_bits", bits, "32", why)
    duration = fields.durations(config)["duration"]
    if method.teach is not None and duration:
        why = f"but {config.method.name} sends each client labels of its own, which nobody else could use"
        raise bad_field("cache.duration", duration, "open, or 0", why)


def _build(config: config_dict.ConfigDict) -> Any:
    """What the method's builder makes of the method's parameters."""
    return load(methods.find(config.method.name).builder)(**fields.method_parameters(config))
