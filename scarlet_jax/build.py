"""From a config to what a run computes: the algorithm, the mesh of devices, the byte planner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import config_dict

from scarlet_jax import counts, methods
from scarlet_jax.data import participants
from scarlet_jax.engine import optimizers
from scarlet_jax.engine.layout import make_layout
from scarlet_jax.engine.layout import make_mesh as mesh_of
from scarlet_jax.engine.learner import EVALUATION_BATCH, Augmentation, KdLoss, Learner, kl_divergence
from scarlet_jax.engine.population import Group, MakeLearner, Population
from scarlet_jax.engine.training import Training
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
from scarlet_jax.training_tables import OPTIMIZERS, resolved
from scarlet_jax.types import Data, Numbers, Rates


class Chosen(NamedTuple):
    """What a run has chosen for the fields of its config that leave the choice to the run. The config never changes."""

    conv: str  # for `model.conv`: the name of an implementation, or a mixture of them
    chunks: tuple[int, ...]  # for `clients_per_chunk`, of each group: clients trained together on a device
    duration: int  # for `cache.duration`: D
    horizon: int | None = None  # for `lr_horizon`, in rounds; None: the schedule has none


def check(config: config_dict.ConfigDict) -> None:
    """Refuse what a valid config cannot have, before anything is loaded.

    Raises:
      UserError: groups of clients that do not add up, architectures for which the method has no model, what the
        method's own builder refuses, or participants in `sampling.file` that do not fit.
    """
    name, server = config.method.name, config.model.server
    entry = methods.find(name)
    if entry.distils:
        _check_method(config, _build(config))
    draws(config)
    names = [group.name for group in model_groups(config)]
    if entry.group_servers:
        if server not in names:
            why = f"but the server's models of {name} have the architectures of config.model.client"
            raise bad_field("model.server", server, " or ".join(names), why)
    elif not entry.own_models and len({*names, server}) > 1:
        why = f"and config.model.server is {server!r}, but {name} has a single model for all"
        raise bad_field("model.client", config.model.client, "one architecture, the same in both", why)


def check_images(config: config_dict.ConfigDict, shape: Sequence[int]) -> None:
    """Refuse models that cannot take images of `shape` (H, W, channels), before anything is compiled.

    Raises:
      UserError: names the field and the least size, or the features that the method cannot exchange.
    """
    clients = [("client", group.name) for group in model_groups(config)]
    for field, name in [*clients, *(("server", name) for name in server_models(config))]:
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
    """Who takes part, and what is drawn: nothing where the method uses no public pool.

    Raises:
      UserError: `sampling.file` does not fit the config.
    """
    groups = model_groups(config)
    sizes = tuple(GroupSize(group.clients, group.participants) for group in groups)
    given = participants.given(config.sampling.file, config.rounds, groups) if config.sampling.by == "given" else None
    if not uses_public(config):
        return Draws(config.seed, sizes, 0, 0, given)
    public_size = counts.kept(config.public_size, config.public_val_ratio)
    return Draws(config.seed, sizes, public_size, config.public_per_round, given)


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


def server_models(config: config_dict.ConfigDict) -> list[str]:
    """Architectures of the server's models: those of the groups, a single one, or none, depending on the method."""
    entry = methods.find(config.method.name)
    if entry.group_servers:
        return [group.name for group in model_groups(config)]
    return [config.model.server] if entry.server else []


def model_names(config: config_dict.ConfigDict) -> set[str]:
    """Architectures that the run trains."""
    return {group.name for group in model_groups(config)} | set(server_models(config))


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
    servers = {name: _make_learner(config, chosen.conv, num_classes, name) for name in server_models(config)}
    rules = settings(config, num_classes, chosen.duration)
    population = Population(
        numbers(config, rules.duration, chosen.horizon),
        groups,
        servers if len(servers) > 1 else next(iter(servers.values()), None),
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
    return Chosen(conv, choose_chunks(config, mesh), fields.durations(config)["duration"], choose_horizon(config))


def choose_horizon(config: config_dict.ConfigDict, before: int | None = None) -> int | None:
    """Rounds of the schedule of the learning rates: the config's number, else that of an earlier start, which more
    rounds do not change, else all rounds. None: the schedule has no horizon."""
    return (config.lr_horizon or before or config.rounds) if config.lr_schedule == "cosine" else None


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


def numbers(config: config_dict.ConfigDict, duration: int | jax.Array, horizon: int | None = None) -> Numbers:
    """What the programs of a run take as arguments, as NumPy scalars.

    Args:
      config: validated.
      duration: the cache duration D that was chosen.
      horizon: of the cosine schedule, that was chosen; None: it is another schedule.
    """
    rates = resolved(config)
    return Numbers(
        np.uint32(config.seed),
        _rates(rates["lr"], config.momentum, config.weight_decay),
        _rates(rates["kd_lr"], config.kd_momentum, config.kd_weight_decay),
        np.int32(duration) if duration else None,
        _traced(config),
        _schedule(config, horizon),
    )


def _schedule(config: config_dict.ConfigDict, horizon: int | None) -> optimizers.Cosine | optimizers.Step | None:
    if horizon is not None:
        return optimizers.Cosine(np.int32(horizon))
    if config.lr_schedule == "step":
        return optimizers.Step(np.array(fields.milestones(config.lr_milestones), np.int32), np.float32(config.lr_gamma))
    return None


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
    gradient, names = _gradient(config), resolved(config)

    def make(numbers: Numbers) -> Learner:
        fit = Training(epochs, batch_size, _optimizer(names["optimizer"], numbers.fit))
        kd = Training(kd_epochs, kd_batch_size, _optimizer(names["kd_optimizer"], numbers.kd))
        learner = Learner(model, fit, kd, augmentation, kd_loss(numbers) or kl_divergence, evaluation_batch)
        changed = gradient(numbers)
        return learner if changed is None else learner.with_gradient(changed)

    return make


def _optimizer(name: str, rates: Rates) -> Any:
    """The optimizer of a name, which takes those numbers that are not switched off."""
    given = {field: value for field, value in rates._asdict().items() if value is not None}
    return load(OPTIMIZERS[name].builder)(**given)


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
