"""Tables and notes as text."""

import csv
import io

import pytest

from scarlet_jax import report
from scarlet_jax.report import text
from tests.support.report_runs import tabulated, write_run


def test_markdown_and_notes(made):
    text = (made[0] / "table.md").read_text()
    assert "| SCARLET | 0.300 ± 0 | 0.900 ± 0 | 1.200 ± 0 | 0.500 |" in text
    assert "| SCARLET | 0.800 ± 0 | 0.500 | 1 of 2 seeds | – |" in text
    assert "| SCARLET | 2 | 3 | 0.5000 ± 0.1414 |" in text
    assert "| DS-FL + cache (unfinished) | 1 | 2 of 3 |" in text
    for note in (
        "Unfinished: DS-FL + cache (2 of 3 rounds).", "No server model, so no server accuracy: Individual.",
        "No bytes: Individual, Centralized;", "10 Mbit/s up and 50 Mbit/s down",
    ):  # fmt: skip
        assert note in text
    for line in text.splitlines():
        assert not line.startswith("|") or line.endswith("|")


def test_csv(made):
    rows = list(csv.DictReader(io.StringIO((made[0] / "table.csv").read_text())))
    scarlet, individual = rows[0], rows[3]
    assert scarlet["label"] == "SCARLET" and scarlet["seeds"] == "0 1" and scarlet["complete"] == "true"
    assert float(scarlet["total_bytes_mean"]) == 1200 and float(scarlet["total_bytes_ratio"]) == 0.5
    assert float(scarlet["bytes_to_server_0.3_mean"]) == 800 and float(scarlet["bytes_to_server_0.3_ratio"]) == 0.5
    assert scarlet["bytes_to_server_0.5_mean"] == "" and scarlet["runs_at_server_0.5"] == "1"
    assert individual["server_top1_final_mean"] == "" and individual["baseline"] == "dsfl"


def test_a_varied_field_is_not_repeated_with_its_labels(tmp_path):
    rows = tabulated([write_run(tmp_path / str(i), lr=0.1 * i) for i in range(1, 8)]).values()
    [training] = [line for line in text.markdown([*rows], report.Options(), ()).splitlines() if "| local" in line]
    assert training.count("epochs") == 7 and "SCARLET" not in training


@pytest.mark.parametrize("name", ["=1+2", "+a", "-a", "@a", "$x^{$"])
def test_names_are_text_in_tables_and_pictures(tmp_path, name):
    """Of a run, and in a label: never a formula of a spreadsheet, and never mathematics in a picture."""
    paths = [write_run(tmp_path / name, data__private=name), write_run(tmp_path / "b", data__private="b")]
    report.write_report(paths, tmp_path / "out", report.Options(baseline=name))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "table.csv").read_text())))
    shown = name if name.startswith("$") else f"'{name}"
    assert [rows[0][column] for column in ("runs", "private", "baseline")] == [shown] * 3
    assert float(rows[0]["total_bytes_ratio"]) == 1 and rows[0]["seeds"] == "0"
    assert f"data.private={name}" in (tmp_path / "out" / "report.html").read_text()
