"""What must hold between the fields of a config: by the table `RELATIONS`, and by what its method asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from scarlet_jax import counts, data, methods
from scarlet_jax.errors import UserError, bad_field
from scarlet_jax.options.fields import round_range
from scarlet_jax.training_tables import OPTIMIZERS, resolved

Values = dict[str, Any]  # leaf values by dotted name

# As in configs/base.py. These options have no effect in some runs, and no shipped config sets them.
DEFAULTS = {
    "cache.ratio": 1.0, "cache.on_expiry": "drop", "comm.label_bits": 32,
    "kd_optimizer": None, "kd_lr": None, "kd_momentum": 0.0, "kd_weight_decay": 0.0, "public_val_ratio": 0.0,
    "lr_horizon": None, "lr_milestones": None, "lr_gamma": 0.1,
}  # fmt: skip


class Relation(NamedTuple):
    """What must hold between fields."""

    holds: Callable[[Values], bool]
    refusal: Callable[[Values], UserError]


def check(values: Values) -> None:
    """Refuse fields that do not go with others, or that do not go with the method.

    Raises:
      UserError: the first problem found.
    """
    name = values["method.name"]
    entry = methods.find(name)
    for field, ask in entry.asks.items():
        if not ask.least <= values[field] <= ask.most:
            allowed = f"{ask.least:g}" if ask.least == ask.most else f"at least {ask.least:g}"
            raise bad_field(field, values[field], allowed, ask.why)
    if values["cache.duration"] and not entry.distils:
        why = f"but method {name} sends no soft labels of public images to cache"
        raise bad_field("cache.duration", values["cache.duration"], "open, or 0", why)
    for field, has, why in (
        ("stop.server_top1", entry.server, "has no server model"),
        ("stop.megabytes", entry.sends, "sends no bytes"),
    ):
        if values[field] is not None and not has:
            raise bad_field(field, values[field], "open", f"but method {name} {why}")
    for relation in RELATIONS:
        if not relation.holds(values):
            raise relation.refusal(values)


def _pool(values: Values) -> int:
    """Public images left for drawing."""
    return counts.kept(values["public_size"], values["public_val_ratio"])


def _of_the_cache(field: str) -> Relation:
    """Without a cache the field has its default."""
    allowed, why = f"{DEFAULTS[field]!r}, or a duration of at least 1", "but config.cache.duration = 0 means no cache"
    return Relation(
        lambda v: v["cache.duration"] != 0 or v[field] == DEFAULTS[field],
        lambda v: bad_field(field, v[field], allowed, why),
    )


def _of_another_partitioner(values: Values) -> str | None:
    """A parameter that is set, and that the partitioner does not read.

    Those of the default partitioner do not count: cards set them, and a user who then names another partitioner need
    not take them back.
    """
    reads = {values["partition.name"], next(iter(data.PARTITIONERS))}
    for name, parameter in data.parameters().items():
        if reads.isdisjoint(data.readers(name)) and values[f"partition.{name}"] != parameter.default:
            return name
    return None


def _refused_parameter(values: Values) -> UserError:
    name = _of_another_partitioner(values)
    assert name is not None
    field, readers = f"partition.{name}", " or ".join(data.readers(name))
    why = f"but only config.partition.name = {readers} reads it, not {values['partition.name']}"
    return bad_field(field, values[field], f"{data.parameters()[name].default or 'nothing'}, or {readers}", why)


def _momentum(field: str, optimizer: str) -> Relation:
    """There is none with an optimizer that has none."""

    def refusal(values: Values) -> UserError:
        name = resolved(values)[optimizer]
        return bad_field(field, values[field], "0", f"but config.{optimizer} is {name}, which has no such momentum")

    return Relation(lambda v: not v[field] or OPTIMIZERS[resolved(v)[optimizer]].momentum, refusal)


RELATIONS: tuple[Relation, ...] = (
    _momentum("momentum", "optimizer"),
    _momentum("kd_momentum", "kd_optimizer"),
    Relation(
        lambda v: v["lr_schedule"] != "step" or v["lr_milestones"] is not None,
        lambda v: bad_field(
            "lr_milestones", None, "rounds, ascending, as in 100,150", "but config.lr_schedule is step"
        ),
    ),
    Relation(
        lambda v: counts.participants(v["num_clients"], v["participation"]) >= 1,
        lambda v: bad_field(
            "participation",
            v["participation"],
            f"a number from {1 / v['num_clients']!r} to 1",
            f"which gives no client of config.num_clients = {v['num_clients']}",
        ),
    ),
    Relation(
        lambda v: not methods.find(v["method.name"]).public or v["public_per_round"] <= _pool(v),
        lambda v: bad_field(
            "public_per_round",
            v["public_per_round"],
            f"a whole number from 1 to {_pool(v)}",
            f"but config.public_size = {v['public_size']} with config.public_val_ratio = {v['public_val_ratio']!r} "
            f"leaves {_pool(v)} public images",
        ),
    ),
    Relation(
        lambda v: (v["sampling.by"] == "given") == bool(v["sampling.file"]),
        lambda v: (
            bad_field("sampling.file", v["sampling.file"], "the path of a file", "but config.sampling.by is 'given'")
            if v["sampling.by"] == "given"
            else bad_field("sampling.file", v["sampling.file"], "nothing, or config.sampling.by = given")
        ),
    ),
    _of_the_cache("cache.ratio"),
    _of_the_cache("cache.on_expiry"),
    Relation(lambda v: _of_another_partitioner(v) is None, _refused_parameter),
    Relation(
        lambda v: not (found := round_range(v["profile_rounds"])) or found.start < v["rounds"],
        lambda v: bad_field(
            "profile_rounds",
            v["profile_rounds"],
            f"FIRST:END with a FIRST of at most {v['rounds'] - 1}",
            f"but config.rounds = {v['rounds']}, counted from 0, end with round {v['rounds'] - 1}",
        ),
    ),
)
