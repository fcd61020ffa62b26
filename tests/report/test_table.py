"""The numbers of a table, against tables computed by hand."""

import csv
import io

import numpy as np
import pytest

from scarlet_jax import report
from scarlet_jax.report import table, text
from tests.support.report_runs import tabulated, write_run


def test_table_by_hand(many):
    rows = tabulated(many, targets=(0.3, 0.5), baseline="dsfl")
    assert list(rows) == ["SCARLET", "DS-FL", "DS-FL + cache", "Individual", "Centralized"]
    scarlet, dsfl, cached, individual, centralized = rows.values()
    assert scarlet.seeds == (0, 1) and scarlet.names == ("b", "a")
    assert scarlet.measured["top1"].scores["server", "final"] == pytest.approx((0.5, 0.2 / np.sqrt(2)))
    assert scarlet.measured["top1"].scores["client", "final"] == pytest.approx((0.7, 0))
    top1 = scarlet.measured["top1"]
    assert top1.client_std == pytest.approx((0.1, 0)) and top1.client_worst == pytest.approx((0.6, 0))
    assert scarlet.total == (1200, 0) and scarlet.uplink == (300, 0) and scarlet.ratio == 0.5
    # Both reach 0.3 in round 1, only one reaches 0.5.
    assert scarlet.reached["server", 0.3] == table.Reached(table.Stat(800, 0.0), 2, 2, 0.5)
    assert scarlet.reached["server", 0.5] == table.Reached(None, 1, 2, None)
    assert dsfl.total == (2400, None) and dsfl.ratio == 1
    assert dsfl.reached["server", 0.3] == table.Reached(table.Stat(1600, None), 1, 1, 1.0)
    assert dsfl.reached["server", 0.5] == table.Reached(None, 0, 1, None)
    assert dsfl.reached["client", 0.5].bytes == (800, None)
    assert cached.reached["client", 0.5] == table.Reached(table.Stat(400, None), 1, 1, 0.5)
    assert not cached.complete and cached.planned == 3 and cached.rounds == (2,) and cached.total == (800, None)
    assert cached.ratio is None  # of 2 rounds to 3
    assert individual.measured["top1"].scores["server", "final"] is None and individual.total == (0, None)
    assert individual.reached["server", 0.3] == table.Reached(None, 0, 0)
    assert individual.reached["client", 0.5] == table.Reached(table.Stat(0, None), 1, 1, 0)
    assert centralized.total is None and centralized.ratio is None
    assert centralized.reached["server", 0.3] == table.Reached(None, 1, 1, None)
    assert centralized.measured["top1"].scores["client", "best"] is None


def test_ledger_best_and_rounds(tmp_path):
    paths = [
        write_run(tmp_path / "a", server=(0.2, 0.6, None, 0.4)),
        write_run(tmp_path / "b", "dsfl", server=(0.2, 0.3)),
    ]
    rows = tabulated(paths, ledger="wire", baseline="b", targets=(0.2,))
    assert [label for label in rows] == ["SCARLET, rounds=4", "DS-FL, rounds=2"]
    one = rows["SCARLET, rounds=4"]
    scores = one.measured["top1"].scores
    assert scores["server", "best"].mean == 0.6 and scores["server", "final"].mean == 0.4
    assert one.total == (800, None)
    assert one.ratio is None  # of 4 rounds to 2
    assert one.reached["server", 0.2].ratio == 1


def test_the_mean_of_the_last_five_evaluations(tmp_path):
    paths = [
        write_run(tmp_path / "a", server=(0.9, None, 0.1, 0.2, None, 0.3, 0.4, 0.5)),
        write_run(tmp_path / "b", "dsfl", server=(0.2, 0.4)),
        write_run(tmp_path / "c", "individual", server=(None, None)),
    ]
    rows = [*tabulated(paths).values()]
    last_five = [row.measured["top1"].scores["server", "last5"] for row in rows]
    assert [stat and stat.mean for stat in last_five] == [pytest.approx(0.3), pytest.approx(0.3), None]
    assert rows[0].measured["top1"].scores["client", "last5"].mean == pytest.approx(0.5 + 0.1 * (3 + 4 + 5 + 6 + 7) / 5)
    table = text.csv_text(rows, report.Options())
    assert float(next(csv.DictReader(io.StringIO(table)))["server_top1_last5_mean"]) == pytest.approx(0.3)
    assert "| server, final | server, last 5 | server, best |" in text.markdown(rows, report.Options(), ())
