import math

import pytest

from configs import base, cifar10, cifar10_small, digits
from scarlet_jax.errors import UserError
from scarlet_jax.methods import METHODS
from scarlet_jax.options import fields, relations, rules
from scarlet_jax.options.without_effect import without_effect


def config_with(**changes):
    config = base.get_config()
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in changes.items()})
    return config


@pytest.mark.parametrize("module", [base, cifar10, cifar10_small, digits], ids=lambda module: module.__name__)
def test_our_configs_are_valid(module):
    rules.validate(module.get_config())


def test_every_leaf_field_has_a_rule():
    found = set(rules.RULES).union(*(rules.method_rules(name) for name in METHODS))
    assert set(fields.leaves(base.get_config())) == found


@pytest.mark.parametrize("module", [base, cifar10, cifar10_small, digits], ids=lambda module: module.__name__)
def test_defaults_that_are_repeated_are_those_of_base_which_no_config_changes(module):
    assert relations.DEFAULTS.items() <= fields.leaves(module.get_config()).items()


REFUSED = [
    ("seed", -1),
    ("seed", 2**31),
    ("rounds", 0),
    ("num_clients", 0),
    ("num_clients", -3),
    ("participation", 0.0),
    ("participation", 1.01),
    ("participation", math.nan),
    ("sampling.by", "loss"),
    ("sampling.file", "ids.txt"),
    ("public_size", 0),
    ("public_per_round", 0),
    ("eval_every", 0),
    ("epochs", -1),
    ("batch_size", 0),
    ("lr", 0.0),
    ("lr", -0.1),
    ("lr", math.inf),
    ("lr", math.nan),
    ("momentum", 1.0),
    ("momentum", -0.1),
    ("weight_decay", -1e-4),
    ("weight_decay", math.inf),
    ("optimizer", "adamw"),
    ("kd_optimizer", ""),
    ("lr_schedule", "linear"),
    ("lr_horizon", 0),
    ("lr_milestones", ""),
    ("lr_milestones", "0"),
    ("lr_milestones", "3,2"),
    ("lr_milestones", "2,2"),
    ("lr_milestones", "2,"),
    ("lr_milestones", "2147483648"),
    ("lr_gamma", 0.0),
    ("lr_gamma", 1.5),
    ("stop.server_top1", 0.0),
    ("stop.server_top1", 90.0),
    ("stop.client_top1", math.nan),
    ("stop.megabytes", 0.0),
    ("stop.megabytes", math.inf),
    ("kd_epochs", -1),
    ("kd_batch_size", 0),
    ("kd_lr", 0.0),
    ("kd_lr", math.nan),
    ("kd_momentum", 1.5),
    ("kd_weight_decay", -1.0),
    ("private_val_ratio", 1.0),
    ("model.precision", "float16"),
    ("profile_rounds", "3"),
    ("profile_rounds", "5:3"),
    ("profile_rounds", "-1:3"),
    ("private_val_ratio", -0.1),
    ("public_val_ratio", 1.0),
    ("public_val_ratio", math.nan),
    ("data.private", ""),
    ("data.public", " "),
    ("data.train_size", -1),
    ("data.test_size", -1),
    ("partition.name", "dirichelt"),
    ("partition.alpha", 0.0),
    ("partition.alpha", math.inf),
    ("partition.classes_per_client", 0),
    ("model.client", "resnet21"),
    ("model.server", ""),
    ("model.conv", "fast"),
    ("method.name", ""),
    ("method.beta", math.nan),
    ("method.beta", -1.0),
    ("cache.duration", -1),
    ("cache.on_expiry", "keep"),
    ("cache.ratio", 0.0),
    ("cache.ratio", 1.5),
    ("comm.label_bits", 12),
    ("clients_per_chunk", -1),
    ("checkpoint.every", 0),
    ("checkpoint.keep", 0),
    ("wandb.mode", "on"),
    ("wandb.project", ""),
]


def test_given_participants_need_a_file():
    with pytest.raises(UserError, match=r"sampling\.file is '', but .*by is 'given'; allowed is the path of a file\."):
        rules.validate(config_with(sampling__by="given"))


