"""Configs as files: what is loaded, what is refused, and the workdir that is named after one."""

import os
import re
import sys
from pathlib import Path

import pytest

from configs import base
from scarlet_jax.commands import config_files
from scarlet_jax.errors import UserError
from tests.support.command_lines import parse

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("at_the_root")


def test_files_that_are_no_experiments_are_not_offered():
    with pytest.raises(UserError) as refusal:
        parse()
    offered = re.findall(r"configs/\S+\.py", str(refusal.value))
    cards = [p for p in Path("configs").rglob("*.py") if "Command:" in p.read_text()]
    assert sorted(offered) == sorted(map(str, cards))


@pytest.mark.parametrize("source", ["config_dict.ConfigDict()", "config_dict.ConfigDict({'method': {}})"])
def test_a_config_without_fields_is_one_sentence(tmp_path, source):
    path = tmp_path / "empty.py"
    path.write_text(f"from ml_collections import config_dict\ndef get_config():\n  return {source}\n")
    with pytest.raises(UserError, match=r"^config\.seed is missing: "):
        parse(f"--config={path}")


def test_numpy_scalars_in_a_config_can_be_overridden(tmp_path):
    path = tmp_path / "numpy_scalars.py"
    path.write_text(
        "import numpy as np\nfrom configs import base\ndef get_config():\n  config = base.get_config()\n"
        "  with config.ignore_type():\n    config.lr, config.rounds = np.float32(0.1), np.int64(3)\n  return config\n"
    )
    assert [(parse(f"--config={path}")[0][f], type(parse(f"--config={path}")[0][f])) for f in ("lr", "rounds")] == [
        (0.1, float), (3, int),
    ]  # fmt: skip
    assert parse(f"--config={path}", "--config.rounds=5")[0].rounds == 5


BROKEN_CONFIGS = {
    "syntax": ("def get_config(:\n", "SyntaxError"),
    "no get_config": ("x = 1\n", "get_config"),
    "misspelt field": (
        "from configs import base\ndef get_config():\n  config = base.get_config()\n  config.round = 3\n",
        "line 4: ",
    ),
    "not a config": ("def get_config():\n  return {'rounds': 3}\n", "returns dict"),
    "own sentence": (
        "from scarlet_jax.errors import UserError\ndef get_config(name):\n  raise UserError('no method ' + name)\n",
        "no method cfd",
    ),
}


@pytest.mark.parametrize(("source", "part"), BROKEN_CONFIGS.values(), ids=BROKEN_CONFIGS.keys())
def test_a_broken_config_file_is_one_sentence(tmp_path, source, part):
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(UserError) as refusal:
        parse(f"--config={path}" + (":cfd" if "(name)" in source else ""))
    assert part in str(refusal.value) and "\n" not in str(refusal.value)


def test_an_argument_of_the_config_passes_through(tmp_path):
    path = tmp_path / "with_argument.py"
    path.write_text(
        "from configs import base\n"
        "def get_config(name='scarlet'):\n  config = base.get_config()\n  config.method.name = name\n  return config\n"
    )
    config, path_named, _ = parse(f"--config={path}:cfd", "--config.rounds=2")
    assert (config.method.name, config.rounds) == ("cfd", 2)
    assert path_named == f"{path}:cfd"


def test_a_config_elsewhere_imports_its_neighbours(tmp_path, monkeypatch):
    package = tmp_path / "neighbours_of_a_test"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "common.py").write_text("ROUNDS = 7\n")
    (package / "mine.py").write_text(
        "from configs import base\nfrom neighbours_of_a_test import common\n"
        "def get_config():\n  config = base.get_config()\n  config.rounds = common.ROUNDS\n  return config\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert parse(f"--config={package / 'mine.py'}")[0].rounds == 7


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("configs/digits.py", "digits-scarlet-s3"),
        ("./configs/digits.py", "digits-scarlet-s3"),
        ("configs/cifar10_small/ours.py", "cifar10_small-ours-scarlet-s3"),
        ("configs/digits.py:scarlet", "digits-scarlet-s3"),
        ("configs/digits.py:scarlet+cache", "digits-scarlet+cache-s3"),
        ("configs/digits.py:no_cache", "digits-no_cache-scarlet-s3"),
        ("configs/digits.py:a=1,b/../c", "digits-a=1-b-..-c-scarlet-s3"),
        ("elsewhere/mine.py", "mine-scarlet-s3"),
    ],
)
def test_default_workdir(path, name):
    config = base.get_config()
    config.seed = 3
    assert config_files.default_workdir(path, config) == os.path.join("runs", name)


@pytest.mark.parametrize("config", ["digits", "cifar10_small", "cifar10"])
def test_a_config_is_given_its_method(config):
    path = f"configs/{config}.py"
    own = {"digits": 10, "cifar10_small": 5, "cifar10": 50}[config]
    expected = {
        path: ("scarlet", own), f"{path}:scarlet": ("scarlet", own), f"{path}:dsfl": ("dsfl", None),
        f"{path}:cfd+cache": ("cfd", own),
    }  # fmt: skip
    for name, (method, duration) in expected.items():
        parsed = parse(f"--config={name}")[0]
        assert (parsed.method.name, parsed.cache.duration) == (method, duration)
    # A method named by its field is the same as one named behind the file.
    parsed, named, _ = parse(f"--config={path}", "--config.method.name=dsfl")
    assert (parsed.method.name, parsed.cache.duration, named) == ("dsfl", None, path)


@pytest.mark.parametrize("argument", ["dsfl+", "dsfl+cash", "+cache+"])
def test_an_argument_that_is_no_method(argument):
    with pytest.raises(UserError, match="allowed is a method, or METHOD.cache"):
        parse(f"--config=configs/digits.py:{argument}")
