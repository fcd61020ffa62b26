"""What a config may say: every rule that can be decided from the config alone, before any compute.

One table of rules per field, one table of rules between fields. What depends on the data is checked where data are
loaded; whether the method exists and has the fields that were set is checked in `registry.py`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import config_dict

from scarlet_jax import counts
from scarlet_jax.errors import UserError, bad_field
from scarlet_jax.options import fields

Values = dict[str, Any]  # leaf values by dotted name

MAX_INT = 2**31 - 1  # rounds, stamps and indices are int32 on the device
MAX_FLOAT = 1e38  # within float32, which models compute in
LONGEST_TEXT = 1000
DEFAULT_RATIO, DEFAULT_ON_EXPIRY, DEFAULT_CLASSES, DEFAULT_LABEL_BITS = 1.0, "drop", 2, 32  # as in configs/base.py


class Rule(NamedTuple):
    """What one field may hold."""

    accepts: Callable[[Any], bool]
    allowed: str | Callable[[], str]  # completes "allowed is ..."
    imports: bool = False  # whether asking imports jax, which takes seconds

    def words(self) -> str:
        """What is allowed."""
        return self.allowed if isinstance(self.allowed, str) else self.allowed()


class Relation(NamedTuple):
    """What must hold between fields."""

    holds: Callable[[Values], bool]
    refusal: Callable[[Values], UserError]


def validate(config: config_dict.ConfigDict) -> None:
    """Refuse a config that cannot be run.

    Raises:
      UserError: names the field, its value and what is allowed; the first problem found.
    """
    _check(config, imports=True)


def validate_quickly(config: config_dict.ConfigDict) -> None:
    """The same, but for the rules that jax must be imported for. What is left is of the right type.

    Raises:
      UserError: as `validate`.
    """
    _check(config, imports=False)


def may_be_open(field: str) -> bool:
    """Whether a field may be None, which leaves it to the method."""
    return field in RULES and not RULES[field].imports and RULES[field].accepts(None)


def _check(config: config_dict.ConfigDict, imports: bool) -> None:
    values = fields.leaves(fields.plain(config))
    for field, value in values.items():
        above = next((known for known, rule in RULES.items() if field.startswith(f"{known}.")), None)
        if above is not None:
            raise bad_field(above, fields.shown_group(config, above), RULES[above].words())
        # Fields of a method that this module does not know are the registry's to judge.
        if field not in RULES and not field.startswith("method.") and not fields.is_group(value):
            near = fields.nearest(field, list(RULES))
            hint = f" (did you mean config.{near}?)" if near else ""
            raise UserError(f"The config has a field that nothing reads, config.{field}{hint}.")
    for field, rule in RULES.items():
        if field not in values:
            if field in OPTIONAL:
                continue
            raise UserError(f"config.{field} is missing: start from get_config of configs/base.py.")
        if (imports or not rule.imports) and not rule.accepts(values[field]):
            raise bad_field(field, values[field], rule.words())
    for relation in RELATIONS:
        if not relation.holds(values):
            raise relation.refusal(values)


def _integer(least: int, most: int = MAX_INT) -> Rule:
    return Rule(
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most,
        f"a whole number from {least} to {most}",
    )


def _number(accepts: Callable[[float], bool], allowed: str) -> Rule:
    def in_range(value: Any) -> bool:
        # Models compute in float32. A larger number is infinite there, which no later sentence could explain.
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and abs(value) <= MAX_FLOAT and accepts(value)

    return Rule(in_range, f"a number {allowed}")


def _open_or(rule: Rule) -> Rule:
    """None too: the field is then decided by the method."""
    return Rule(lambda value: value is None or rule.accepts(value), f"open (None) or {rule.allowed}")


def _one_of(*choices: Any) -> Rule:
    return Rule(
        lambda value: any(type(value) is type(choice) and value == choice for choice in choices),
        "one of " + ", ".join(map(str, choices)),
    )


def _one_of_models(constant: str) -> Rule:
    """One of the names in a constant of `scarlet_jax.models`; imported when asked, because it imports jax."""

    def names() -> tuple[str, ...]:
        from scarlet_jax import models

        return getattr(models, constant)

    return Rule(lambda value: isinstance(value, str) and value in names(), lambda: "one of " + ", ".join(names()), True)


def _client_models(value: Any) -> bool:
    """A model, or groups of them; `groups.model_groups` checks the counts."""
    from scarlet_jax import models

    return isinstance(value, str) and all(part.split(":")[0].strip() in models.MODELS for part in value.split(","))


def _client_models_allowed() -> str:
    from scarlet_jax import models

    return "one of " + ", ".join(models.MODELS) + ", or groups such as resnet20:60,cnn:40"


def _is_text(value: Any) -> bool:
    """Text that can be a path, a line of a file and a cell of a table."""
    unfit = ("Cc", "Cs", "Zl", "Zp")  # control characters, bytes that are no UTF-8, ends of lines
    return (
        isinstance(value, str)
        and len(value) <= LONGEST_TEXT
        and not any(unicodedata.category(character) in unfit for character in value)
    )


_TRUTH = Rule(lambda value: isinstance(value, bool), "true or false")
_TEXT = Rule(_is_text, f"one line of at most {LONGEST_TEXT} characters, or nothing")
_NAME = Rule(lambda value: _is_text(value) and bool(value.strip()), f"a name of at most {LONGEST_TEXT} characters")
_FINITE = _number(lambda x: True, f"from {-MAX_FLOAT:g} to {MAX_FLOAT:g}")
_POSITIVE = _number(lambda x: x > 0, f"above 0 and at most {MAX_FLOAT:g}")
_NOT_NEGATIVE = _number(lambda x: x >= 0, f"from 0 to {MAX_FLOAT:g}")
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
    "eval_clients": _one_of("participants", "all"),
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
    "model.client": Rule(_client_models, _client_models_allowed, True),
    "model.server": _one_of_models("MODELS"),
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
    "compilation_cache": _TRUTH,
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
    """Public images left for drawing."""
    return counts.kept(values["public_size"], values["public_val_ratio"])


RELATIONS: tuple[Relation, ...] = (
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
        lambda v: v["public_per_round"] <= _pool(v),
        lambda v: bad_field(
            "public_per_round",
            v["public_per_round"],
            f"a whole number from 1 to {_pool(v)}",
            f"but config.public_size = {v['public_size']} with config.public_val_ratio = {v['public_val_ratio']!r} "
            f"leaves {_pool(v)} public images",
        ),
    ),
    Relation(
        lambda v: v["cache.duration"] != 0 or v["cache.ratio"] == DEFAULT_RATIO,
        lambda v: bad_field(
            "cache.ratio",
            v["cache.ratio"],
            f"{DEFAULT_RATIO}, or a duration of at least 1",
            "but config.cache.duration = 0 means no cache",
        ),
    ),
    Relation(
        lambda v: v["cache.duration"] != 0 or v["cache.on_expiry"] == DEFAULT_ON_EXPIRY,
        lambda v: bad_field(
            "cache.on_expiry",
            v["cache.on_expiry"],
            f"{DEFAULT_ON_EXPIRY!r}, or a duration of at least 1",
            "but config.cache.duration = 0 means no cache",
        ),
    ),
    Relation(
        lambda v: v["partition.name"] == "shards" or v["partition.classes_per_client"] == DEFAULT_CLASSES,
        lambda v: bad_field(
            "partition.classes_per_client",
            v["partition.classes_per_client"],
            f"{DEFAULT_CLASSES}, or shards",
            f"but only config.partition.name = shards reads it, not {v['partition.name']}",
        ),
    ),
    Relation(
        lambda v: v["partition.name"] == "given" or not v["partition.file"],
        lambda v: bad_field(
            "partition.file",
            v["partition.file"],
            "nothing, or given",
            f"but only config.partition.name = given reads it, not {v['partition.name']}",
        ),
    ),
    Relation(
        lambda v: not (span := fields.span(v["profile_rounds"])) or span.start < v["rounds"],
        lambda v: bad_field(
            "profile_rounds",
            v["profile_rounds"],
            f"FIRST:END with a FIRST of at most {v['rounds'] - 1}",
            f"but config.rounds = {v['rounds']}, counted from 0, end with round {v['rounds'] - 1}",
        ),
    ),
)
