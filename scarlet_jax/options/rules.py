"""What a config may say: every rule that can be decided from the config alone, before any compute.

One table of rules per field, and rules made from the table of methods for a method's parameters; `relations` has those
between fields. What depends on the data is checked where data are loaded.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ml_collections import config_dict

from scarlet_jax import data, methods, models
from scarlet_jax.errors import UserError, bad_field
from scarlet_jax.models import conv
from scarlet_jax.options import fields, relations
from scarlet_jax.tables import REQUIRED, Parameter
from scarlet_jax.training_tables import OPTIMIZERS, SCHEDULES

MAX_INT = 2**31 - 1  # rounds, stamps and indices are int32 on the device
MAX_FLOAT = 1e38  # within float32, which models compute in
LONGEST_TEXT = 1000


class Rule(NamedTuple):
    """What one field may hold."""

    accepts: Callable[[Any], bool]
    allowed: str | Callable[[], str]  # completes "allowed is ..."

    def words(self) -> str:
        """What is allowed."""
        return self.allowed if isinstance(self.allowed, str) else self.allowed()


def validate(config: config_dict.ConfigDict) -> None:
    """Refuse a config that cannot be run. What is left is of the right type.

    Raises:
      UserError: names the field, its value and what is allowed; the first problem found.
    """
    values = fields.leaves(fields.plain(config))
    name = values.get("method.name")
    own = method_rules(name) if RULES["method.name"].accepts(name) else {}
    rules = RULES | own
    for field, value in values.items():
        above = next((known for known in rules if field.startswith(f"{known}.")), None)
        if above is not None:
            raise bad_field(above, fields.shown_group(config, above), rules[above].words())
        if field in rules or fields.is_group(value):
            continue
        if not field.startswith("method."):
            near = fields.nearest(field, list(rules))
            hint = f" (did you mean config.{near}?)" if near else ""
            raise UserError(f"The config has a field that nothing reads, config.{field}{hint}.")
        if value is not None:
            has = ", ".join(own) or "no field of its own"
            raise bad_field(field, value, "open", f"but method {name} does not have it ({name} has {has})")
    for field, rule in rules.items():
        # A config written by hand may leave out what is open.
        if field not in values and field not in own:
            raise UserError(f"config.{field} is missing: start from get_config of configs/base.py.")
        if not rule.accepts(values.get(field)):
            raise bad_field(field, values.get(field), rule.words())
    relations.check(values)


def may_be_open(field: str) -> bool:
    """Whether a field may be None, which leaves it to the method."""
    return RULES[field].accepts(None) if field in RULES else field.startswith("method.")


def method_rules(name: Any) -> dict[str, Rule]:
    """The rules for the parameters of a method, by field.

    Raises:
      UserError: as `methods.find`.
    """
    found = methods.find(name).parameters
    return {f"method.{key}": _of_method(parameter) for key, parameter in found.items()}


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


def _parameter(parameter: Parameter) -> Rule:
    """The rule for a parameter of a table's function."""
    least, most = parameter.least, parameter.most
    if parameter.choices:
        return _one_of(*parameter.choices)
    if parameter.kind is int:
        return _integer(int(max(least, -MAX_INT)), int(min(most, MAX_INT)))
    if parameter.kind is float:
        least, most = max(least, -MAX_FLOAT), min(most, MAX_FLOAT)
        return _number(lambda value: least <= value <= most, f"from {least:g} to {most:g}")
    return {bool: _TRUTH, str: _TEXT}.get(parameter.kind, Rule(lambda value: value is not None, "a value"))


def _of_method(parameter: Parameter) -> Rule:
    """The same for a method's, which may be open; one that has no default must be set."""
    rule = _parameter(parameter)
    if parameter.default is REQUIRED:
        return rule._replace(allowed=f"{rule.allowed} (the method has no default for it)")
    return _open_or(rule)


def _one_of(*choices: Any) -> Rule:
    return Rule(
        lambda value: any(type(value) is type(choice) and value == choice for choice in choices),
        "one of " + ", ".join(map(str, choices)),
    )


def _named(names: Callable[[], Iterable[str]]) -> Rule:
    """One of the names of a table, which may have got others."""
    return Rule(lambda value: isinstance(value, str) and value in names(), lambda: "one of " + ", ".join(names()))


def _client_models(value: Any) -> bool:
    """A model, or groups of them; `groups.model_groups` checks the counts."""
    return isinstance(value, str) and all(part.split(":")[0].strip() in models.MODELS for part in value.split(","))


def _client_models_allowed() -> str:
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
_POSITIVE = _number(lambda x: x > 0, f"above 0 and at most {MAX_FLOAT:g}")
_NOT_NEGATIVE = _number(lambda x: x >= 0, f"from 0 to {MAX_FLOAT:g}")
_SHARE = _number(lambda x: 0 < x <= 1, "above 0 and at most 1")
_PART = _number(lambda x: 0 <= x < 1, "of at least 0 and below 1")

RULES: dict[str, Rule] = {
    "seed": _integer(0),
    "rounds": _integer(1),
    "num_clients": _integer(1),
    "participation": _SHARE,
    "sampling.by": _one_of("uniform", "given"),
    "sampling.file": _TEXT,
    "public_size": _integer(1),
    "public_per_round": _integer(1),
    "eval_every": _integer(1),
    "eval_clients": _one_of("participants", "all"),
    "same_init": _TRUTH,
    "optimizer": _one_of(*OPTIMIZERS),
    "kd_optimizer": _open_or(_one_of(*OPTIMIZERS)),
    "lr_schedule": _one_of(*SCHEDULES),
    "lr_horizon": _open_or(_integer(1)),
    "lr_milestones": _open_or(
        Rule(lambda v: bool(fields.milestones(v)), f"rounds from 1 to {MAX_INT}, ascending, as in 100,150")
    ),
    "lr_gamma": _SHARE,
    "epochs": _integer(0),
    "batch_size": _integer(1),
    "lr": _open_or(_POSITIVE),
    "momentum": _PART,
    "weight_decay": _NOT_NEGATIVE,
    "kd_epochs": _integer(0),
    "kd_batch_size": _integer(1),
    "kd_lr": _open_or(_POSITIVE),
    "kd_momentum": _PART,
    "kd_weight_decay": _NOT_NEGATIVE,
    "stop.server_top1": _open_or(_SHARE),
    "stop.client_top1": _open_or(_SHARE),
    "stop.megabytes": _open_or(_POSITIVE),
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
    "partition.name": _named(lambda: data.PARTITIONERS),
    **{f"partition.{name}": _parameter(parameter) for name, parameter in data.parameters().items()},
    "partition.seed": _open_or(_integer(0)),
    "model.client": Rule(_client_models, _client_models_allowed),
    "model.server": _named(lambda: models.MODELS),
    "model.conv": _named(conv.names),
    "model.precision": _open_or(_one_of(*models.PRECISIONS)),
    "method.name": _NAME,
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
        lambda v: isinstance(v, str) and fields.round_range(v) is not None, "FIRST:END, as in 3:5, or nothing"
    ),
    "wandb.mode": _one_of("off", "offline", "online"),
    "wandb.project": _NAME,
}
