"""The directory of a report."""

import hashlib
import json

import pytest

from scarlet_jax import report
from scarlet_jax.errors import UserError
from scarlet_jax.report import write
from tests.support.report_runs import FIGURES


def earlier(place, **files):
    """What an earlier report would have left there: files, and the list of them with their SHA-256."""
    place.mkdir()
    for name, content in files.items():
        (place / name).write_text(content)
    hashes = {name: hashlib.sha256(content.encode()).hexdigest() for name, content in files.items()}
    (place / write.MARKER).write_text(json.dumps({"files": hashes}))


def test_files_of_a_report(made):
    out, _ = made
    names = [*FIGURES, "accuracy_hours"]
    assert {path.name for path in out.iterdir()} == {
        *(f"{name}.{kind}" for name in names for kind in ("svg", "png")),
        "table.md", "table.csv", "report.html", write.MARKER,
    }  # fmt: skip
    for name in names:
        png = (out / f"{name}.png").read_bytes()
        assert png.startswith(b"\x89PNG") and len(png) > 20_000
        assert int.from_bytes(png[16:20], "big") >= 4.2 * 200  # pixels of width
        assert (out / f"{name}.svg").read_text().count("<path") > 20


def test_same_input_same_bytes_and_a_report_is_replaced(many, made, tmp_path):
    out, options = made
    again = tmp_path / "again"
    earlier(again, **{"of_an_earlier_report.png": ""})
    report.write_report(many, again, options)
    assert len([*again.iterdir()]) == len([*out.iterdir()])
    for path in out.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_nothing_else_is_overwritten(many, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="not a report made by this program"):
        report.write_report(many[:1], foreign)
    with pytest.raises(UserError, match="is a file"):
        report.write_report(many[:1], foreign / "thesis.tex")
    with pytest.raises(UserError, match="not a report"):
        report.write_report(many[:1], many[0])

    ours = tmp_path / "ours"
    ours.mkdir()
    assert write.check_place(ours) == ours.resolve()  # an empty one is nobody's
    ours.rmdir()
    earlier(ours, **{"table.md": "a"})
    assert write.check_place(ours) == ours.resolve()
    (ours / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds notes.txt, which is not of it"):
        report.write_report(many[:1], ours)
    (ours / "notes.txt").unlink()
    (ours / "table.md").write_text("edited")
    with pytest.raises(UserError, match="holds table.md, changed since"):
        report.write_report(many[:1], ours)
    assert (ours / "table.md").read_text() == "edited"


def test_exchange_without_the_systems_help(many, tmp_path, monkeypatch):
    monkeypatch.setattr(write.ctypes, "CDLL", lambda *args, **kwargs: object())
    place = tmp_path / "report"
    earlier(place, **{"table.md": "a", "old.svg": "b"})
    report.write_report([many[4]], place)
    assert (place / "table.md").read_text().count("Individual") and not (place / "old.svg").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


def test_runs_without_anything_to_send(many, tmp_path):
    report.write_report([many[4]], tmp_path / "out", report.Options((0.5,), uplink_mbps=1, downlink_mbps=1))
    names = {path.stem for path in (tmp_path / "out").glob("*.png")}
    assert names == {"overview", "accuracy_rounds", "client_spread"}