@pytest.mark.parametrize(("field", "value"), REFUSED, ids=lambda value: str(value))
def test_a_bad_value_is_refused_by_name_value_and_what_is_allowed(field, value):
    config = base.get_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError) as refusal:
        rules.validate(config)
    sentence = str(refusal.value)
    assert sentence.startswith(f"config.{field} is {value!r}; allowed is ")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rounds", 1),
        ("participation", 0.01),
        ("public_per_round", 10_000),
        ("epochs", 0),
        ("kd_epochs", 0),
        ("momentum", 0.0),
        ("momentum", 0.99),
        ("private_val_ratio", 0.99),
        ("public_val_ratio", 0.75),
        ("method.beta", 0.0),
        ("method.beta", 2.0),
        ("cache.duration", 0),
        ("cache.duration", None),
        ("cache.ratio", 1e-3),
        ("cache.on_expiry", "refresh"),
        ("comm.label_bits", 8),
        ("partition.name", "iid"),
        ("partition.name", "shards"),
        ("wandb.mode", "offline"),
        ("data.dir", "/data"),
    ],
)
def test_values_at_the_bounds_are_accepted(field, value):
    config = base.get_config()
    config.update_from_flattened_dict({field: value})
    rules.validate(config)


@pytest.mark.parametrize("value", [True, 1.0, "1", None], ids=repr)
@pytest.mark.parametrize("field", ["rounds", "checkpoint.every", "comm.label_bits"])
def test_a_config_written_by_hand_with_a_wrong_type_is_refused(field, value):
    config = base.get_config().unlock()
    group = config[field.rpartition(".")[0]] if "." in field else config
    with group.ignore_type():
        group[field.rpartition(".")[2]] = value
    with pytest.raises(UserError, match=rf"config\.{field} is "):
        rules.validate(config)


@pytest.mark.parametrize("value", ["0.1", None], ids=repr)
def test_a_number_is_neither_text_nor_open(value):
    config = base.get_config().unlock()
    with config.ignore_type():
        config.momentum = value
    with pytest.raises(UserError, match=r"config\.momentum is .*; allowed is a number of at least 0 and below 1\."):
        rules.validate(config)


def test_a_missing_field_is_named():
    config = base.get_config().unlock()
    del config.kd_lr
    with pytest.raises(UserError, match=r"config\.kd_lr is missing"):
        rules.validate(config)


def test_a_field_that_nothing_reads_is_refused_with_the_nearest_name():
    config = base.get_config().unlock()
    config.participaton = 0.5
    with pytest.raises(UserError, match=r"participaton \(did you mean config\.participation\?\)\."):
        rules.validate(config)


def test_a_config_may_leave_out_the_fields_of_its_method_and_have_no_others():
    config = base.get_config().unlock()
    del config.method.beta
    rules.validate(config)
    config.method.sharpness = 3
    with pytest.raises(
        UserError, match=r"sharpness is 3, but method scarlet does not have it \(.* method\.beta\); .* open"
    ):
        rules.validate(config)


def test_participation_must_give_a_client():
    rules.validate(config_with(num_clients=10, participation=0.1))
    with pytest.raises(UserError, match=r"config\.participation is 0\.09.*num_clients = 10; .*from 0\.1 to 1"):
        rules.validate(config_with(num_clients=10, participation=0.09))


def test_what_is_drawn_must_fit_into_what_validation_leaves():
    rules.validate(config_with(public_size=1000, public_per_round=750, public_val_ratio=0.25))
    with pytest.raises(
        UserError, match=r"config\.public_per_round is 751.*public_val_ratio = 0\.25 leaves 750 .*750\."
    ):
        rules.validate(config_with(public_size=1000, public_per_round=751, public_val_ratio=0.25))
    # int(10 * (1 - 0.9)) is 0 in floating point, but one image is always kept where data are divided, and so here.
    rules.validate(config_with(public_size=10, public_per_round=1, public_val_ratio=0.9))
    with pytest.raises(UserError, match="from 1 to 1"):
        rules.validate(config_with(public_size=10, public_per_round=2, public_val_ratio=0.9))


@pytest.mark.parametrize(("field", "value"), [("cache.ratio", 0.5), ("cache.on_expiry", "refresh")])
def test_cache_fields_without_a_cache_are_refused(field, value):
    changes = {field.replace(".", "__"): value}
    rules.validate(config_with(cache__duration=1, **changes))
    with pytest.raises(UserError, match=rf"config\.{field} is .*config\.cache\.duration = 0 means no cache"):
        rules.validate(config_with(cache__duration=0, **changes))


def test_classes_per_client_is_refused_where_it_would_be_ignored():
    rules.validate(config_with(partition__name="shards", partition__classes_per_client=3))
    with pytest.raises(UserError, match=r"classes_per_client is 3, but only config\.partition\.name = shards"):
        rules.validate(config_with(partition__classes_per_client=3))


