"""The evidence of docs/results: intervals, verdicts, records, and a page that is that of the committed records."""

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from scarlet_jax.methods import METHODS
from tools.evidence import claims, figures, intervals, leaderboard, page, records, runs, train

ROOT = Path(__file__).parents[2]
# Two-sided 95 % points of Student's t by degrees of freedom: for 1 and 2 in closed form, else from printed tables.
T = {1: math.tan(0.475 * math.pi), 2: 0.95 * math.sqrt(2 / (1 - 0.95**2)), 4: 2.776, 9: 2.262, 29: 2.045}


def record(variant, seed, server=0.9, client=0.9, reference=1e6, setting="digits", rounds=20):
    """A run of constant accuracy whose bytes grow evenly to `reference`; half of them on the wire."""
    grown = reference * np.arange(1, rounds + 1) / rounds
    columns = {"server_top1": np.full(rounds, server), "client_top1": np.full(rounds, client)}
    return records.Record(
        setting, variant, seed, "hash", "commit", "cpu", columns | {"reference": grown, "wire": grown / 2}
    )


def results(*found):
    return records.by_variant(list(found), "digits")


@pytest.mark.parametrize("degrees", T)
def test_an_interval_is_students(degrees):
    values = np.random.default_rng(degrees).normal(size=degrees + 1)
    found = intervals.interval(values)
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / degrees)
    half = T[degrees] * deviation / math.sqrt(len(values))
    assert found.n == degrees + 1
    np.testing.assert_allclose(found[:3], (mean, mean - half, mean + half), rtol=2e-4)


def test_differences_are_paired_by_seed():
    """Seeds differ by much more than the two methods do: unpaired, the interval would reach far beyond 0."""
    one = {0: 0.50, 1: 0.72, 2: 0.91, 7: 0.1}
    found = intervals.paired(one, {2: 0.90, 1: 0.70, 0: 0.47, 9: 0.99})
    assert found.n == 3
    half = T[2] * 0.01 / math.sqrt(3)
    np.testing.assert_allclose(found[:3], (0.02, 0.02 - half, 0.02 + half), atol=1e-9)
    np.testing.assert_allclose(intervals.ratio({0: 1.0, 1: 3.0}, {1: 4.0, 0: 2.0}).mean, 0.625)


def test_one_seed_has_no_interval():
    assert intervals.above(intervals.interval(np.array([1.0])), 0.0) == intervals.NOT_RUN
    assert intervals.above(intervals.interval(np.array([])), 0.0) == intervals.NOT_RUN


@pytest.mark.parametrize(
    ("low", "high", "above", "at_most"),
    [(-0.03, -0.021, "refuted", "shown"), (-0.03, -0.01, "not shown", "not shown"), (-0.019, 0.1, "shown", "refuted")],
)
def test_verdicts_ask_on_which_side_the_whole_interval_lies(low, high, above, at_most):
    found = intervals.Interval((low + high) / 2, low, high, 5)
    assert intervals.above(found, intervals.COMPETITIVE) == above
    assert intervals.at_most(found, intervals.COMPETITIVE) == at_most


def test_a_claim_of_several_parts():
    shown, not_shown, refuted, not_run = "shown", "not shown", "refuted", "not yet run"
    assert intervals.all_of(shown, shown) == shown
    assert intervals.all_of(shown, not_shown) == not_shown
    assert intervals.all_of(shown, not_run, not_shown) == not_run
    assert intervals.all_of(not_run, refuted, shown) == refuted
    assert intervals.any_of(refuted, shown, not_run) == shown
    assert intervals.any_of(refuted, not_run) == not_run
    assert intervals.any_of(refuted, refuted) == refuted


