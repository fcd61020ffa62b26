"""From a config to what a run computes: the algorithm, the mesh of devices, the byte planners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import config_dict

from scarlet_jax import counts, learners, methods
from scarlet_jax.data import participants
from scarlet_jax.engine.layout import make_layout
from scarlet_jax.engine.layout import make_mesh as mesh_of
from scarlet_jax.engine.learner import EVALUATION_BATCH, KdLoss
from scarlet_jax.engine.population import Group, Population
from scarlet_jax.errors import bad_field
from scarlet_jax.methods import METHODS, class_knowledge, distillation
from scarlet_jax.methods.base import Algorithm, Method
from scarlet_jax.models import resolve_conv_for
from scarlet_jax.options import fields
from scarlet_jax.options.groups import model_groups
from scarlet_jax.protocol.class_planner import ClassPlanner
from scarlet_jax.protocol.draws import Draws, GroupSize
from scarlet_jax.protocol.planner import Planner, Shares
from scarlet_jax.protocol.round import Settings
from scarlet_jax.tables import load
from scarlet_jax.types import Data, Numbers


class Chosen(NamedTuple):
    """What a run has chosen for the fields of its config that leave the choice to the run. The config never changes."""

    conv: str  # for `model.conv`: the name of an implementation, or a mixture of them
    chunks: tuple[int, ...]  # for `clients_per_chunk`, of each group: clients trained together on a device
    duration: int  # for `cache.duration`: D
    horizon: int | None = None  # for `lr_horizon`, in rounds; None: the schedule has none


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
        size = vector or learners.feature_size(config, shape or ())
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
        learner = learners.make_learner(config, chosen.conv, num_classes, group.name, kd_loss, batch)
        groups.append(Group(group.name, learner, layout))
        first += group.clients
    servers = {name: learners.make_learner(config, chosen.conv, num_classes, name) for name in server_models(config)}
    rules = settings(config, num_classes, chosen.duration)
    population = Population(
        learners.numbers(config, rules.duration, chosen.horizon),
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


def _build(config: config_dict.ConfigDict) -> Any:
    """What the method's builder makes of the method's parameters."""
    return load(methods.find(config.method.name).builder)(**fields.method_parameters(config))