def test_profiling_rounds_that_never_come_is_refused():
    for rounds in ("", "2:3", "2:9"):
        rules.validate(config_with(rounds=3, profile_rounds=rounds))
    with pytest.raises(UserError, match=r"profile_rounds is '3:4', but config\.rounds = 3, .* of at most 2\."):
        rules.validate(config_with(rounds=3, profile_rounds="3:4"))


def test_momentum_is_refused_with_adam():
    rules.validate(config_with(optimizer="adam", kd_optimizer="sgd", kd_momentum=0.9))
    with pytest.raises(UserError) as refusal:
        rules.validate(config_with(optimizer="adam", momentum=0.9))
    assert str(refusal.value) == (
        "config.momentum is 0.9, but config.optimizer is adam, which has no such momentum; allowed is 0."
    )
    with pytest.raises(UserError, match=r"config\.kd_momentum is 0\.9, but config\.kd_optimizer is adam, which"):
        rules.validate(config_with(optimizer="adam", kd_momentum=0.9))


@pytest.mark.parametrize("name", METHODS)
def test_a_bound_that_no_round_can_reach_is_refused(name):
    entry = METHODS[name]
    for field, possible in (("server_top1", entry.server), ("client_top1", True), ("megabytes", entry.sends)):
        config = config_with(**{"method__name": name, f"stop__{field}": 0.5})
        if possible:
            rules.validate(config)
        else:
            with pytest.raises(UserError, match=rf"stop\.{field} is 0\.5, but method {name} .*; allowed is open\."):
                rules.validate(config)


def test_steps_need_their_milestones():
    rules.validate(config_with(lr_schedule="step", lr_milestones="1, 3"))
    with pytest.raises(UserError, match=r"lr_milestones is None, but config\.lr_schedule is step; allowed is rounds"):
        rules.validate(config_with(lr_schedule="step"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"method.name": "scarlet", "cache.ratio": 0.5, "cache.on_expiry": "refresh", "comm.label_bits": 8}, []),
        ({"method.name": "dsfl", "cache.duration": 3, "cache.ratio": 0.5, "comm.label_bits": 8}, []),
        ({"method.name": "dsfl", "cache.ratio": 0.5, "comm.label_bits": 8}, ["cache.ratio is 0.5"]),
        ({"method.name": "cfd", "cache.on_expiry": "refresh"}, ["cache.on_expiry is 'refresh'"]),
        ({"method.name": "fedavg", "cache.ratio": 0.5}, ["cache.ratio is 0.5"]),
        ({"method.name": "feddf", "comm.label_bits": 8}, ["comm.label_bits is 8"]),
        ({"method.name": "individual", "comm.label_bits": 32}, []),
        ({"method.name": "individual", "kd_lr": 0.01, "kd_momentum": 0.9}, ["kd_lr is 0.01", "kd_momentum is 0.9"]),
        ({"method.name": "centralized", "kd_weight_decay": 1e-4}, ["kd_weight_decay is 0.0001"]),
        ({"method.name": "fedavg", "kd_optimizer": "adam"}, ["kd_optimizer is 'adam'"]),
        ({"method.name": "feddf", "kd_lr": 0.01, "public_val_ratio": 0.1}, []),
        ({"method.name": "fd", "comm.label_bits": 8}, ["comm.label_bits is 8"]),
        ({"method.name": "fd", "kd_lr": 0.01, "public_val_ratio": 0.1}, ["kd_lr is 0.01", "public_val_ratio is 0.1"]),
    ],
    ids=str,
)
def test_options_that_the_method_has_no_use_for_are_told(changes, told):
    config = config_with(**changes)
    rules.validate(config)
    sentences = without_effect(config)
    assert len(sentences) == len(told)
    for sentence, start in zip(sentences, told, strict=True):
        assert sentence.startswith(f"config.{start}, which changes nothing: {config.method.name} ")


def test_fields_of_another_schedule_are_told():
    every = {"lr_horizon": 9, "lr_milestones": "3", "lr_gamma": 0.5}
    told = {name: without_effect(config_with(lr_schedule=name, **every)) for name in ("constant", "cosine", "step")}
    assert told["step"] == ["config.lr_horizon is 9, which changes nothing: config.lr_schedule is step."]
    assert [len(sentences) for sentences in told.values()] == [3, 2, 1]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_told_of_a_card_as_it_is(method):
    for module in (cifar10, cifar10_small, digits):
        assert without_effect(module.get_config(method)) == []
