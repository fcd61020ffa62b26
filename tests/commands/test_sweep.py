"""Methods x seeds: what is run, what is skipped, what is reported."""

import csv
import json
import re
import subprocess
import sys

import pytest
from absl import flags

from scarlet_jax.commands import side_by_side, slurm, sweep
from scarlet_jax.errors import UserError
from scarlet_jax.runtime import run as experiment
from scarlet_jax.runtime.metrics import no_summary
from tests.support.harness import flags as tiny_flags
from tests.support.harness import tiny

OVERRIDES = [flag for flag in tiny_flags(rounds=2) if not flag.startswith(("--config=", "--config.cache"))]


def run(monkeypatch, out, *extra):
    monkeypatch.setattr("sys.argv", ["sweep", "--config=configs/digits.py", *OVERRIDES])
    values = flags.FlagValues()
    sweep.define_flags(values)
    values(["sweep", f"--out={out}", *extra])
    return sweep.main(None, "configs/digits.py", values)


@pytest.mark.usefixtures("quick_compilation")
def test_runs_are_made_skipped_and_reported(tmp_path, monkeypatch, capsys):
    arguments = ("--methods=individual,fedavg", "--seeds=0,1", "--baseline=fedavg")
    assert run(monkeypatch, tmp_path, *arguments) == 0
    names = ["individual-s0", "fedavg-s0", "individual-s1", "fedavg-s1"]
    for name in names:
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert name == f"{config['method']['name']}-s{config['seed']}"
        assert json.loads((tmp_path / name / "summary.json").read_text())["complete"]
    table = list(csv.DictReader((tmp_path / "report" / "table.csv").open()))
    assert len(table) == 2, "seeds are shown as one"
    capsys.readouterr()
    before = {name: (tmp_path / name / "metrics.jsonl").stat().st_mtime_ns for name in names}
    assert run(monkeypatch, tmp_path, *arguments) == 0
    assert capsys.readouterr().out.count("this run is finished") == 4
    assert before == {name: (tmp_path / name / "metrics.jsonl").stat().st_mtime_ns for name in names}


def test_runs_differ_in_method_cache_and_seed_alone():
    runs = sweep.plan("configs/digits.py", ["--config.lr=0.05"], ["dsfl", "dsfl+cache", "scarlet"], ["0", "1"])
    assert [name for name, _ in runs] == [
        "dsfl-s0", "dsfl+cache-s0", "scarlet-s0", "dsfl-s1", "dsfl+cache-s1", "scarlet-s1"
    ]  # fmt: skip
    assert [config.cache.duration for _, config in runs] == [None, 10, 10] * 2
    assert [config.seed for _, config in runs] == [0] * 3 + [1] * 3
    assert {config.lr for _, config in runs} == {0.05}


