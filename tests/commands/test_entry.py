"""How commands are started: `scarlet`, `python -m scarlet_jax`, and the older `launch.py` and `-m scarlet_jax.plan`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import scarlet_jax
from scarlet_jax.commands import entry

ROOT = Path(__file__).resolve().parents[2]


def python(*args, cwd=ROOT):
    return subprocess.run(
        [sys.executable, *args],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "100"},
        timeout=60,
    )


def call(monkeypatch, *args):
    """Call `scarlet ARGS`; returns its exit code, or name, shown command and remaining arguments of what it starts."""
    monkeypatch.setattr(sys, "argv", ["/bin/scarlet", *args])
    started = []
    monkeypatch.setattr(entry, "start", lambda *named: started.append((*named, sys.argv[1:])))
    try:
        entry.main()
    except SystemExit as leaving:
        return leaving.code
    return started[0]


@pytest.mark.parametrize("name", entry.COMMANDS)
def test_the_first_argument_names_the_command_and_the_rest_is_its_own(monkeypatch, name):
    assert call(monkeypatch, name, "--config=digits", "run") == (name, f"scarlet {name}", ["--config=digits", "run"])


def test_help_lists_the_commands(monkeypatch, capsys):
    assert call(monkeypatch, "--help") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines if line.startswith("  ")] == ["run", "plan", "sweep", "report", "data"]


def test_version(monkeypatch, capsys):
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"scarlet_jax {scarlet_jax.__version__}\n"


ALL = "run, plan, sweep, report, data; scarlet --help describes them."


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        ([], f"No command: add one of {ALL}"),
        (["paln"], "There is no command 'paln' (did you mean plan?)."),
        (["zzz"], f"There is no command 'zzz'; there are {ALL}"),
        (["--config=digits", "run"], f"No command before --config=digits: put one there of {ALL}"),
    ],
)
def test_what_is_no_command_is_one_sentence(monkeypatch, capsys, args, sentence):
    assert call(monkeypatch, *args) == 1
    assert capsys.readouterr() == ("", f"{sentence}\n")


@pytest.mark.parametrize(
    ("args", "command"),
    [
        (["launch.py"], "python launch.py"),
        (["-m", "scarlet_jax", "run"], "python -m scarlet_jax run"),
        (["-m", "scarlet_jax.plan"], "python -m scarlet_jax.plan"),
        (["-m", "scarlet_jax.sweep"], "python -m scarlet_jax.sweep"),
        (["-m", "scarlet_jax.report"], "python -m scarlet_jax.report"),
        (["-m", "scarlet_jax.data"], "python -m scarlet_jax.data"),
    ],
)
def test_every_way_to_start_a_command_shows_itself_in_its_help(args, command):
    done = python(*args, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.removeprefix("usage: ").startswith(f"{command} ")
    examples = done.stdout.lower().split("examples:\n")[1].split("\n\n")[0].splitlines()
    assert len([line for line in examples if line.startswith(f"  {command} ")]) >= 2


def test_a_module_of_the_working_directory_can_be_named_and_hides_nothing(tmp_path):
    (tmp_path / "mine.py").write_text("VALUE = 3\n")
    (tmp_path / "ml_collections.py").write_text("raise SystemExit('hidden')\n")
    (tmp_path / "card.py").write_text(
        "import mine\nfrom scarlet_jax.configs import base\n"
        "def get_config():\n  config = base.get_config()\n  config.rounds = mine.VALUE\n  return config\n"
    )
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "scarlet").write_text("from scarlet_jax.commands.entry import main\nmain()\n")
    done = python("bin/scarlet", "run", "--config=card.py", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    [line] = [line for line in done.stdout.splitlines() if line.startswith("  rounds ")]
    assert line.split()[1] == "3"
