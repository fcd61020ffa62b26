"""Experiment cards by name."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

import scarlet_jax
from scarlet_jax.commands import cards, config_files, sweep
from scarlet_jax.commands import command_line as cli
from scarlet_jax.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(
    file.relative_to(ROOT / "configs").as_posix().removesuffix(".py")
    for file in (ROOT / "configs").glob("**/*.py")
    if file.name != "__init__.py"
)


def parse(*args):
    return cli.parse(["scarlet run", *args], flags.FlagValues())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_name_is_its_file(name, elsewhere, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path if elsewhere else ROOT)
    config, path = parse(f"--config={name}")
    assert Path(path).samefile(ROOT / "configs" / f"{name}.py")
    assert elsewhere or path == f"configs/{name}.py"
    by_path, _ = parse(f"--config={ROOT}/configs/{name}.py")
    assert config.to_json() == by_path.to_json()
    assert config_files.default_workdir(path, config) == config_files.default_workdir(f"configs/{name}.py", config)


def test_its_argument_and_its_fields_are_passed_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config, path = parse("--config=paper/cifar10:dsfl+cache", "--config.seed=4")
    assert (config.method.name, config.cache.duration, config.seed) == ("dsfl", 50, 4)
    assert config_files.default_workdir(path, config) == "runs/paper-cifar10-dsfl+cache-s4"


def test_an_existing_file_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from scarlet_jax.configs import digits\n"
        "def get_config():\n  config = digits.get_config()\n  config.rounds = 3\n  return config\n"
    )
    assert parse("--config=mine.py")[0].rounds == 3
    shutil.copy("mine.py", "digits")
    assert cards.find("digits") == "digits"
    (tmp_path / "digits").unlink()
    (tmp_path / "digits").mkdir()  # a folder is no config
    assert parse("--config=digits")[0].rounds == 30


@pytest.mark.parametrize("name", ["digts", "../configs/digits", "paper", "digits.py", "__init__", "", "/digits"])
def test_what_is_no_card_is_left_alone(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cards.find(name) == name
    with pytest.raises(UserError, match="There is no config "):
        config_files.get_config(name)


def test_a_sweep_takes_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, path = parse("--config=digits")
    runs = sweep.plan(path, ["--config=digits", "--config.rounds=2"], ["scarlet", "dsfl+cache"], ["0"])
    assert [(name, config.rounds, config.cache.duration) for name, config in runs] == [
        ("scarlet-s0", 2, 10),
        ("dsfl+cache-s0", 2, 10),
    ]


def test_get_config_is_what_the_command_line_makes_of_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert scarlet_jax.get_config("digits:dsfl").to_json() == parse("--config=digits:dsfl")[0].to_json()
    config = scarlet_jax.get_config("digits")
    config.rounds = 2  # an ordinary config, to be changed
    with pytest.raises(UserError, match="There is no config digts"):
        scarlet_jax.get_config("digts")


@pytest.mark.parametrize("package", ["configs", "scarlet_jax.configs"])
def test_a_users_card_starts_from_ours(package, tmp_path):
    """In a new process, whose path has neither the checkout nor the card's folder."""
    (tmp_path / "mine.py").write_text(f"from {package} import base\ndef get_config():\n  return base.get_config()\n")
    code = "import scarlet_jax; print(scarlet_jax.get_config('mine.py').num_clients)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ), timeout=60
    )
    assert (done.stdout, done.stderr) == ("100\n", "")
