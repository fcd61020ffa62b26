"""What a run leaves in its workdir."""

import csv
import importlib.machinery
import json
import math
import sys
import types

import numpy as np
import pytest

import scarlet_jax
from scarlet_jax import build
from scarlet_jax.data import federation as federation_data
from scarlet_jax.runtime import metrics, workdir
from tests.support.compiling import with_round
from tests.support.harness import rows, scalars, tiny

pytestmark = pytest.mark.usefixtures("shared_programs")

LEDGERS = ("reference", "wire")


def test_the_workdir_holds_what_was_promised(finished):
    names = {p.name for p in finished.iterdir()}
    assert names >= {
        "config.json", "environment.json", "metrics.jsonl", "metrics.csv", "clients.csv", "summary.json",
        "partition.npz", "partition.csv", "partition.png", "checkpoints", "tensorboard",
    }  # fmt: skip
    assert not [n for n in names if n.endswith(".tmp")]
    only_if_given = {"participants.csv"}
    assert names - {".lock"} == set(workdir.WRITTEN) - only_if_given  # what is refused where it is somebody else's
    assert json.loads((finished / "config.json").read_text()) == json.loads(tiny().to_json())


def test_a_directory_of_somebody_else_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(federation_data, "load", lambda _: pytest.fail("data were loaded"))
    (tmp_path / "metrics.csv").write_text("mine")
    with pytest.raises(scarlet_jax.UserError, match=r"is not the directory of a run, and holds metrics\.csv, which"):
        scarlet_jax.run(tiny(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.csv"] and (tmp_path / "metrics.csv").read_text() == "mine"


def test_a_row_has_every_field(finished):
    fields = {
        "round", "participants", "clients_evaluated", "server_top1", "server_top5", "server_loss", "client_top1",
        "client_top5",
        "client_loss", "private_val_top1", "private_val_loss", "public_val_loss", "public_val_agreement", "fit_loss",
        "fit_accuracy", "kd_loss", "server_kd_loss", "target_entropy", "disagreement", "requested", "hit", "stale",
        "caught_up", *(f"{t}{d}link_bytes_{x}" for t in ("", "total_") for d in ("up", "down") for x in LEDGERS),
    }  # fmt: skip
    found = rows(finished)
    assert [row["round"] for row in found] == [0, 1, 2, 3]
    for row in found:
        assert set(row) == fields
        assert row["requested"] + row["hit"] == 20 and row["participants"] == 4
        assert 0 < row["target_entropy"] < math.log(10) and 0 <= row["disagreement"] < math.log(4)
    for name in (f"{d}link_bytes_{x}" for d in ("up", "down") for x in LEDGERS):
        assert [row[f"total_{name}"] for row in found] == np.cumsum([row[name] for row in found]).tolist()
    for line in (finished / "metrics.jsonl").read_text().splitlines():
        assert json.loads(line)["seconds"] > 0


def test_each_client_has_a_row_per_evaluation(finished):
    with open(finished / "clients.csv") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["round", "client", "top1", "top5", "loss", "samples"]
    assert [(int(x["round"]), int(x["client"])) for x in table] == [(r, k) for r in range(4) for k in range(4)]
    for row in rows(finished):
        own = [x for x in table if int(x["round"]) == row["round"]]
        assert sum(int(x["samples"]) for x in own) == 100
        assert row["client_top1"] == pytest.approx(np.mean([float(x["top1"]) for x in own]))
        assert row["client_loss"] == pytest.approx(np.mean([float(x["loss"]) for x in own]))


def test_the_summary_is_the_last_row_in_short(finished):
    summary, last = json.loads((finished / "summary.json").read_text()), rows(finished)[-1]
    drawn = sum(row["requested"] + row["hit"] for row in rows(finished))
    assert summary == {
        "complete": True,
        "rounds": 4,
        **{
            k: last[k]
            for k in ("server_top1", "server_top5", "server_loss", "client_top1", "client_top5", "client_loss")
        },
        "clients_evaluated": 4,
        "client_mean_over": "all 4 clients",
        "headline": "top1",  # ten classes
        "stopped": None,
        "uplink_bytes": {x: last[f"total_uplink_bytes_{x}"] for x in LEDGERS},
        "downlink_bytes": {x: last[f"total_downlink_bytes_{x}"] for x in LEDGERS},
        "cache_share": sum(row["hit"] for row in rows(finished)) / drawn,
    }
    assert 0 < summary["cache_share"] < 1


def test_the_environment_is_recorded_once_per_start(again):
    scarlet_jax.run(tiny(rounds=5), again)
    environment = json.loads((again / "environment.json").read_text())
    assert len(environment["run"]) == 12 and len(environment["starts"]) == 2
    for start in environment["starts"]:
        assert set(start) == {"python", "platform", "cpus", "versions", "devices", "xla_flags", "choices", "commit"}
        assert {"jax", "jaxlib", "flax", "orbax-checkpoint"} <= set(start["versions"])
        choices = {"conv": "xla", "clients_per_chunk": {"mlp": 1}, "precision": "float32"}
        assert start["choices"] == choices | {"cache": {"duration": 2, "own": 50}}
        assert start["devices"]


def test_the_bytes_are_those_of_the_plan(finished):
    plan = build.make_planner(tiny(), 10).run()
    assert plan.hit.sum() > 0
    for name in ("requested", "hit", "stale", "caught_up"):
        assert [row[name] for row in rows(finished)] == getattr(plan, name).tolist(), name
    for ledger in LEDGERS:
        for direction, planned in (("uplink", plan.uplink_bytes), ("downlink", plan.downlink_bytes)):
            assert [row[f"{direction}_bytes_{ledger}"] for row in rows(finished)] == planned[ledger].tolist()


def test_tensorboard_shows_the_rows(finished):
    board = scalars(finished)
    for row in rows(finished):
        for name, value in row.items():
            if name != "round" and value is not None:
                assert board[name][row["round"]] == pytest.approx(value, rel=1e-6)
    assert "private_val_top1" not in board


def test_two_starts_in_one_second_keep_the_events_of_both(tmp_path, monkeypatch):
    monkeypatch.setattr("tensorboardX.event_file_writer.time.time", lambda: 1_800_000_000.0)
    scarlet_jax.run(tiny(rounds=1), tmp_path / "run")
    scarlet_jax.run(tiny(rounds=2), tmp_path / "run")
    assert sorted(scalars(tmp_path / "run")["server_top1"]) == [0, 1]


def test_evaluation_every_other_round_and_in_the_last(tmp_path, finished):
    scarlet_jax.run(tiny(rounds=3, eval_every=2), tmp_path)
    found, every = rows(tmp_path), rows(finished)
    assert [row["server_top1"] is not None for row in found] == [False, True, True]
    for row, full in zip(found, every, strict=False):
        evaluated = row["server_top1"] is not None
        assert row == {k: v if evaluated or k not in EVALUATED else None for k, v in full.items()}
    with open(tmp_path / "clients.csv") as file:
        assert {int(x["round"]) for x in csv.DictReader(file)} == {1, 2}


EVALUATED = metrics.summarised()


def _spoilt(monkeypatch, spoil, at):
    """Let `spoil(state, report)` act on what round `at` returns."""
    make = build.make_algorithm

    def spoiling(*args):
        algorithm, calls = make(*args), []

        def round_(*args, **kwargs):
            calls.append(algorithm.round(*args, **kwargs))
            return spoil(*calls[-1]) if len(calls) == at + 1 else calls[-1]

        return with_round(algorithm, round_)

    monkeypatch.setattr(build, "make_algorithm", spoiling)


@pytest.mark.parametrize(
    ("field", "index", "message"),
    [
        ("fit_loss", 2, r"round 2: the training loss of client 2 is not finite; .* a lower config\.lr, or a lower"),
        ("kd_loss", 1, r"round 2: the distillation loss of client 1 is not finite; .* lower config\.kd_lr may help"),
        ("server_kd_loss", (), r"round 2: the server's distillation loss is not finite; the checkpoint after 2 rounds"),
        (
            "target_entropy",
            (),
            r"round 2: the entropy of the teacher is not finite; .* another config\.method\.beta",
        ),
    ],
)
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch, finished, field, index, message):
    def spoil(state, report):
        if field in report.metrics:
            return state, report._replace(metrics=report.metrics | {field: np.float32(np.nan)})
        return state, report._replace(**{field: getattr(report, field).at[index].set(np.nan)})

    _spoilt(monkeypatch, spoil, at=2)
    with pytest.raises(scarlet_jax.UserError, match=message):
        scarlet_jax.run(tiny(), tmp_path)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["2"]
    assert rows(tmp_path) == rows(finished)[:2]
    monkeypatch.undo()


def test_a_model_that_is_not_finite_never_enters_a_checkpoint(tmp_path, monkeypatch):
    def spoil(state, report):
        (group,) = state.clients
        layer = next(iter(group.params))
        params = group.params | {layer: {k: v.at[3].set(np.inf) for k, v in group.params[layer].items()}}
        return state._replace(clients=(group._replace(params=params),)), report

    _spoilt(monkeypatch, spoil, at=3)  # not evaluated: nothing else would show it
    with pytest.raises(
        scarlet_jax.UserError,
        match=r"round 3: the model of client 3 is not finite after its last step; no checkpoint was saved yet, ",
    ):
        scarlet_jax.run(tiny(rounds=5, eval_every=5, checkpoint__every=4), tmp_path)
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_learning_rate_far_too_high_stops_the_run(tmp_path):
    with pytest.raises(
        scarlet_jax.UserError, match=r"round 0: .* client \d.* no checkpoint .* lower config\.lr may help\."
    ) as stopped:
        scarlet_jax.run(tiny(lr=1e30), tmp_path)
    assert "\n" not in str(stopped.value)
    assert not (tmp_path / "metrics.jsonl").exists() and not (tmp_path / "summary.json").exists()


def test_wandb_without_wandb_is_one_sentence_before_anything_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        scarlet_jax.UserError, match=r"wandb.mode is 'offline', but wandb is not installed; allowed is "
    ):
        scarlet_jax.run(tiny(wandb__mode="offline"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_wandb_mirrors_the_rows_and_a_resumed_run_keeps_its_id(tmp_path, monkeypatch, finished):
    logged, begun, ended = [], [], []
    session = types.SimpleNamespace(log=lambda row, step: logged.append((step, row)), finish=lambda: ended.append(1))
    fake = types.ModuleType("wandb")
    fake.init = lambda **options: begun.append(options) or session
    fake.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for rounds in (2, 4):
        scarlet_jax.run(tiny(rounds=rounds, wandb__mode="offline"), tmp_path)
    assert [step for step, _ in logged] == [0, 1, 2, 3] and len(ended) == 2
    assert [row["server_top1"] for _, row in logged] == [row["server_top1"] for row in rows(finished)]
    assert begun[0]["id"] == begun[1]["id"] and begun[0]["mode"] == "offline" and begun[0]["resume"] == "allow"


@pytest.mark.parametrize(
    "classes,first,other", [(99, "top-1 0.1250", "0.5000"), (100, "top-5 0.5000", "no such score")]
)
def test_top5_is_named_first_where_classes_are_many(classes, first, other):
    row = dict.fromkeys(metrics.summarised(), 0.5) | {"round": 0, "server_top1": 0.125, "client_top1": 0.25}
    summary = metrics.summarise(metrics.no_summary(), row, metrics.no_totals())
    lines = metrics.summary_text(summary | {"headline": metrics.headline(classes)}).splitlines()
    assert f"1 round: server {first}" in lines[0] and other not in lines[0]
    assert any("server top-1 0.1250, mean client top-1 0.2500" in line for line in lines)
