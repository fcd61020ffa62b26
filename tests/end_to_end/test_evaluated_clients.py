"""Who is evaluated: the participants of a round, or all clients."""

import csv
import json

import numpy as np
import pytest

import scarlet_jax
from scarlet_jax.runtime import metrics
from tests.support.harness import saved, tiny

GROUPS = {"num_clients": 7, "participation": 0.5, "model.client": "mlp:5,cnn:2", "rounds": 2, "eval_every": 2}


def client_rows(path):
    with open(path / "clients.csv") as file:
        return {int(row["client"]): row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same federation evaluated both ways, and with its images on the host."""
    folder = tmp_path_factory.mktemp("evaluated")
    kinds = {"participants": {}, "all": {"eval_clients": "all"}}
    kinds["fed"] = kinds["all"] | {"data.device_budget_mb": 1e-6}
    for name, fields in kinds.items():
        scarlet_jax.run(tiny(**GROUPS, **fields), folder / name)
    return folder


def test_all_clients_are_evaluated_each_once(runs):
    some, everyone = client_rows(runs / "participants"), client_rows(runs / "all")
    assert sorted(everyone) == list(range(7)) and len(some) == 3
    # A participant has one model, whoever else is evaluated.
    assert {client: everyone[client] for client in some} == some
    samples = [int(float(row["samples"])) for row in everyone.values()]
    assert sum(samples) == 100


def test_who_is_evaluated_changes_nothing_that_is_learnt(runs):
    one, other = saved(runs / "participants"), saved(runs / "all")
    assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_images_on_the_host_change_no_score(runs):
    assert (runs / "fed" / "clients.csv").read_text() == (runs / "all" / "clients.csv").read_text()


@pytest.mark.parametrize(
    ("name", "evaluated", "over"),
    [("participants", 3, "the 3 participants last evaluated"), ("all", 7, "all 7 clients")],
)
def test_the_summary_says_whose_mean_it_is(runs, name, evaluated, over):
    summary = json.loads((runs / name / "summary.json").read_text())
    assert (summary["clients_evaluated"], summary["client_mean_over"]) == (evaluated, over)
    top1 = [float(row["top1"]) for row in client_rows(runs / name).values()]
    assert summary["client_top1"] == pytest.approx(np.mean(top1))
    assert metrics.summary_text(summary).splitlines()[0].endswith(f" over {over}")
    row = json.loads((runs / name / "metrics.jsonl").read_text().splitlines()[-1])
    for group, ids in (("mlp", range(5)), ("cnn", range(5, 7))):
        own = [float(r["top1"]) for client, r in client_rows(runs / name).items() if client in ids]
        assert row[f"client_top1_{group}"] == pytest.approx(np.mean(own))


def test_a_lower_score_than_that_of_the_participants_is_the_clients_that_did_not_train(runs):
    """In round 1 those that never took part still have the weights they started with."""
    rows, took = client_rows(runs / "all"), client_rows(runs / "participants")
    untrained = [float(row["loss"]) for client, row in rows.items() if client not in took]
    assert np.mean(untrained) > np.mean([float(row["loss"]) for row in took.values()])


def test_clients_without_models_are_evaluated_with_the_servers_and_it_is_told(tmp_path, capsys):
    fields = {"method.name": "fedavg", "cache.duration": None, "participation": 0.5, "rounds": 1}
    summary = scarlet_jax.run(tiny(**fields, eval_clients="all"), tmp_path / "run")
    lines = capsys.readouterr().out.splitlines()
    assert "config.eval_clients is 'all', and the clients of fedavg keep no models: the server's model" in lines[0]
    assert summary["client_mean_over"] == "all 4 clients (the server's model)"
    rows = client_rows(tmp_path / "run")
    # Together the clients have the test images of the server, whose model it is: the sums agree.
    right = sum(float(row["top1"]) * float(row["samples"]) for row in rows.values())
    assert right == pytest.approx(summary["server_top1"] * 100, abs=0.01)
