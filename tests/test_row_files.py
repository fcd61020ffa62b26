"""Damaged rows: what one of two files still has comes back, and nothing that is lost is lost in silence."""

import json
import logging

import pytest

from scarlet_jax import row_files
from scarlet_jax.runtime import writers

ROUNDS = 4
FILES = ("metrics.jsonl", "metrics.csv", "clients.csv")


def row(round_):
    scores = {"server_loss": None if round_ == 1 else 1 / (round_ + 3), "client_loss": None if round_ == 1 else 1e-7}
    return {"round": round_, "participants": 3} | scores | {"bytes": 2**70 + round_, "seconds": 0.25 * round_}


@pytest.fixture
def whole(tmp_path):
    """A workdir with the records of four rounds, the second of them without evaluation."""
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row(r)) + "\n" for r in range(ROUNDS)))
    table = [",".join(row(0))] + [",".join("" if v is None else str(v) for v in row(r).values()) for r in range(ROUNDS)]
    (tmp_path / "metrics.csv").write_text("".join(f"{line}\n" for line in table))
    clients = [f"{r},{k},{0.1 * k},{0.2 * k},{'' if k == 2 else 1.5},{k}" for r in (0, 2, 3) for k in range(3)]
    (tmp_path / "clients.csv").write_text("".join(f"{x}\n" for x in ["round,client,top1,top5,loss,samples", *clients]))
    return tmp_path


def held(workdir):
    return {p.name: p.read_bytes() for p in workdir.iterdir()}


WAYS = (
    "text", "bytes", "json", "a part of the row", "a number", "empty", "cut", "joined", "gone", "inserted", "nested",
)  # fmt: skip