@pytest.mark.parametrize(
    ("bytes_", "accuracy", "word"),
    [(0.49e6, 0.885, "shown"), (0.6e6, 0.885, "refuted"), (0.49e6, 0.87, "refuted")],
)
def test_half_the_bytes_at_competitive_accuracy(bytes_, accuracy, word):
    noise = [0.0, 0.001, 0.002]
    found = results(
        *(record("dsfl", seed, 0.9 + noise[seed], 0.9) for seed in range(3)),
        *(record("scarlet", seed, accuracy, 0.9, bytes_) for seed in range(3)),
    )
    table = claims.lines(found)
    [line] = [line for line in table if line.what == "SCARLET (D = 10) against DS-FL" and line.claim == "half"]
    assert (line.verdict, line.seeds, line.decides) == (word, 3, True)
    # D = 50 has not been run and could still show it.
    assert claims.verdict(table, "half") == ("shown" if word == "shown" else "not yet run")


def test_steadier_is_a_smaller_range_over_alpha():
    found = []
    for seed in range(3):
        for suffix, drop in (("-a0.05", 0.02), ("", 0.0), ("-a1", 0.01)):
            found.append(record("scarlet" + suffix, seed, 0.9 - drop, 0.9 - drop))
            found.append(record("dsfl+cache" + suffix, seed, 0.9 - (3 + 0.1 * seed) * drop, 0.9 - 3 * drop))
    found = results(*found)
    assert claims.ranges(found, "scarlet", "server") == pytest.approx({0: 0.02, 1: 0.02, 2: 0.02})
    assert claims.ranges(found, "dsfl+cache", "server") == pytest.approx({0: 0.06, 1: 0.062, 2: 0.064})
    table = claims.lines(found)
    assert claims.verdict(table, "steady") == "shown"
    del found["dsfl+cache-a1"][1], found["dsfl+cache-a1"][2]
    assert claims.verdict(claims.lines(found), "steady") == "not yet run"


def test_accuracy_at_a_budget_is_that_of_the_rounds_within():
    one = record("scarlet", 0, reference=30e6, rounds=30)  # 1 MB a round
    one.columns["server_top1"][:] = np.arange(30) / 100
    assert leaderboard.at_budget(one, "server", "reference", 28.5) == pytest.approx(0.25)  # rounds 23 to 27
    assert leaderboard.at_budget(one, "server", "reference", 99) == pytest.approx(0.27)
    assert leaderboard.at_budget(one, "server", "wire", 5.0) == pytest.approx(0.085)  # ten rounds: the last two
    assert leaderboard.at_budget(one, "server", "wire", 1.0) == pytest.approx(0.01)  # two rounds: the last
    assert math.isnan(leaderboard.at_budget(one, "server", "reference", 0.9))
    assert records.last(200) == 20 and records.last(5) == 1


def test_the_leaderboard_compares_the_seeds_that_all_methods_have():
    found = results(
        *(record("scarlet", seed, 0.8 + 0.1 * seed) for seed in range(3)),
        *(record("dsfl", seed, 0.79 + 0.1 * seed) for seed in range(2)),
        *(record("cfd", seed, (0.95, 0.6)[seed]) for seed in range(2)),
        *(record("centralized", seed, 1.0) for seed in range(2)),
    )
    board = leaderboard.balanced(found)
    assert {tuple(seeds) for seeds in board.values()} == {(0, 1)}
    # The best mean is not an upper bound's, and only what loses with every seed by as much is told apart.
    assert leaderboard.best(leaderboard.column(board, "server", "reference", None)) == ("scarlet", ["cfd"])
    assert leaderboard.best({}) is None


def test_a_record_is_read_as_it_was_written(tmp_path):
    one = record("individual", 3, 0.91234, 0.5, 123456)
    one.columns["server_top1"][:] = np.nan
    records.write(one, tmp_path)
    [again] = records.read(tmp_path)
    assert (again.variant, again.seed, again.config, again.commit) == ("individual", 3, "hash", "commit")
    for name, values in one.columns.items():
        np.testing.assert_allclose(again.columns[name], values, atol=0.5 if name in records.LEDGERS else 5e-5)
    assert records.finals({"individual": {3: again}}, "individual", "server") == {}


