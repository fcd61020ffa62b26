"""A partitioner that is one entry of the table is accepted, run, recorded and reported."""

import numpy as np
import pytest

import scarlet_jax
from scarlet_jax import data, report
from scarlet_jax.data import PARTITIONERS, Partitioner
from scarlet_jax.data.partition import Partition
from scarlet_jax.options import rules
from scarlet_jax.report import facts
from scarlet_jax.tables import load
from tests.support.harness import tiny


def round_robin(rng, train_label, test_label, num_clients, num_classes, classes_per_client):
    """A toy: image i belongs to client (i // classes_per_client) mod K."""
    parts = [np.arange(len(label)) // classes_per_client % num_clients for label in (train_label, test_label)]
    return Partition(*(tuple(np.flatnonzero(own == k) for k in range(num_clients)) for own in parts))


@pytest.fixture
def toy(monkeypatch):
    entry = Partitioner(
        f"{__name__}:round_robin", "in turn", {"classes_per_client": data.parameters()["classes_per_client"]}
    )
    monkeypatch.setitem(PARTITIONERS, "round_robin", entry)


def test_every_function_of_the_table_can_be_loaded():
    for entry in PARTITIONERS.values():
        assert callable(load(entry.divide))


def test_a_new_partitioner_is_one_entry(toy, tmp_path):
    config = tiny(rounds=1, partition__name="round_robin", partition__classes_per_client=3)
    rules.validate(config)
    scarlet_jax.run(config, tmp_path / "run")
    with np.load(tmp_path / "run" / "partition.npz") as file:
        index, size = file["train_index"], file["train_size"]
    for client in range(4):
        own = np.sort(index[client, : size[client]])
        assert set(own // 3 % 4) == {client}
    (group,) = report.group_runs([report.load(tmp_path / "run")])
    assert facts.described(group)["partition"].startswith("round_robin, classes per client 3")


def test_names_that_the_table_lacks_are_refused(toy):
    with pytest.raises(scarlet_jax.UserError, match="allowed is one of dirichlet, .*, given, round_robin"):
        rules.validate(tiny(partition__name="by_weather"))


def test_a_parameter_of_another_partitioner_is_refused(toy):
    rules.validate(tiny(partition__name="round_robin", partition__classes_per_client=3))
    with pytest.raises(scarlet_jax.UserError, match="only config.partition.name = shards or round_robin reads it"):
        rules.validate(tiny(partition__name="iid", partition__classes_per_client=3))
    with pytest.raises(scarlet_jax.UserError, match="only config.partition.name = given reads it"):
        rules.validate(tiny(partition__name="iid", partition__file="clients.txt"))
