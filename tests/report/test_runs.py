"""Runs as a report reads them."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

from scarlet_jax import report
from scarlet_jax.engine.evaluation import Evaluation
from scarlet_jax.engine.scores import Scores
from scarlet_jax.errors import UserError
from scarlet_jax.metric_tables import client_columns, scored
from scarlet_jax.protocol import ledger as comm
from scarlet_jax.report import groups, text
from scarlet_jax.runtime import metrics, workdir
from tests.support.report_runs import write_run


def test_names_repeated_here_are_the_programs_own():
    when_it_ends = {field for field in workdir.FREE_FIELDS if field == "rounds" or field.startswith("stop.")}
    assert set(groups.EXECUTION_FIELDS) == set(workdir.FREE_FIELDS) - when_it_ends


def test_a_run_that_ended_at_a_bound_is_complete(tmp_path):
    path = write_run(tmp_path / "run", server=(0.2, 0.3), rounds=9)
    assert not report.load(path).complete
    for summary, complete in (({"complete": True}, False), ({"complete": True, "stopped": "enough"}, True)):
        (path / "summary.json").write_text(json.dumps(summary | {"rounds": 2}))
        assert report.load(path).complete == complete
    found = text.notes(report.group_runs([report.load(path)]), [], report.Options())
    assert "Ended at a bound of config.stop: SCARLET." in found


def test_load_reads_what_the_program_writes(tmp_path):
    path = write_run(tmp_path / "run")
    scores = Scores(dict.fromkeys(scored("client"), np.array([3.0, 6.0])), np.array([10.0, 10.0]))
    server = Scores(dict.fromkeys(scored("server"), np.float32(5)), np.float32(10))
    evaluation = Evaluation(
        **dict.fromkeys(Evaluation._fields) | {"server": server, "clients": scores, "ids": np.array([0, 1])}
    )
    counts = SimpleNamespace(requested=4, hit=2, stale=1, caught_up=np.array([3, 0]))
    each = dict.fromkeys(("fit_loss", "fit_accuracy", "kd_loss"), np.ones(2))
    rest = {"server_kd_loss": 1.0, "metrics": {"target_entropy": 1.0, "disagreement": 1.0}}
    round_report = SimpleNamespace(participants=np.array([0, 1]), counts=counts, **each, **rest)
    billed = {ledger: comm.Bytes(uplink=7 * 10**9, downlink=11) for ledger in comm.LEDGERS}
    row, totals = metrics.make_row(0, round_report, evaluation, billed, metrics.no_totals(), 1.5, {})
    second, _ = metrics.make_row(1, round_report, None, billed, totals, 1.5, {})
    (path / "metrics.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(second) + "\n" + '{"round": 2, "ser')
    rows = metrics.client_rows(0, evaluation)
    with open(path / "clients.csv", "w") as file:
        writer = csv.DictWriter(file, client_columns())
        writer.writeheader()
        writer.writerows(rows)

    run = report.load(path)
    assert run.round.tolist() == [0, 1] and not run.complete
    np.testing.assert_allclose(run.server_top1, [0.5, np.nan])
    np.testing.assert_allclose(run.client_top1, [0.45, np.nan])
    assert run.evaluated.tolist() == [0]
    np.testing.assert_allclose(run.per_client["top1"], [[0.3, 0.6]])
    np.testing.assert_allclose(run.spread(), [0.15])
    for name in ("requested", "hit", "stale", "caught_up", "participants", "seconds"):
        assert np.isfinite(getattr(run, name)).all(), name
    for ledger in comm.LEDGERS:
        assert run.total(ledger).tolist() == [7 * 10**9 + 11, 2 * (7 * 10**9 + 11)]
        for volume in (run.uplink, run.downlink, run.total_uplink, run.total_downlink):
            assert np.isfinite(volume[ledger]).all()


def test_clients_without_a_score_and_absent_ones_are_nan(tmp_path):
    path = write_run(tmp_path / "run", clients=(0.4, 0.6, 0.8))
    (path / "clients.csv").write_text(
        "round,client,top1,top5,loss,samples\n0,0,,,,0\n0,2,0.5,1.0,0.1,4\n2,1,0.25,1.0,0.1,4\n7,1,0.5,1.0,0.1,4\n2,0,0.7"
    )
    run = report.load(path)
    assert run.evaluated.tolist() == [0, 2]
    np.testing.assert_array_equal(run.per_client["top1"], [[np.nan, np.nan, 0.5], [np.nan, 0.25, np.nan]])
    np.testing.assert_array_equal(run.per_client["samples"], [[0, np.nan, 4], [np.nan, 4, np.nan]])
    np.testing.assert_allclose(run.spread(), [0, 0])


def test_hours_by_hand(tmp_path):
    run = report.load(write_run(tmp_path / "run", up=9_000_000, down=45_000_000))
    # 4.5 MB up per participant at 10 Mbit/s: 3.6 s; 22.5 MB down at 50 Mbit/s: 3.6 s.
    np.testing.assert_allclose(run.hours("reference", 10, 50), np.array([7.2, 14.4, 21.6]) / 3600)
    np.testing.assert_allclose(run.hours("wire", 10, 50), np.array([3.6, 7.2, 10.8]) / 3600)


def test_rows_that_are_damaged_in_one_file_are_read_from_the_other(tmp_path):
    run = write_run(tmp_path / "run")
    whole = report.load(run)
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    rows = [json.loads(line) for line in lines]
    table = [",".join(rows[0])] + [",".join("" if v is None else str(v) for v in row.values()) for row in rows]
    (run / "metrics.csv").write_text("".join(f"{line}\n" for line in table))
    (run / "metrics.jsonl").write_text("".join([lines[0], "garbage\n", lines[2]]))
    read = report.load(run)
    assert read.metrics.keys() == whole.metrics.keys()
    for name, values in whole.metrics.items():
        np.testing.assert_array_equal(read.metrics[name], values)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda run: (run / "config.json").unlink(), "is not a run: it has no config.json."),
        (lambda run: (run / "metrics.jsonl").write_text(""), "has no rounds yet"),
        (lambda run: (run / "metrics.jsonl").write_text('{"round": 0\n{"round": 1}\n'), "damaged in line 1"),
        (lambda run: (run / "metrics.jsonl").write_text('{"round": 1}\n{"round": 1}\n'), "damaged in line 2"),
        (lambda run: (run / "config.json").write_text("{"), "cannot be read"),
        (lambda run: (run / "config.json").write_text('{"seed": 0}'), "not a run of this program"),
        (lambda run: (run / "clients.csv").write_text("round,client\n1,2,3\n"), "clients.csv is damaged"),
    ],
)
def test_damaged_runs(tmp_path, change, sentence):
    run = write_run(tmp_path / "run")
    change(run)
    with pytest.raises(UserError, match=sentence):
        report.load(run)