def test_clients_with_prototypes_are_judged_twice(tmp_path):
    one = record("fedproto", 0, client=0.8)
    one.columns[records.PROTOTYPE] = np.full(20, 0.9)
    records.write(one, tmp_path)
    records.write(record("fd", 0, client=0.7), tmp_path)
    found = records.by_variant(records.read(tmp_path), "digits")
    assert list(found) == ["fd", "fedproto", "fedproto" + records.NEAREST]
    final = {variant: records.finals(found, variant, "client")[0] for variant in found}
    assert final == pytest.approx({"fd": 0.7, "fedproto": 0.8, "fedproto-prototype": 0.9})
    by_bytes = leaderboard.column(leaderboard.balanced(found), "client", "reference", 1)
    assert leaderboard.best(by_bytes)[0] == "fedproto" + records.NEAREST
    text = page.render(records.read(tmp_path))
    assert "| FedProto, nearest prototype | 0.900" in text and text.count("digits/fedproto | 0 |") == 1


def test_seeds_of_different_configs_are_refused(tmp_path):
    records.write(record("dsfl", 0), tmp_path)
    path = tmp_path / "digits/dsfl-s0.json"
    (tmp_path / "digits/dsfl-s1.json").write_text(
        path.read_text().replace('"seed": 0', '"seed": 1').replace('"hash"', '"other"')
    )
    with pytest.raises(ValueError, match="digits/dsfl have different configs"):
        records.read(tmp_path)


def write_run(workdir, run, rounds=3, complete=True):
    """What a run leaves in its folder, as far as a record needs it."""
    workdir.mkdir(parents=True)
    config = {"seed": run.seed, "rounds": rounds, "lr": 0.1, "checkpoint": {"every": 5}, "data": {"dir": ""}}
    (workdir / "config.json").write_text(json.dumps(config))
    environment = {"starts": [{"commit": "abc", "choices": {"conv": "native"}}]}
    (workdir / "environment.json").write_text(json.dumps(environment))
    (workdir / "summary.json").write_text(json.dumps({"complete": complete}))
    with (workdir / "metrics.jsonl").open("w") as file:
        for round_ in range(rounds):
            totals = {f"total_{way}_bytes_{ledger}": 10 * round_ + 10 for way in ("uplink", "downlink")
                      for ledger in records.LEDGERS}  # fmt: skip
            row = {"round": round_, "server_top1": None, "client_top1": 0.1 * round_} | totals
            file.write(json.dumps(row) + "\n")


def test_only_finished_runs_are_collected(tmp_path):
    first, second = runs.planned()[:2]
    write_run(tmp_path / "runs" / first.name, first)
    write_run(tmp_path / "runs" / second.name, second, complete=False)
    assert records.collect(tmp_path / "runs", tmp_path / "records") == 1
    [found] = records.read(tmp_path / "records")
    assert (found.setting, found.variant, found.seed) == tuple(first)
    assert (found.commit, found.conv) == ("abc", "native")
    ended = tmp_path / "runs" / first.name / "config.json"
    ended.write_text(ended.read_text().replace('"rounds": 3', '"rounds": 9'))
    with pytest.raises(ValueError, match="is not the finished run"):
        records.read_run(ended.parent, first)
    (ended.parent / "summary.json").write_text(json.dumps({"complete": True, "rounds": 3, "stopped": "a bound"}))
    assert len(records.read_run(ended.parent, first).columns["wire"]) == 3
    np.testing.assert_array_equal(found.columns["wire"], [20, 40, 60])
    np.testing.assert_allclose(found.columns["client_top1"], [0, 0.1, 0.2])


def test_the_hash_of_a_config_leaves_out_the_seed_and_how_it_was_executed():
    config = {"seed": 0, "lr": 0.1, "checkpoint": {"every": 5}, "cache": {"duration": 10}}
    same = {"cache": {"duration": 10}, "seed": 7, "lr": 0.1, "checkpoint": {"every": 9}}
    assert records.config_hash(config) == records.config_hash(same)
    assert records.config_hash(config) != records.config_hash(config | {"cache": {"duration": 11}})


