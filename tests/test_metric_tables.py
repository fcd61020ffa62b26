"""A metric that is one entry of a table appears everywhere: records, summary, resumption, refusals and reports."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scarlet_jax
from scarlet_jax import report, row_files
from scarlet_jax.engine import scores
from scarlet_jax.metric_tables import ROUND, SCORES, RoundMetric, Score, client_columns, scored
from scarlet_jax.runtime import writers
from scarlet_jax.tables import load
from tests.support.harness import rows, scalars, tiny

CLASSES = 10


def brier(logits, label):
    """The squared distance of the prediction from the label, for each class: [B, C]. Less is better."""
    return (jax.nn.softmax(logits) - jax.nn.one_hot(label, CLASSES)) ** 2


def summed(total, samples):
    return total.sum(-1) / samples


def unanimity(probs, sent, served):
    """The share of the samples for which all uploads have one arg-max."""
    best = jnp.argmax(probs, -1)
    return jnp.mean(jnp.all(best == best[0], 0).astype(jnp.float32))


def small(**fields):
    return tiny(**{"model__client": "mlp", "model__server": "mlp", "model__conv": "xla"} | fields)


@pytest.fixture
def added(monkeypatch):
    own = __name__
    score = Score(f"{own}:brier", "Brier score", "squared", f"{own}:summed", higher=False)
    monkeypatch.setitem(SCORES, "brier", score)
    monkeypatch.setitem(ROUND, "unanimity", RoundMetric(f"{own}:unanimity", "unanimity", "share", uploads=True))


def test_every_function_of_the_tables_can_be_loaded():
    for entry in [*SCORES.values(), *ROUND.values()]:
        assert callable(load(entry.value))


def test_sums_are_those_of_a_plain_loop(added):
    rng = np.random.default_rng(0)
    logits, label = rng.normal(size=(6, CLASSES)).astype(np.float32), rng.integers(0, CLASSES, 6)
    mask = np.array([True, True, False, True, True, False])
    found = scores.of_batch(jnp.asarray(logits), jnp.asarray(label), jnp.asarray(mask), "client")
    assert float(found.samples) == 4 and set(found.sums) == {"top1", "top5", "loss", "brier"}
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    distance = (probs - np.eye(CLASSES)[label]) ** 2
    np.testing.assert_allclose(found.sums["brier"], distance[mask].sum(0), rtol=1e-5)
    np.testing.assert_allclose(found.sums["loss"], -np.log(probs[range(6), label])[mask].sum(), rtol=1e-5)
    empty = scores.nothing(CLASSES, "private_val")
    assert set(empty.sums) == {"top1", "loss", "brier"} and empty.sums["brier"].shape == (CLASSES,)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(empty))


def test_a_metric_is_in_every_record_and_report(added, tmp_path):
    """Run first without the metric and then resumed with it: the records of both share their files."""
    with pytest.MonkeyPatch.context() as before:
        before.delitem(SCORES, "brier")
        before.delitem(ROUND, "unanimity")
        scarlet_jax.run(small(rounds=2), tmp_path / "run")
    scarlet_jax.run(small(rounds=4), tmp_path / "run")
    summary = scarlet_jax.run(small(rounds=1, model__client="mlp:2,cnn:2"), tmp_path / "groups")

    found = row_files.read_metrics(tmp_path / "run").rows
    assert [row.get("server_brier") is not None for row in found] == [False, False, True, True]
    assert {"client_brier", "private_val_brier", "unanimity"} <= set(found[-1])
    assert 0 < found[-1]["server_brier"] < 2 and 0 <= found[-1]["unanimity"] <= 1
    assert sorted(scalars(tmp_path / "run")["client_brier"]) == [2, 3]
    with open(tmp_path / "run" / "metrics.csv") as file:
        table = list(csv.DictReader(file))
    assert [row["server_brier"] != "" for row in table] == [False, False, True, True]
    with open(tmp_path / "run" / "clients.csv") as file:
        clients = list(csv.DictReader(file))
    assert list(clients[0]) == ["round", "client", "top1", "top5", "loss", "samples", "brier"]
    for row in found[2:]:
        own = [float(c["brier"]) for c in clients if int(c["round"]) == row["round"]]
        assert row["client_brier"] == pytest.approx(np.mean(own), rel=1e-6)
    assert all(c["brier"] == "" for c in clients if int(c["round"]) < 2)

    grouped = rows(tmp_path / "groups")[-1]
    assert summary["server_brier"] == grouped["server_brier"] and summary["client_brier"] == grouped["client_brier"]
    assert grouped["client_brier"] == pytest.approx((grouped["client_brier_mlp"] + grouped["client_brier_cnn"]) / 2)
    assert json.loads((tmp_path / "groups" / "summary.json").read_text())["client_brier"] == grouped["client_brier"]
    columns = (tmp_path / "groups" / "clients.csv").read_text().partition("\n")[0].split(",")
    assert columns == list(client_columns()) == ["round", "client", "top1", "top5", "loss", "brier", "samples"]

    report.write_report([tmp_path / "run", tmp_path / "groups"], tmp_path / "report")
    made = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"brier_rounds.svg", "brier_bytes.svg", "brier_client_spread.svg", "soft_labels.svg"} <= made
    assert "## Brier score (squared)" in (tmp_path / "report" / "table.md").read_text()
    with open(tmp_path / "report" / "table.csv") as file:
        line = next(csv.DictReader(file))
    values = [row["server_brier"] for row in found[2:]]
    assert float(line["server_brier_best_mean"]) == pytest.approx(min(values))  # lower is better
    last = [float(c["brier"]) for c in clients if int(c["round"]) == 3]
    assert float(line["client_brier_worst_mean"]) == pytest.approx(max(last))


def test_a_metric_that_is_not_finite_stops_the_run(added, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.brier", lambda logits, label: logits * jnp.nan)
    with pytest.raises(scarlet_jax.UserError, match=r"round 0: the test Brier score of client 0, 1, 2, 3 is"):
        scarlet_jax.run(small(rounds=1), tmp_path / "score")
    monkeypatch.delitem(SCORES, "brier")
    monkeypatch.setattr(f"{__name__}.unanimity", lambda probs, sent, served: jnp.nan * served.target[0, 0])
    with pytest.raises(scarlet_jax.UserError, match=r"round 0: the unanimity is not finite; .* a lower config\.lr may"):
        scarlet_jax.run(small(rounds=1), tmp_path / "label")


def test_a_removed_metric_stays_in_the_table_of_clients(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"round": 0, "participants": 1}\n')
    (tmp_path / "clients.csv").write_text("round,client,top1,old,top5,loss,samples\n0,3,0.5,7,1.0,0.25,4\n")
    before = (tmp_path / "clients.csv").read_bytes()
    _, columns = writers.mend(tmp_path, 1)
    assert columns == ("round", "client", "top1", "old", "top5", "loss", "samples")
    assert (tmp_path / "clients.csv").read_bytes() == before


def test_the_columns_of_today_keep_their_order():
    assert scored("server") == scored("client") == ("top1", "top5", "loss") and scored("private_val") == (
        "top1",
        "loss",
    )
    assert client_columns() == ("round", "client", "top1", "top5", "loss", "samples")
    assert list(ROUND) == ["target_entropy", "disagreement"]
