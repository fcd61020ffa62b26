"""Bounds that end a run: after the first round that reaches one, and without another bit in the rounds before."""

import json

import numpy as np
import pytest

import scarlet_jax
from scarlet_jax import build, report
from scarlet_jax.data import federation as federation_data
from scarlet_jax.runtime import checkpoint, metrics, stopping
from tests.support.compiling import with_round
from tests.support.harness import assert_same_bits, assert_same_run, rows, saved, tiny

pytestmark = pytest.mark.usefixtures("shared_programs")


def total(row):
    return row["total_uplink_bytes_reference"] + row["total_downlink_bytes_reference"]


def summary_of(path):
    return json.loads((path / "summary.json").read_text())


@pytest.mark.parametrize("field", ["server_top1", "client_top1", "megabytes"])
def test_a_run_ends_after_the_first_round_that_reaches_its_bound(tmp_path, finished, capsys, monkeypatch, field):
    through = rows(finished)
    values = [total(row) / 1e6 if field == "megabytes" else row[field] for row in through]
    bound = max(values[:2])
    last = next(r for r, value in enumerate(values) if value >= bound)
    bounded = {f"stop.{field}": bound}
    summary = scarlet_jax.run(tiny(**bounded), tmp_path / "run")
    assert rows(tmp_path / "run") == through[: last + 1]
    assert checkpoint.steps(tmp_path / "run")[-1] == last + 1 and last < 3
    if last == 1:
        assert_same_bits(saved(tmp_path / "run"), saved(finished, 2))
    assert summary["complete"] and summary["rounds"] == last + 1
    assert f"reached config.stop.{field} = {bound:g}" in summary["stopped"]
    assert f"ended because {summary['stopped']}; a higher bound, or none, continues the run" in capsys.readouterr().out
    assert report.load(tmp_path / "run").complete

    with monkeypatch.context() as patch:
        patch.setattr(federation_data, "load", lambda _: pytest.fail("data were loaded"))
        for rounds in (4, 9):
            again = scarlet_jax.run(tiny(**bounded, rounds=rounds), tmp_path / "run")
            assert again == summary and "this run is finished" in capsys.readouterr().out
        assert report.load(tmp_path / "run").complete, "also where its config asks for more rounds"
    scarlet_jax.run(tiny(), tmp_path / "run")
    assert_same_run(tmp_path / "run", finished)


def test_a_kill_before_the_summary_and_a_bound_that_is_reached_already_train_no_round(tmp_path, finished):
    bounded = {"stop.megabytes": total(rows(finished)[0]) / 1e6}
    summary = scarlet_jax.run(tiny(**bounded), tmp_path)
    (tmp_path / "summary.json").unlink()
    assert scarlet_jax.run(tiny(**bounded), tmp_path) == summary == summary_of(tmp_path)
    lower = scarlet_jax.run(tiny(**{"stop.megabytes": bounded["stop.megabytes"] / 2}), tmp_path)
    assert lower["stopped"] != summary["stopped"] and lower == summary_of(tmp_path)
    assert rows(tmp_path) == rows(finished)[:1]


def test_the_round_in_which_the_bytes_are_spent_is_evaluated(tmp_path, finished):
    scarlet_jax.run(tiny(**{"stop.megabytes": total(rows(finished)[0]) / 1e6}, eval_every=3), tmp_path)
    assert rows(tmp_path) == rows(finished)[:1]


def test_with_a_bound_a_row_is_there_before_the_next_round_starts(tmp_path, monkeypatch):
    make, seen = build.make_algorithm, []

    def watching(*args):
        algorithm = make(*args)

        def round_(*args, **kwargs):
            path = tmp_path / "metrics.jsonl"
            seen.append(len(path.read_text().splitlines()) if path.exists() else 0)
            return algorithm.round(*args, **kwargs)

        return with_round(algorithm, round_)

    monkeypatch.setattr(build, "make_algorithm", watching)
    assert scarlet_jax.run(tiny(**{"stop.server_top1": 1.0}), tmp_path)["stopped"] is None
    assert seen == [0, 1, 2, 3]


def test_a_bound_is_compared_with_the_latest_scores_and_all_bytes():
    def reached(summary=None, **bounds):
        made = metrics.no_summary() | {"server_top1": float(np.float32(0.9)), "client_top1": None} | (summary or {})
        return stopping.reached(tiny(**{f"stop.{name}": bound for name, bound in bounds.items()}).stop, made)

    assert reached() is None and reached(client_top1=0.1) is None
    assert reached(server_top1=0.9) == "server top-1 0.9000 has reached config.stop.server_top1 = 0.9"
    assert reached(server_top1=0.9001) is None
    sent = {"uplink_bytes": {"reference": 400_000, "wire": 9e9}, "downlink_bytes": {"reference": 600_000, "wire": 9e9}}
    assert reached(sent, megabytes=1.000001) is None
    both = reached(sent, megabytes=1.0, server_top1=0.5)
    assert both.endswith(" and 1 MB (reference ledger) have reached config.stop.megabytes = 1")
    nothing = {"uplink_bytes": {"reference": None}, "downlink_bytes": {"reference": None}}
    assert reached(nothing, megabytes=1.0) is None
