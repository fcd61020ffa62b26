"""Optimizers by name, and what a config means that leaves a learning rate open."""

import pytest

from configs import base, cifar10
from scarlet_jax.tables import load
from scarlet_jax.training_tables import OPTIMIZERS, remarks, resolved


def config_with(**fields):
    config = cifar10.get_config()
    config.update_from_flattened_dict(fields)
    return config


@pytest.mark.parametrize(
    ("fields", "names", "rates"),
    [
        ({}, ("sgd", "sgd"), (0.1, 0.1)),
        ({"optimizer": "adam"}, ("adam", "adam"), (0.001, 0.001)),
        ({"kd_optimizer": "adam"}, ("sgd", "adam"), (0.1, 0.001)),
        ({"optimizer": "adam", "kd_optimizer": "sgd"}, ("adam", "sgd"), (0.001, 0.1)),
        ({"optimizer": "adam", "lr": 0.05}, ("adam", "adam"), (0.05, 0.001)),
    ],
)
def test_an_open_rate_is_the_optimizers_own_and_one_that_is_set_stays(fields, names, rates):
    found = resolved(config_with(**fields))
    assert (found["optimizer"], found["kd_optimizer"]) == names
    assert (found["lr"], found["kd_lr"]) == rates


def test_a_rate_of_sgd_is_not_used_with_adam_in_silence():
    assert remarks(config_with(optimizer="adam", lr=0.1)) == [
        "config.lr is 0.1, which is large for adam: --config.lr=open takes its default, 0.001."
    ]
    assert [text[:15] for text in remarks(config_with(kd_optimizer="adam", lr=0.1, kd_lr=0.02))] == ["config.kd_lr is"]
    both = config_with(optimizer="adam", lr=0.2, kd_lr=0.2)
    assert [text[:12] for text in remarks(both, distils=False)] == ["config.lr is"]
    for fields in ({"lr": 10.0}, {"optimizer": "adam"}, {"optimizer": "adam", "lr": 0.01}):
        assert remarks(config_with(**fields)) == []


def test_a_config_of_an_earlier_program_is_of_sgd_at_a_constant_rate():
    assert resolved({"lr": 0.1, "kd_lr": 0.2}) == {
        "optimizer": "sgd", "kd_optimizer": "sgd", "lr": 0.1, "kd_lr": 0.2, "lr_schedule": "constant", "lr_gamma": 0.1,
    }  # fmt: skip
    now = base.get_config()
    assert resolved(now).items() >= (resolved({}) | {"lr": 0.1, "kd_lr": 0.1}).items()


def test_an_optimizer_of_a_later_program_is_left_as_it_is():
    assert resolved({"optimizer": "lion", "lr": None})["lr"] is None


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_a_transformation_of_its_numbers(name):
    entry = OPTIMIZERS[name]
    numbers = {"lr": entry.lr, "weight_decay": 0.1} | ({"momentum": 0.9} if entry.momentum else {})
    assert load(entry.builder)(**numbers).init({}) is not None
    assert entry.lr <= entry.largest
