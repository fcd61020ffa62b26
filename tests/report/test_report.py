"""Reports from small run directories written here, against tables computed by hand."""

import csv
import io
import json
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from configs import base
from scarlet_jax import report
from scarlet_jax.commands import report as command
from scarlet_jax.engine.evaluation import Evaluation
from scarlet_jax.engine.scores import Scores
from scarlet_jax.errors import UserError
from scarlet_jax.metric_tables import client_columns, scored
from scarlet_jax.protocol import ledger as comm
from scarlet_jax.report import groups, runs, table, write
from scarlet_jax.runtime import metrics, workdir

FIGURES = ("overview", "accuracy_rounds", "accuracy_bytes", "bytes_rounds", "cache_hits", "client_spread")


def write_run(path, method="scarlet", *, seed=0, server=(0.2, 0.3, 0.4), up=100, down=300, clients=(0.4, 0.6),
              rounds=None, **fields):  # fmt: skip
    """A run of len(server) rounds that sends `up` and `down` bytes in each; its clients are 0.1 k better in round k.

    None in `server` is a round without evaluation of the server; `up` = None bills nothing. The wire ledger has half.
    """
    path.mkdir(parents=True)
    config = json.loads(base.get_config().to_json())
    config |= {"seed": seed, "rounds": rounds or len(server), "num_clients": len(clients) or 2}
    config["method"] = {"name": method}
    for name, value in fields.items():
        group, _, field = name.rpartition("__")
        (config[group] if group else config)[field] = value
    (path / "config.json").write_text(json.dumps(config))
    (path / "summary.json").write_text(json.dumps({"complete": rounds is None, "rounds": len(server)}))
    cached = (config["cache"]["duration"] or 0) > 0 or method == "scarlet"
    lines, rows = [], [",".join(client_columns())]
    for r, top1 in enumerate(server):
        own = [c + 0.1 * r for c in clients]
        row = {"round": r, "participants": 2, "server_top1": top1, "client_top1": float(np.mean(own)) if own else None}
        row |= {"requested": 10 - 5 * cached * (r > 0), "hit": 5 * cached * (r > 0), "seconds": 1.0}
        for ledger, share in (("reference", 1), ("wire", 2)):
            for direction, value in (("uplink", up), ("downlink", down)):
                one = None if value is None else value // share
                row[f"{direction}_bytes_{ledger}"] = one
                row[f"total_{direction}_bytes_{ledger}"] = None if one is None else one * (r + 1)
        lines.append(json.dumps(row))
        rows += [f"{r},{k},{v},,0.5,{30 + k}" for k, v in enumerate(own)]
    (path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    if clients:
        (path / "clients.csv").write_text("\n".join(rows) + "\n")
    return path


def tabulated(paths, **options):
    made = report.group_runs([report.load(path) for path in paths])
    return {entry.label: entry for entry in report.tabulate(made, report.Options(**options))}


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Two seeds of SCARLET, one unfinished run, one without a server, one without bytes."""
    folder = tmp_path_factory.mktemp("runs")
    return [
        write_run(folder / "a", seed=1),
        write_run(folder / "b", seed=0, server=(0.2, 0.5, 0.6)),
        write_run(folder / "c", "dsfl", up=200, down=600),
        write_run(folder / "d", "dsfl", server=(0.2, 0.3), cache__duration=50, rounds=3),
        write_run(folder / "e", "individual", server=(None,) * 3, up=0, down=0),
        write_run(folder / "f", "centralized", up=None, down=None, clients=()),
    ]


@pytest.fixture(scope="module")
def made(many, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "deep" / "report"
    options = report.Options((0.3, 0.5), "dsfl", uplink_mbps=10, downlink_mbps=50)
    report.write_report(many, out, options)
    return out, options


def test_names_repeated_here_are_the_programs_own():
    assert set(groups.EXECUTION_FIELDS) == set(workdir.FREE_FIELDS) - {"rounds"}


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


def test_table_by_hand(many):
    rows = tabulated(many, targets=(0.3, 0.5), baseline="dsfl")
    assert list(rows) == ["SCARLET", "DS-FL", "DS-FL + cache", "Individual", "Centralized"]
    scarlet, dsfl, cached, individual, centralized = rows.values()
    assert scarlet.seeds == (0, 1) and scarlet.names == ("b", "a")
    assert scarlet.measured["top1"].scores["server", "final"] == pytest.approx((0.5, 0.2 / np.sqrt(2)))
    assert scarlet.measured["top1"].scores["client", "final"] == pytest.approx((0.7, 0))
    assert scarlet.measured["top1"].client_std == pytest.approx((0.1, 0)) and scarlet.measured[
        "top1"
    ].client_worst == pytest.approx((0.6, 0))
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
    assert (
        one.measured["top1"].scores["server", "best"].mean == 0.6
        and one.measured["top1"].scores["server", "final"].mean == 0.4
    )
    assert one.total == (800, None)
    assert one.ratio is None  # of 4 rounds to 2
    assert one.reached["server", 0.2].ratio == 1


def test_labels(tmp_path):
    def labels(*settings):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        loaded = [report.load(write_run(folder / str(i), **fields)) for i, fields in enumerate(settings)]
        return [group.label for group in report.group_runs(loaded)]

    assert labels({}, {"cache__duration": 0}, {"method": "cfd", "cache__duration": 5}) == [
        "SCARLET, D=50", "SCARLET without cache", "CFD + cache, D=5"
    ]  # fmt: skip
    assert labels({}, {"method__beta": 1.5}, {"method": "dsfl", "method__temperature": 0.1}) == [
        "SCARLET, beta=default", "SCARLET, beta=1.5", "DS-FL"
    ]  # fmt: skip
    assert labels({"lr": 0.1}, {"lr": 0.05, "seed": 3}, {"lr": 0.1, "seed": 1}) == [
        "SCARLET, lr=0.1",
        "SCARLET, lr=0.05",
    ]
    # An explicit default, another place for the data, another chunk size, the expiry of a cache that is not there.
    assert labels({}, {"seed": 1, "cache__duration": 50}, {"seed": 2, "data__dir": "x", "clients_per_chunk": 3}) == [
        "SCARLET"
    ]
    assert labels({"method": "dsfl"}, {"method": "dsfl", "seed": 1, "cache__on_expiry": "refresh"}) == ["DS-FL"]
    assert labels({"method": "a_new_one"}) == ["a_new_one"]


def test_a_method_from_outside_is_labelled_by_the_duration_that_its_run_recorded(tmp_path):
    """Its own D is known to the program that ran it alone; a report finds it in environment.json."""

    def load(name, duration, used):
        path = write_run(tmp_path / name, "a_new_one", cache__duration=duration)
        choices = {"conv": "xla", "cache": {"duration": used, "own": 20}}
        (path / "environment.json").write_text(json.dumps({"run": "x", "starts": [{"choices": choices}]}))
        return report.load(path)

    own, off = load("own", None, 20), load("off", 0, 0)
    assert (own.duration, own.own_duration, off.duration, off.own_duration) == (20, 20, 0, 20)
    made = report.group_runs([own, off])
    assert [group.label for group in made] == ["a_new_one", "a_new_one without cache"]
    assert groups.find_baseline(made, "a_new_one") is made[0] is groups.find_baseline(made, "a_new_one+cache")
    assert runs.planned(tmp_path / "p", own.config, {"duration": 20, "own": 20}).duration == 20
    (tmp_path / "own" / "environment.json").write_text("{torn")
    assert report.load(tmp_path / "own").duration == 0


def test_curves_are_over_the_rounds_all_seeds_have(tmp_path):
    paths = [
        write_run(tmp_path / "a", server=(0.2, 0.3, 0.4), rounds=4),
        write_run(tmp_path / "b", server=(0.4, None, 0.8, 0.9), rounds=4, seed=1),
    ]
    (group,) = report.group_runs([report.load(path) for path in paths])
    curve = group.curve(lambda run: run.server_top1)
    assert curve.rounds.tolist() == [1, 3]
    np.testing.assert_allclose(curve.mean, [0.3, 0.6])
    np.testing.assert_allclose(curve.std, [0.2 / np.sqrt(2), 0.4 / np.sqrt(2)])
    assert group.shown == "SCARLET (unfinished)"


def test_baseline_by_label_run_or_method(many):
    made = report.group_runs([report.load(path) for path in many])
    for wanted, label in (
        ("dsfl", "DS-FL"), ("ds-fl + CACHE", "DS-FL + cache"), ("d", "DS-FL + cache"), ("a", "SCARLET"),
        ("scarlet", "SCARLET"), ("dsfl+cache", "DS-FL + cache"), ("DSFL+Cache", "DS-FL + cache"),
        ("scarlet+cache", "SCARLET"),
    ):  # fmt: skip
        assert groups.find_baseline(made, wanted).label == label
    with pytest.raises(UserError, match="'fedavg' is not among the runs: .*'DS-FL \\+ cache'"):
        groups.find_baseline(made, "fedavg")


def test_ambiguous_baseline(tmp_path):
    paths = [write_run(tmp_path / "a", "dsfl", lr=0.1), write_run(tmp_path / "b", "dsfl", lr=0.2)]
    with pytest.raises(UserError, match="may be any of 'DS-FL, lr=0.1', 'DS-FL, lr=0.2'"):
        tabulated(paths, baseline="dsfl")


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


def test_page_needs_nothing_else(made):
    page = (made[0] / "report.html").read_text()
    assert "http" not in page and "<script" not in page and "<link" not in page and "url(" not in page
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == len(FIGURES) + 1 and all(s.startswith("data:image/svg+xml;base64,") for s in sources)
    assert "DS-FL + cache (unfinished)" in page and "<table>" in page


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


def test_same_input_same_bytes_and_a_report_is_replaced(many, made, tmp_path):
    out, options = made
    again = tmp_path / "again"
    write._put(again, {"of_an_earlier_report.png": b""})
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
    ours.mkdir()  # an empty one is nobody's
    write._put(ours, {"table.md": b"a"})
    write.check_place(ours)
    (ours / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds notes.txt, which is not of it"):
        report.write_report(many[:1], ours)
    (ours / "notes.txt").unlink()
    (ours / "table.md").write_text("edited")
    with pytest.raises(UserError, match="holds table.md, changed since"):
        report.write_report(many[:1], ours)
    assert (ours / "table.md").read_text() == "edited"


def test_exchange_without_the_systems_help(tmp_path, monkeypatch):
    monkeypatch.setattr(write.ctypes, "CDLL", lambda *args, **kwargs: object())
    place = tmp_path / "report"
    write._put(place, {"table.md": b"a"})
    write._put(place, {"table.md": b"b"})
    assert (place / "table.md").read_bytes() == b"b" and [p.name for p in tmp_path.iterdir()] == ["report"]


def test_runs_without_anything_to_send(many, tmp_path):
    report.write_report([many[4]], tmp_path / "out", report.Options((0.5,), uplink_mbps=1, downlink_mbps=1))
    names = {path.stem for path in (tmp_path / "out").glob("*.png")}
    assert names == {"overview", "accuracy_rounds", "client_spread"}


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


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["{a}", "{a}2"], "There is no run {a}2: no such directory."),
        (["{folder}"], "{folder} is not a run: it has no config.json; it holds runs, so give {folder}/*."),
        (["{a}", "{b}"], "{a} and {b} have the same config and the same seed: give one of them."),
        (["{a}", "--baseline=dsfl"], "The baseline 'dsfl' is not among the runs"),
        (["{a}", "--targets=0.3,x"], "--targets takes accuracies divided by commas, as in 0.3,0.4, not '0.3,x'."),
        (["{a}", "--targets=30"], "The target 30 is not an accuracy: it must be above 0 and at most 1."),
        (["{a}", "--ledger=paper"], "The ledger is 'paper'; it must be one of reference, wire."),
        (["{a}", "--uplink-mbps=3"], "Hours of transmission need both --uplink-mbps and --downlink-mbps."),
        (["{a}", "--uplink-mbps=3", "--downlink-mbps=0"], "--downlink-mbps is 0; a speed must be above 0."),
        (["{a}", "--tragets=0.3"], "Unrecognized arguments: --tragets=0.3; --help lists what there is."),
        ([], "The following arguments are required: RUN_DIR"),
    ],
)
def test_refusals_are_one_sentence(tmp_path, capsys, arguments, sentence):
    folder = tmp_path / "runs"
    names = {"folder": folder, "a": write_run(folder / "a"), "b": write_run(folder / "b")}
    out = tmp_path / "out"
    assert command.main([*(arg.format(**names) for arg in arguments), f"--out={out}"]) == 1
    error = capsys.readouterr().err
    assert error.startswith(sentence.format(**names)) and error.count("\n") == 1
    assert not out.exists()


def test_command_is_instant(many, tmp_path):
    """As a program: the table on the screen, and neither jax nor a run's files touched."""
    before = {path: path.stat().st_mtime_ns for path in many[5].iterdir()}
    code = (
        "import sys; from scarlet_jax.commands.report import main; code = main(sys.argv[1:]);"
        "print('jax' in sys.modules, 'matplotlib.pyplot' in sys.modules); sys.exit(code)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(many[5]), str(many[5]), f"--out={tmp_path / 'out'}", "--targets=0.4"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("False False\n") and "| Centralized | 1 | 3 | 0.4000 |" in result.stdout
    assert {path.stem for path in (tmp_path / "out").glob("*.png")} == {"overview", "accuracy_rounds"}
    assert {path: path.stat().st_mtime_ns for path in many[5].iterdir()} == before
