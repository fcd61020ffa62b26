"""What a config may say: every rule that can be decided from the config alone, before any compute.

One table of rules per field, one table of rules between fields. What depends on the data is checked where data are
loaded; whether the method exists and has the fields that were set is checked in `registry.py`.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import config_dict

from scarlet_jax import fields
from scarlet_jax.errors import UserError

Values = dict[str, Any]  # leaf values by dotted name

MAX_INT = 2**31 - 1  # rounds, stamps and indices are int32 on the device
DEFAULT_RATIO, DEFAULT_ON_EXPIRY, DEFAULT_CLASSES, DEFAULT_LABEL_BITS = 1.0, "drop", 2, 32  # as in configs/base.py


class Rule(NamedTuple):
    """What one field may hold."""

    accepts: Callable[[Any], bool]
    allowed: str | Callable[[], str]  # completes "allowed is ..."


class Relation(NamedTuple):
    """What must hold between fields."""

    holds: Callable[[Values], bool]
    sentence: Callable[[Values], str]


def validate(config: config_dict.ConfigDict) -> None:
    """Refuse a config that cannot be run.

    Raises:
      UserError: names the field, its value and what is allowed; the first problem found.
    """
    values = fields.leaves(config)
    for field in values:
        # Fields of a method that this module does not know are the registry's to judge.
        if field not in RULES and not field.startswith("method."):
            near = fields.nearest(field, list(RULES))
            raise UserError(
                f"The config has a field that nothing reads: {field}" + (f"; is it {near}?" if near else ".")
            )
    for field, rule in RULES.items():
        if field not in values:
            if field in OPTIONAL:
                continue
            raise UserError(f"config.{field} is missing: start from get_config of configs/base.py.")
        if not rule.accepts(values[field]):
            allowed = rule.allowed if isinstance(rule.allowed, str) else rule.allowed()
            raise UserError(f"config.{field} is {values[field]!r}; allowed is {allowed}.")
    for relation in RELATIONS:
        if not relation.holds(values):
            raise UserError(relation.sentence(values))


def _integer(least: int, most: int = MAX_INT) -> Rule:
    def accepts(value: Any) -> bool:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool) and least <= int(value) <= most

    return Rule(accepts, f"a whole number from {least} to {most}")


def _number(accepts: Callable[[float], bool], allowed: str) -> Rule:
    def finite_and(value: Any) -> bool:
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        return real and math.isfinite(value) and accepts(value)

    return Rule(finite_and, f"a number {allowed}")


def _open_or(rule: Rule) -> Rule:
    """None too: the field is then decided by the method."""
    return Rule(lambda value: value is None or rule.accepts(value), f"open (None) or {rule.allowed}")


def _one_of(*choices: Any) -> Rule:
    return Rule(
        lambda value: any(value == choice and type(value) is type(choice) for choice in choices),
        "one of " + ", ".join(map(str, choices)),
    )


def _one_of_models(constant: str) -> Rule:
    """One of the names in a constant of `scarlet_jax.models`; imported when asked, because it imports jax."""

    def names() -> tuple[str, ...]:
        from scarlet_jax import models

        return getattr(models, constant)

    return Rule(lambda value: value in names(), lambda: "one of " + ", ".join(names()))


def _client_models(value: Any) -> bool:
    """A model, or groups of them; `registry.model_groups` checks the counts."""
    from scarlet_jax import models

    return isinstance(value, str) and all(part.split(":")[0].strip() in models.MODEL_NAMES for part in value.split(","))


def _client_models_allowed() -> str:
    from scarlet_jax import models

    return "one of " + ", ".join(models.MODEL_NAMES) + ", or groups such as resnet20:60,cnn:40"


_TRUTH = Rule(lambda value: isinstance(value, bool), "true or false")
_TEXT = Rule(lambda value: isinstance(value, str), "text")
_NAME = Rule(lambda value: isinstance(value, str) and bool(value.strip()), "a name")
_FINITE = _number(lambda x: True, "that is finite")
_POSITIVE = _number(lambda x: x > 0, "above 0")
_NOT_NEGATIVE = _number(lambda x: x >= 0, "of at least 0")
_SHARE = _number(lambda x: 0 < x <= 1, "above 0 and at most 1")
_PART = _number(lambda x: 0 <= x < 1, "of at least 0 and below 1")

RULES: dict[str, Rule] = {
    "seed": _integer(0),
    "rounds": _integer(1),
    "num_clients": _integer(1),
    "participation": _SHARE,
    "public_size": _integer(1),
    "public_per_round": _integer(1),
    "eval_every": _integer(1),
    "same_init": _TRUTH,
    "epochs": _integer(0),
    "batch_size": _integer(1),
    "lr": _POSITIVE,
    "momentum": _PART,
    "weight_decay": _NOT_NEGATIVE,
    "kd_epochs": _integer(0),
    "kd_batch_size": _integer(1),
    "kd_lr": _POSITIVE,
    "kd_momentum": _PART,
    "kd_weight_decay": _NOT_NEGATIVE,
    "private_augment": _TRUTH,
    "public_augment": _TRUTH,
    "private_val_ratio": _PART,
    "public_val_ratio": _PART,
    "data.private": _NAME,
    "data.public": _NAME,
    "data.dir": _TEXT,
    "data.cache_dir": _TEXT,
    "data.train_size": _integer(0),
    "data.test_size": _integer(0),
    "data.device_budget_mb": _NOT_NEGATIVE,
    "data.flip": _TRUTH,
    "data.crop": _TRUTH,
    "partition.name": _one_of("dirichlet", "label_dirichlet", "iid", "shards", "given"),
    "partition.alpha": _POSITIVE,
    "partition.classes_per_client": _integer(1),
    "partition.file": _TEXT,
    "partition.seed": _open_or(_integer(0)),
    "model.client": Rule(_client_models, _client_models_allowed),
    "model.server": _one_of_models("MODEL_NAMES"),
    "model.conv": _one_of_models("CONV_NAMES"),
    "model.dtype": _one_of_models("DTYPES"),
    "method.name": _NAME,
    # Whether the method has the field, and its range there, is the method's to say.
    "method.beta": _open_or(_FINITE),
    "method.temperature": _open_or(_FINITE),
    "method.uplink_bits": _open_or(_integer(1)),
    "method.downlink_bits": _open_or(_integer(1)),
    "method.num_clusters": _open_or(_integer(1)),
    "method.weight": _open_or(_FINITE),
    "method.width": _open_or(_FINITE),
    "method.lambda_exponent": _open_or(_FINITE),
    "method.quantile": _open_or(_FINITE),
    "method.threshold": _open_or(_FINITE),
    "method.prox_mu": _open_or(_NOT_NEGATIVE),
    "cache.duration": _open_or(_integer(0)),
    "cache.on_expiry": _one_of("drop", "refresh"),
    "cache.ratio": _SHARE,
    "comm.label_bits": _one_of(32, 16, 8),
    "clients_per_chunk": _integer(0),
    "remat": _TRUTH,
    "deterministic": _TRUTH,
    "checkpoint.every": _integer(1),
    "checkpoint.keep": _integer(1),
    "profile_rounds": Rule(
        lambda v: isinstance(v, str) and fields.span(v) is not None, "FIRST:END, as in 3:5, or nothing"
    ),
    "wandb.mode": _one_of("off", "offline", "online"),
    "wandb.project": _NAME,
}

# A config written by hand may leave these out; a config that starts from base.py has them all.
OPTIONAL = frozenset(field for field in RULES if field.startswith("method.") and field != "method.name")


def _pool(values: Values) -> int:
    """Public images left for drawing, rounded as the reference rounds."""
    return int(values["public_size"] * (1 - values["public_val_ratio"]))


def _most_validation(public_size: int) -> float:
    """The largest share for validation, in millionths, that leaves an image, rounded as `_pool` rounds."""
    share = 1_000_000 - -(-1_000_000 // public_size)
    while share and int(public_size * (1 - share / 1e6)) < 1:
        share -= 1
    return share / 1e6


RELATIONS: tuple[Relation, ...] = (
    Relation(
        lambda v: int(v["num_clients"] * v["participation"]) >= 1,
        lambda v: (
            f"config.participation is {v['participation']!r}, which gives no client of config.num_clients = "
            f"{v['num_clients']}; allowed is a number from {1 / v['num_clients']:.6g} to 1."
        ),
    ),
    Relation(
        lambda v: _pool(v) >= 1,
        lambda v: (
            f"config.public_val_ratio is {v['public_val_ratio']!r}, which leaves no image of config.public_size = "
            f"{v['public_size']} to learn from; allowed is a number from 0 to "
            f"{_most_validation(v['public_size']):g}."
        ),
    ),
    Relation(
        lambda v: v["public_per_round"] <= _pool(v),
        lambda v: (
            f"config.public_per_round is {v['public_per_round']}, but config.public_size = {v['public_size']} with "
            f"config.public_val_ratio = {v['public_val_ratio']!r} leaves {_pool(v)} public images; "
            f"allowed is at most {_pool(v)}."
        ),
    ),
    Relation(
        lambda v: v["cache.duration"] != 0 or v["cache.ratio"] == DEFAULT_RATIO,
        lambda v: (
            f"config.cache.ratio is {v['cache.ratio']!r}, but config.cache.duration = 0 means no cache; "
            f"allowed is {DEFAULT_RATIO}, or a duration of at least 1."
        ),
    ),
    Relation(
        lambda v: v["cache.duration"] != 0 or v["cache.on_expiry"] == DEFAULT_ON_EXPIRY,
        lambda v: (
            f"config.cache.on_expiry is {v['cache.on_expiry']!r}, but config.cache.duration = 0 means no cache; "
            f"allowed is {DEFAULT_ON_EXPIRY!r}, or a duration of at least 1."
        ),
    ),
    Relation(
        lambda v: v["partition.name"] == "shards" or v["partition.classes_per_client"] == DEFAULT_CLASSES,
        lambda v: (
            f"config.partition.classes_per_client is {v['partition.classes_per_client']}, but only "
            f"config.partition.name = shards reads it, not {v['partition.name']}; "
            f"allowed is {DEFAULT_CLASSES}, or shards."
        ),
    ),
    Relation(
        lambda v: v["partition.name"] == "given" or not v["partition.file"],
        lambda v: (
            f"config.partition.file is {v['partition.file']!r}, but only config.partition.name = given reads it, not "
            f"{v['partition.name']}; allowed is nothing, or given."
        ),
    ),
    Relation(
        lambda v: not (span := fields.span(v["profile_rounds"])) or span.start < v["rounds"],
        lambda v: (
            f"config.profile_rounds is {v['profile_rounds']!r}, but config.rounds = {v['rounds']}, counted from 0, end "
            f"with round {v['rounds'] - 1}; allowed is FIRST:END with a FIRST of at most {v['rounds'] - 1}."
        ),
    ),
)
