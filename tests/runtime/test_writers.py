"""Rows in the files of a workdir, read back with Python's own modules."""

import csv
import json
import types

import pytest

from scarlet_jax.errors import UserError
from scarlet_jax.runtime import writers
from tests.support.harness import scalars

OFF = types.SimpleNamespace(mode="off")


def row(round_, **fields):
    return {"round": round_, "participants": 2, "server_top1": 0.25 * round_, "client_loss": 1.5} | fields


def clients(round_):
    scores = {"top1": 0.5, "top5": None, "loss": 0.1, "samples": 4}
    return [{"round": round_, "client": k} | scores for k in (0, 3)]


@pytest.fixture
def workdir(tmp_path):
    for name in ("checkpoints", "runs"):
        (tmp_path / name).mkdir()
    for name in (".lock", "config.json", "environment.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def write(workdir, rounds, start=0, **fields):
    writer = writers.Writer(workdir, start, OFF, "id")
    for r in range(start, rounds):
        writer.write(row(r, **fields), clients(r))
    writer.close()


def read(workdir):
    """Rows of metrics.jsonl, metrics.csv and clients.csv."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    tables = [
        list(csv.DictReader((workdir / name).read_text().splitlines())) for name in ("metrics.csv", "clients.csv")
    ]
    return lines, *tables


def test_a_row_is_in_all_files(workdir):
    write(workdir, 2)
    lines, table, each = read(workdir)
    assert lines == [row(0), row(1)]
    assert table == [{name: str(value) for name, value in row(r).items()} for r in range(2)]
    assert [(c["round"], c["client"], c["top5"]) for c in each] == [("0", "0", ""), ("0", "3", ""), ("1", "0", ""),
                                                                    ("1", "3", "")]  # fmt: skip
    board = scalars(workdir)
    assert board["server_top1"] == {0: 0.0, 1: 0.25} and "round" not in board


def test_a_later_start_cuts_what_it_computes_again(workdir):
    write(workdir, 4)
    write(workdir, 3, start=1, server_top1=0.75)
    lines, table, each = read(workdir)
    assert [(line["round"], line["server_top1"]) for line in lines] == [(0, 0.0), (1, 0.75), (2, 0.75)]
    assert [r["round"] for r in table] == ["0", "1", "2"] and [c["round"] for c in each] == [*"001122"]
    assert scalars(workdir)["server_top1"] == {0: 0.0, 1: 0.75, 2: 0.75}


def test_a_field_that_comes_later_is_a_column_of_all_rows(workdir):
    write(workdir, 1)
    write(workdir, 2, start=1, new=7)
    _, table, _ = read(workdir)
    assert [r["new"] for r in table] == ["", "7"] and list(table[0]) == [*row(0), "new"]


def test_a_round_without_evaluation_adds_no_clients(workdir):
    writer = writers.Writer(workdir, 0, OFF, "id")
    writer.write(row(0), [])
    writer.close()
    assert not (workdir / "clients.csv").exists()


@pytest.mark.parametrize("spoilt", ["metrics.jsonl", "metrics.csv", "clients.csv", "checkpoints", "config.json"])
def test_a_row_is_refused_where_something_was_taken_away(workdir, spoilt):
    writer = writers.Writer(workdir, 0, OFF, "id")
    writer.write(row(0), clients(0))
    path = workdir / spoilt
    path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(UserError, match=rf"was deleted, moved or changed while the run wrote to it .*{spoilt}"):
        writer.write(row(1), clients(1))
    writer.close()


def test_a_row_that_somebody_else_added_is_noticed(workdir):
    writer = writers.Writer(workdir, 0, OFF, "id")
    writer.write(row(0), [])
    with open(workdir / "metrics.jsonl", "a") as file:
        file.write("{}\n")
    with pytest.raises(UserError, match=r"\(metrics\.jsonl\)"):
        writer.write(row(1), [])
    writer.close()


def test_clients_keep_the_column_of_prototypes_where_the_header_is_damaged(workdir):
    own = [row | {"prototype_top1": 0.75} for row in clients(0)]
    for start in (0, 1):
        writer = writers.Writer(workdir, start, OFF, "id", prototypes=True)
        writer.write(row(start), [each | {"round": start} for each in own])
        writer.close()
        path = workdir / "clients.csv"
        path.write_text(path.read_text().replace("round,", "rund,", 1))
    writers.mend(workdir, 2, prototypes=True)
    assert [each["prototype_top1"] for each in read(workdir)[2]] == ["0.75"] * 4


def test_wandb_that_is_not_installed_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    writers.check_wandb(OFF)
    with pytest.raises(UserError, match=r"^config\.wandb\.mode is 'online', but wandb is not installed"):
        writers.check_wandb(types.SimpleNamespace(mode="online"))