def test_training_skips_what_is_finished_and_goes_on_after_a_failure(tmp_path, capsys):
    (tmp_path / "launch.py").write_text(
        "import pathlib, sys\n"
        "workdir = pathlib.Path(sys.argv[-1].removeprefix('--workdir='))\n"
        "if 'dsfl' in sys.argv[1]:\n    sys.exit(3)\n"
        "workdir.mkdir(parents=True)\n"
        "(workdir / 'summary.json').write_text('{\"complete\": true}')\n"
    )
    wanted = [runs.Planned("digits", variant, 0) for variant in ("cfd", "dsfl", "comet")]
    write_run(tmp_path / "out" / wanted[0].name, wanted[0])
    before = (tmp_path / "out" / wanted[0].name / "summary.json").stat().st_mtime_ns
    assert train.train(tmp_path / "out", tmp_path, wanted, sys.executable) == ["digits/dsfl-s0"]
    assert (tmp_path / "out" / wanted[0].name / "summary.json").stat().st_mtime_ns == before
    assert [line.split(":")[1].split(" after")[0] for line in capsys.readouterr().out.splitlines()] == [
        " failed with exit status 3",
        " finished",
    ]
    assert train.finished(tmp_path / "out" / wanted[2].name)


def test_every_run_is_planned_once():
    names = [run.name for run in runs.planned()]
    assert len(names) == len(set(names))
    assert {method.partition("+")[0] for method, _ in runs.METHODS.values()} == set(METHODS)
    alphas = {name + suffix for name in (*runs.BETAS, *runs.TEMPERATURES) for suffix in runs.ALPHAS}
    titles = {name.removesuffix(records.NEAREST) for name in leaderboard.TITLES}
    assert alphas | titles | set(page.FACTORS) <= {run.variant for run in runs.planned()}


@pytest.mark.parametrize("name", sorted({(run.setting, run.variant) for run in runs.planned()}), ids="/".join)
def test_the_command_line_of_a_run_is_one_that_the_program_takes(name, monkeypatch):
    from scarlet_jax.commands import command_line

    monkeypatch.chdir(ROOT)
    config, _ = command_line.parse(["launch.py", *runs.command(runs.Planned(*name, 4))], flags.FlagValues())
    method, fields = runs.variants()[name]
    assert config.seed == 4 and config.method.name == method.partition("+")[0]
    for field, value in (runs.FIXED | runs.SETTINGS[name[0]].fields | fields).items():
        section, _, leaf = field.rpartition(".")
        assert (config[section] if section else config)[leaf] == value


def test_methods_are_told_apart_in_black_and_white():
    look = figures.looks(list(leaderboard.TITLES))
    assert len({(str(one.line), one.marker, one.filled) for one in look.values()}) == len(look)


def test_figures_are_drawn_of_what_there_is(tmp_path):
    found = results(*(record(variant, seed, 0.9, 0.8) for variant in ("scarlet", "dsfl") for seed in range(2)))
    assert figures.write({"digits": found}, tmp_path) == ["leaderboard"]
    assert (tmp_path / "leaderboard.png").read_bytes().startswith(b"\x89PNG")
    assert figures.write({}, tmp_path) == []


def test_a_page_without_runs_says_so():
    text = page.render([])
    assert f"0 of {len(runs.planned())} planned runs" in text and "| **shown** |" not in text
    assert text.count("**not yet run**") == len(claims.CLAIMS) == len(re.findall("^### .*: not yet run$", text, re.M))
    assert "{" not in text.replace("{METHOD}", "")


def test_the_committed_page_is_that_of_the_committed_records():
    """`python -m tools.evidence page` makes it."""
    folder = ROOT / "docs" / "results"
    assert (folder / "README.md").read_text() == page.render(records.read(folder / "records"))
    assert sum(path.stat().st_size for path in (folder / "records").rglob("*")) < 2e6


def test_links_of_the_results_lead_to_files():
    for name in ("README.md", "cifar10_small/README.md"):
        path = ROOT / "docs" / "results" / name
        links = [link for link in re.findall(r"\]\(([^)\s#]+)\)", path.read_text()) if "://" not in link]
        assert links and all((path.parent / link).exists() for link in links), name
