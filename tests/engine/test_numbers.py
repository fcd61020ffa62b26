"""Runs that differ in plain numbers alone have the same programs: those numbers are arguments of every phase."""

import json
import re

import jax
import numpy as np
import pytest

from scarlet_jax import build, learners
from scarlet_jax.data import federation
from scarlet_jax.engine import phases
from scarlet_jax.engine.feed import Feed, Schedule
from scarlet_jax.engine.layout import REPLICATED, make_mesh
from scarlet_jax.methods import METHODS
from scarlet_jax.preview import compiled
from scarlet_jax.types import Rates
from tests.support.federations import cacheable
from tests.support.harness import tiny
from tests.support.shapes import shapes

TRAINED = {"momentum": 0.9, "weight_decay": 1e-3, "kd_momentum": 0.5, "kd_weight_decay": 1e-4}


def programs(config):
    """The lowered text of every phase of a run: start, rounds, evaluations."""
    mesh = make_mesh()
    data = phases.abstract(shapes(config.num_clients), jax.sharding.NamedSharding(mesh, REPLICATED))
    calls = compiled.record(build.make_algorithm(config, data, 10, mesh), data, data)
    return {call.name: call.traced.lower().as_text() for call in calls}


def configured(name, **fields):
    share = 1.0 if name == "centralized" else 0.5
    config = tiny(**{"public_size": 40, "participation": share, "cache.duration": None} | fields)
    config.method.name = name
    if cacheable(name):
        config.cache.duration = fields.get("cache.duration", 2)
    return config


def changed(config, **fields):
    config = type(config)(json.loads(config.to_json()))
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return config


@pytest.mark.parametrize("name", METHODS)
def test_two_seeds_two_rates_and_two_betas_have_the_same_programs(name):
    """So have two values of every parameter of a method that the table says is an argument. A schedule adds the program
    of the rates."""
    config = configured(name, **TRAINED)
    other = changed(config, seed=7, lr=0.05, kd_lr=0.2, momentum=0.8, weight_decay=1e-2, kd_momentum=0.6)
    for key, parameter in METHODS[name].parameters.items():
        if parameter.traced:
            config.method[key], other.method[key] = 0.5, 1.5
    if cacheable(name):
        other.cache.duration = 3
    found = programs(changed(other, lr_schedule="cosine"))
    assert found.pop("learning rates")
    assert found == programs(config)


@pytest.mark.parametrize("fields", [{}, {"model.client": "mlp:2,cnn:2", "model.server": "cnn"}])
def test_no_program_is_compiled_twice(fields):
    """Of two phases that do the same with the same shapes, one would be enough; outputs begin as zeros in all."""
    found = programs(configured("comet", **fields))
    texts = [re.sub(r"module @\w+", "", text) for name, text in found.items() if not name.endswith("outputs")]
    assert len(set(texts)) == len(texts)


def test_numbers_that_are_part_of_the_program():
    """0 momentum needs no state, an epoch more is another loop, D = 0 is no cache."""
    config = configured("scarlet", **TRAINED)
    for fields in ({"momentum": 0.0}, {"epochs": 2}, {"cache__duration": 0}):
        assert programs(changed(config, **fields)) != programs(config)


def test_numbers_are_those_of_the_config():
    config = configured("scarlet", seed=2**31 - 1, lr=0.3, kd_momentum=0.5)
    numbers = learners.numbers(config, 2)
    assert int(numbers.seed) == 2**31 - 1 and int(numbers.duration) == 2
    assert numbers.fit == Rates(np.float32(0.3)) and numbers.kd == Rates(np.float32(0.1), np.float32(0.5))
    assert learners.numbers(config, 0).duration is None


@pytest.mark.usefixtures("quick_compilation")
def test_a_federation_computes_with_its_own_numbers():
    """The draws of the devices are the host's, and those of two seeds differ."""
    drawn = []
    for seed in (3, 4):
        config = configured("scarlet", seed=seed)
        loaded = federation.load(config)
        algorithm = build.make_algorithm(config, loaded.data, loaded.num_classes, make_mesh())
        data = jax.device_put(loaded.data)
        _, report = algorithm.round(algorithm.init(data), data)
        host: Schedule = algorithm.schedule
        np.testing.assert_array_equal(report.participants, host.participants(0))
        np.testing.assert_array_equal(report.participants, algorithm.draws.participants(np.int32(0)))
        np.testing.assert_array_equal(host.public(1), algorithm.draws.public(np.int32(1)))
        drawn.append(host.public(0))
    assert (drawn[0] != drawn[1]).any()


UNEQUAL = {"partition.name": "label_dirichlet", "data.train_size": 1000, "num_clients": 3}


def fed(config):
    """A federation's algorithm, its data as loaded, and as a round gets it."""
    loaded = federation.load(config)
    algorithm = build.make_algorithm(config, loaded.data, loaded.num_classes, make_mesh())
    return algorithm, loaded.data, Feed(loaded.data, algorithm.schedule, 0, make_mesh()).training(0)


def test_unequal_clients_of_two_seeds_have_the_same_shapes():
    (_, one, first), (_, other, second) = (fed(tiny(**UNEQUAL, seed=seed)) for seed in (0, 1))
    assert one.train.rows.shape != other.train.rows.shape
    assert first.train.rows.shape == second.train.rows.shape == (3, 512)
    assert first.val.rows.shape == (3, 0), "no client has validation images"
    assert fed(tiny())[2].train.rows.shape == (4, 30), "clients of equal size have it by the config"


@pytest.mark.usefixtures("quick_compilation")
def test_columns_change_no_bit():
    algorithm, loaded, data = fed(tiny(**UNEQUAL, private_val_ratio=0.1))
    assert loaded.train.rows.shape != data.train.rows.shape
    results = []
    for own in (jax.device_put(loaded), data):
        state, report = algorithm.round(algorithm.init(own), own)
        results.append(jax.device_get((state, report, algorithm.evaluate(state, own, report.participants))))
    jax.tree.map(np.testing.assert_array_equal, *results)