def test_everything_is_checked_before_anything_runs(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="did you mean dsfl"):
        run(monkeypatch, tmp_path / "out", "--methods=individual,dslf")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--methods=individual,fedavg", "--baseline=dsfl"), "'dsfl' is not among the runs"),
        (("--methods=individual,fedavg", "--targets=0.5,30"), "target 30 is not an accuracy"),
        (("--methods=individual,fedavg", "--targets=half"), "--targets takes accuracies"),
        (("--methods=scarlet,scarlet+cache",), "the same config and the same seed"),
    ],
)
def test_what_the_report_would_refuse_is_refused_before_anything_runs(tmp_path, monkeypatch, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        run(monkeypatch, tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_a_report_that_would_overwrite_something_is_refused_before_anything_runs(tmp_path, monkeypatch):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "thesis.md").write_text("mine")
    with pytest.raises(UserError, match="is not a report made by this program"):
        run(monkeypatch, tmp_path, "--methods=individual")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("baseline", ["dsfl", "DS-FL + cache", "dsfl+cache", "scarlet-s1", "SCARLET"])
def test_the_baselines_of_a_report_are_those_of_its_sweep(baseline, tmp_path, monkeypatch):
    """A report fails where the runs left nothing: so does the sweep, which got that far."""
    monkeypatch.setattr(experiment, "run", lambda config, workdir: workdir.mkdir(parents=True))
    arguments = ("--methods=scarlet,dsfl,dsfl+cache", "--seeds=0,1", f"--baseline={baseline}")
    assert run(monkeypatch, tmp_path, *arguments) == 1
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize(
    ("path", "argv", "methods", "seeds", "sentence"),
    [
        ("configs/digits.py", [], [], ["0"], "--methods is missing"),
        ("configs/digits.py", [], ["dsfl", "dsfl"], ["0"], "dsfl twice"),
        ("configs/digits.py", [], ["dsfl"], ["0", "x"], "whole numbers"),
        ("configs/digits.py", [], ["dsfl"], ["0", "²"], "whole numbers"),
        ("configs/digits.py", [], ["dsfl"], ["1", "01"], "a number twice"),
        ("configs/digits.py", [], ["dsfl", ""], ["0"], "nothing between two commas"),
        ("configs/digits.py", [], [""], ["0"], "--methods is missing"),
        ("configs/digits.py", [], ["dsfl"], [], "whole numbers"),
        ("configs/digits.py", ["--config.seed=1"], ["dsfl"], ["0"], "chooses methods and seeds"),
        ("configs/digits.py:cfd", ["--config.lr=1"], ["dsfl"], ["0"], "name configs/digits.py alone"),
    ],
)
def test_refusals(path, argv, methods, seeds, sentence):
    with pytest.raises(UserError, match=sentence):
        sweep.plan(path, argv, methods, seeds)


def test_one_run_alone_is_trained_by_its_number_and_nothing_is_reported(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(experiment, "run", lambda config, workdir: called.append((config.seed, workdir)))
    assert run(monkeypatch, tmp_path, "--methods=individual,fedavg", "--seeds=0,1", "--only=4") == 0
    assert called == [(1, tmp_path / "fedavg-s1")] and not (tmp_path / "report").exists()
    for number in (0, 5):
        with pytest.raises(UserError, match=rf"--only is {number}; allowed is 1 to 4"):
            run(monkeypatch, tmp_path, "--methods=individual,fedavg", "--seeds=0,1", f"--only={number}")


def test_side_by_side_each_process_trains_one_run(tmp_path, monkeypatch):
    """What is started is this command with the number of the run, at most --jobs at once; failures are told."""
    seen = {}

    def pretend(commands, places):
        seen["commands"], seen["places"] = commands, places
        for name, _ in commands[:1]:
            (tmp_path / name).mkdir()
        return [name for name, _ in commands[1:]]

    monkeypatch.setattr(side_by_side, "run", pretend)
    assert run(monkeypatch, tmp_path, "--methods=individual,fedavg", "--seeds=0,1", "--jobs=3") == 1
    assert [name for name, _ in seen["commands"]] == ["individual-s0", "fedavg-s0", "individual-s1", "fedavg-s1"]
    for number, (_, arguments) in enumerate(seen["commands"], 1):
        assert arguments[1:4] == ["-m", "scarlet_jax", "sweep"] and "--config=configs/digits.py" in arguments
        assert arguments[-3:] == ["--launcher=local", "--jobs=1", f"--only={number}"]
    assert len(seen["places"]) == 3


def test_a_job_array_is_written_and_submitted_and_nothing_is_trained_here(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiment, "run", lambda *_: pytest.fail("trained here"))
    submitted = []
    monkeypatch.setattr(slurm, "submit", lambda path: submitted.append(path) or "12")
    arguments = ("--methods=individual,fedavg", "--launcher=slurm", "--jobs=1", "--sbatch=--time=1:00:00")
    assert run(monkeypatch, tmp_path / "out", *arguments) == 0
    assert submitted == [tmp_path / "out" / "sweep.sbatch"] and (tmp_path / "out" / "slurm").is_dir()
    text = submitted[0].read_text()
    assert "--array=1-2%1" in text and "#SBATCH --time=1:00:00" in text and "--launcher=local --jobs=1 --only=" in text
    assert "job array 12 with 2 tasks: individual-s0, fedavg-s0" in capsys.readouterr().out


def test_finished_runs_are_not_submitted_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(slurm, "submit", lambda path: "12")
    arguments = ("--methods=individual,fedavg,scarlet", "--launcher=slurm")

    def after(name, rounds):
        """What is printed, and the script's array, once a run has done so many rounds."""
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "summary.json").write_text(json.dumps(no_summary() | {"rounds": rounds, "complete": True}))
        assert run(monkeypatch, tmp_path, *arguments) == 0
        return capsys.readouterr().out, re.search("--array=(.*)", (tmp_path / "sweep.sbatch").read_text())[1]

    out, array = after("fedavg-s0", 2)
    assert "with 2 tasks: individual-s0, scarlet-s0" in out and array == "1,3"
    out, array = after("individual-s0", 2)
    assert "with 1 task: scarlet-s0" in out and array == "3"
    out, array = after("scarlet-s0", 2)
    assert "all 3 runs are finished: nothing is submitted" in out
    out, array = after("fedavg-s0", 1)
    assert "with 1 task: fedavg-s0" in out and array == "2", "config.rounds is 2: the run goes on"
    config = json.loads(tiny(rounds=2, lr=0.7, method__name="individual", cache__duration=None).to_json())
    (tmp_path / "individual-s0" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"individual-s0 holds a run with another config: .*lr was 0\.7 and is now"):
        run(monkeypatch, tmp_path, *arguments)


@pytest.mark.parametrize("flag", ["--sbatch=--time=1:00", "--grace=60"])
def test_options_of_a_launcher_that_is_not_used_are_refused(tmp_path, monkeypatch, flag):
    with pytest.raises(UserError, match=r"which only --launcher=slurm reads\."):
        run(monkeypatch, tmp_path, "--methods=individual", flag)


def test_processes_side_by_side_leave_what_one_after_another_leaves(tmp_path):
    """As a command of its own: two runs at once, each with its rows behind its name, and a report."""
    command = [sys.executable, "-m", "scarlet_jax", "sweep", "--config=configs/digits.py", *OVERRIDES]
    command += ["--methods=individual", "--seeds=0,1", f"--out={tmp_path}", "--jobs=2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for name in ("individual-s0", "individual-s1"):
        assert json.loads((tmp_path / name / "summary.json").read_text())["complete"]
        assert re.search(rf"^{name}: round 2/2 ", done.stdout, re.MULTILINE)
    assert (tmp_path / "report" / "report.html").is_file()