def spoil(path, number, how):
    """Damage a line of a file."""
    lines = path.read_bytes().splitlines(keepends=True)
    line = lines[number]
    lines[number] = {
        "text": b"garbage, with commas\n",
        "bytes": b"\xff\x00\xfe{\n",
        "json": b'{"round": "0"}\n',
        "a part of the row": b'{"round": %d}\n' % number,
        "a number": b"5\n",
        "empty": b"\n",
        "cut": line[: len(line) // 2] + b"\n",
        "joined": line[:-1],
        "gone": b"",
        "inserted": b"garbage\n" + line,
        "nested": b"[" * 100_000 + b"\n",
    }[how]
    path.write_bytes(b"".join(lines))


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("name", ["metrics.jsonl", "metrics.csv"])
def test_a_damaged_line_costs_nothing_wherever_it_is(whole, name, how):
    before = held(whole)
    for number in range(ROUNDS + (name == "metrics.csv")):
        spoil(whole / name, number, how)
        writers.mend(whole, ROUNDS)
        assert held(whole) == before, number


@pytest.mark.parametrize("name", ["metrics.jsonl", "metrics.csv"])
@pytest.mark.parametrize("content", [None, b"", b"\x00" * 700, b"garbage\n" * 5])
def test_a_whole_file_comes_back(whole, name, content, caplog):
    before = held(whole)
    (whole / name).unlink() if content is None else (whole / name).write_bytes(content)
    writers.mend(whole, ROUNDS)
    assert held(whole) == before
    other = "metrics.csv" if name == "metrics.jsonl" else "metrics.jsonl"
    assert f"{whole / name} had lost rounds 0, 1, 2, 3: restored from {other}" in caplog.text


def test_each_restores_the_other(whole, caplog):
    before = held(whole)
    spoil(whole / "metrics.jsonl", 0, "text")
    spoil(whole / "metrics.csv", 3, "cut")
    writers.mend(whole, ROUNDS)
    assert held(whole) == before
    assert "metrics.jsonl had lost round 0: restored from metrics.csv" in caplog.text
    assert "metrics.csv had lost round 2: restored from metrics.jsonl" in caplog.text


def test_what_neither_has_is_kept_beside_and_said(whole, caplog):
    spoil(whole / "metrics.jsonl", 1, "text")
    spoil(whole / "metrics.csv", 2, "cut")
    before = held(whole)
    writers.mend(whole, ROUNDS)
    assert (whole / "metrics.jsonl.damaged-1").read_bytes() == before["metrics.jsonl"]
    assert (whole / "metrics.csv.damaged-1").read_bytes() == before["metrics.csv"]
    assert [r["round"] for r in row_files.read_metrics(whole).rows] == [0, 2, 3]
    assert "lack round 1, which cannot be restored; the damaged files are kept as" in caplog.text
    after = held(whole)
    writers.mend(whole, ROUNDS)  # it is said again, and nothing more is kept
    assert held(whole) == after and caplog.text.count("cannot be restored") == 2


@pytest.mark.parametrize("how", [way for way in WAYS if way not in ("gone", "inserted")])
def test_lost_clients_are_kept_beside_and_said(whole, how, caplog):
    before = held(whole)
    spoil(whole / "clients.csv", 5, how)
    spoilt = held(whole)
    writers.mend(whole, ROUNDS)
    lost = [5, 6] if how == "joined" else [5]
    lines = before["clients.csv"].splitlines(keepends=True)
    assert (whole / "clients.csv").read_bytes() == b"".join(x for i, x in enumerate(lines) if i not in lost)
    assert (whole / "clients.csv.damaged-1").read_bytes() == spoilt["clients.csv"]
    assert "clients.csv lacks clients of round 2, which cannot be restored; the damaged file is kept as" in caplog.text


def test_clients_whose_lines_are_gone_are_missed(whole, caplog):
    spoil(whole / "clients.csv", 5, "gone")
    before = held(whole)
    writers.mend(whole, ROUNDS)
    assert held(whole) == before
    assert "clients.csv lacks clients of round 2, which cannot be restored\n" in caplog.text


@pytest.mark.parametrize("number", [0, 3, 9])
def test_garbage_between_the_clients_costs_nothing(whole, number, caplog):
    before = held(whole)
    spoil(whole / "clients.csv", number, "inserted")
    writers.mend(whole, ROUNDS)
    assert held(whole) == before and f"line {number + 1} is no row and is left out; nothing is missing" in caplog.text


def test_a_damaged_header_comes_back(whole):
    before = held(whole)
    for how in WAYS:
        spoil(whole / "clients.csv", 0, how)
        if how != "joined":  # that takes a client's line with it
            writers.mend(whole, ROUNDS)
            assert (whole / "clients.csv").read_bytes() == before["clients.csv"], how
        (whole / "clients.csv").write_bytes(before["clients.csv"])


def test_a_kill_in_the_middle_of_a_line_is_no_damage(whole, caplog):
    """Rounds 2 and 3 are computed again."""
    for name in FILES:
        text = (whole / name).read_bytes()
        (whole / name).write_bytes(text[:-5])
    with caplog.at_level(logging.WARNING):
        writers.mend(whole, 2)
    assert not caplog.records and sorted(held(whole)) == sorted(FILES)
    assert [r["round"] for r in row_files.read_metrics(whole).rows] == [0, 1]
    assert set(row_files.read_clients(whole).rows) == {0}


def test_rows_that_are_whole_are_not_written_again(whole):
    before = {p: p.stat().st_mtime_ns for p in whole.iterdir()}
    writers.mend(whole, ROUNDS)
    assert before == {p: p.stat().st_mtime_ns for p in whole.iterdir()}


def test_rows_of_two_versions_of_the_program_share_a_table(whole):
    lines = (whole / "metrics.jsonl").read_text().splitlines()
    newer = json.dumps(row(3) | {"entropy": 0.5})
    (whole / "metrics.jsonl").write_text("".join(f"{line}\n" for line in [*lines[:3], newer]))
    writers.mend(whole, ROUNDS)
    table = (whole / "metrics.csv").read_text().splitlines()
    assert table[0].endswith(",seconds,entropy") and table[1].endswith(",0.0,") and table[4].endswith(",0.75,0.5")
    assert (whole / "metrics.jsonl").read_text().splitlines() == [*lines[:3], newer]
