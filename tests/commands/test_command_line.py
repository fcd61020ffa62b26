"""What is typed behind a command: overrides, configs by name or file, and what is wrong with them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from configs import base
from scarlet_jax.commands import command_line as cli
from scarlet_jax.errors import UserError
from scarlet_jax.methods import METHODS
from scarlet_jax.options import fields
from tests.support.harness import launch

ROOT = Path(__file__).resolve().parents[2]
DIGITS = "--config=configs/digits.py"


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def parse(*args):
    """Parse as launch.py does, with fresh flags: config, path, flags."""
    flag_values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "help", flag_values=flag_values)
    return *cli.parse(["launch.py", *args], flag_values), flag_values


@pytest.mark.parametrize(
    ("args", "field", "value"),
    [
        ([DIGITS], "rounds", 30),
        ([DIGITS, "--config.rounds=3"], "rounds", 3),
        ([DIGITS, "--config.rounds", "3"], "rounds", 3),
        (["--config.rounds=3", DIGITS], "rounds", 3),
        (["--config", "configs/digits.py", "--config.rounds=3"], "rounds", 3),
        ([DIGITS, "--config.rounds=3", "--config.rounds=4"], "rounds", 4),
        ([DIGITS, "--config.lr=1"], "lr", 1.0),
        ([DIGITS, "--config.method.beta=1"], "method.beta", 1.0),
        ([DIGITS, "--config.cache.duration=0"], "cache.duration", 0),
        ([DIGITS, "--config.same_init=false"], "same_init", False),
        ([DIGITS, "--noconfig.same_init"], "same_init", False),
        ([DIGITS, "--config.private_augment"], "private_augment", True),
        ([DIGITS, "--config.data.dir=/a=b"], "data.dir", "/a=b"),
        ([DIGITS, "--config.data.dir="], "data.dir", ""),
    ],
)
def test_overrides_arrive(args, field, value):
    config, *_ = parse(*args)
    found = fields.leaves(config)[field]
    assert found == value and type(found) is type(value)


def test_the_config_is_locked_and_open_fields_stay_open():
    config, path_named, flag_values = parse(DIGITS, "--workdir=somewhere")
    assert config.is_locked and config.method.beta is None
    assert flag_values.workdir == "somewhere"
    assert path_named == "configs/digits.py"


REFUSED = {
    "no config": ([], ["--config=FILE", "configs/cifar10.py"]),
    "config without value": (["--config"], ["needs a file", "configs/digits.py"]),
    "missing file": (["--config=configs/digts.py"], ["no config configs/digts.py (did you mean configs/digits.py?)."]),
    "folder": (["--config=configs"], ["no config configs; there are configs/cifar10.py"]),
    "two configs": ([DIGITS, "--config=configs/cifar10.py"], ["twice", "configs/digits.py", "configs/cifar10.py"]),
    "argument not taken": (["--config=configs/base.py:cfd"], ["configs/base.py takes no argument"]),
    "misspelt field": ([DIGITS, "--config.participatoin=0.5"], ["'participatoin'", "config.participation?"]),
    "misspelt group": ([DIGITS, "--config.cahce.duration=5"], ["'cahce.duration'", "config.cache.duration?"]),
    "group forgotten": ([DIGITS, "--config.duration=5"], ["'duration'", "config.cache.duration?"]),
    "nothing near": ([DIGITS, "--config.zzzzzzz=5"], ["'zzzzzzz'", "--help"]),
    "misspelt without value": ([DIGITS, "--noconfig.same_int"], ["'same_int'", "config.same_init?"]),
    "a whole group": ([DIGITS, "--config.cache=5"], ["config.cache is a group", "cache.duration"]),
    "subscript": ([DIGITS, "--config.data['dir']=x"], ["no field"]),
    "int": (
        [DIGITS, "--config.rounds=1.5"],
        ["config.rounds is '1.5'; allowed is a whole number from 1 to 2147483647."],
    ),
    "int, apart": (
        [DIGITS, "--config.rounds", "many"],
        ["config.rounds is 'many'; allowed is a whole number from 1 to 2147483647."],
    ),
    "float": ([DIGITS, "--config.lr=fast"], ["config.lr is 'fast'; allowed is a number above 0"]),
    "bool": ([DIGITS, "--config.same_init=maybe"], ["config.same_init is 'maybe'; allowed is true or false."]),
    "open int": (
        [DIGITS, "--config.cache.duration=none"],
        ["config.cache.duration is 'none'; allowed is open (None) or a whole number from 0"],
    ),
    "open float": (
        [DIGITS, "--config.method.beta=x"],
        ["config.method.beta is 'x'; allowed is open (None) or a number"],
    ),
    "empty value": ([DIGITS, "--config.lr="], ["config.lr is ''; allowed is a number above 0"]),
    "no value": ([DIGITS, "--config.rounds"], ["Missing value", "config.rounds"]),
    "unknown flag": ([DIGITS, "--wokdir=x"], ["no flag --wokdir", "--workdir?"]),
    "field as a flag": ([DIGITS, "--rounds=3"], ["no flag --rounds", "--config.rounds=VALUE"]),
    "group field as a flag": ([DIGITS, "--duration=3"], ["no flag --duration", "--config.cache.duration?"]),
    "not a bool": ([DIGITS, "--noconfig.rounds"], ["no flag --noconfig.rounds"]),
    "positional": ([DIGITS, "rounds=3"], ["'rounds=3'", "--config.FIELD=VALUE"]),
    "a value out of range": ([DIGITS, "--config.rounds=0"], ["config.rounds is 0; allowed is a whole number from 1"]),
    "open, where it cannot be": ([DIGITS, "--config.lr=open"], ["config.lr is 'open'; allowed is a number above 0"]),
    "no file, but a method": (["--config=:dsfl"], ["There is no config ; there are configs/cifar10.py"]),
    "a name too long": (["--config=" + "a" * 5000], ["There is no config aaa", " ...; there are"]),
    "a name with a zero byte": (["--config=a\0b"], ["There is no config a"]),
    "name misspelt": (["--config=digts"], ["no config digts (did you mean configs/digits.py?)."]),
    "name misspelt, with a method": (["--config=digts:dsfl"], ["did you mean configs/digits.py:dsfl?"]),
    "path without its end": (["--config=configs/cifar10"], ["did you mean configs/cifar10.py?"]),
    "path without its folder": (["--config=paper/cifar100.py"], ["did you mean configs/paper/cifar100.py?"]),
    "misspelt name": (["--config=digist"], ["did you mean configs/digits.py?"]),
    "missing flag file": ([DIGITS, "--flagfile=nowhere"], ["nowhere"]),
}


@pytest.mark.parametrize(("args", "parts"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_wrong_is_one_sentence(args, parts):
    with pytest.raises(UserError) as refusal:
        parse(*args)
    sentence = str(refusal.value)
    assert "\n" not in sentence
    for part in parts:
        assert part in sentence


@pytest.mark.parametrize("field", [f for f, v in fields.leaves(base.get_config()).items() if v is None])
def test_an_open_field_can_be_opened_again(field, tmp_path):
    path = tmp_path / "closed.py"
    texts = {"model.precision": ("float32", "bfloat16")}
    first, second = ({"method.downlink_bits": (8, 16), "method.quantile": (1, 0)} | texts).get(field, (1, 2))
    method = next((name for name, e in METHODS.items() if field.removeprefix("method.") in e.parameters), "scarlet")
    path.write_text(
        f"from configs import base\ndef get_config():\n  config = base.get_config()\n"
        f"  config.method.name, config.{field} = {method!r}, {first!r}\n  return config\n"
    )
    config, start = f"--config={path}", [f"--config.{field}", "open"]
    assert fields.leaves(parse(config)[0])[field] == first
    for args in ([f"--config.{field}=open"], start, [f"--config.{field}={second}", f"--config.{field}=OPEN"]):
        assert fields.leaves(parse(config, *args)[0])[field] is None
    assert fields.leaves(parse(config, *start, f"--config.{field}={second}")[0])[field] == second


@pytest.mark.parametrize(
    ("typed", "meant"),
    {
        "learning_rate": "lr", "learningRate": "lr", "learning-rate": "lr", "learnin_rate": "lr", "bs": "batch_size",
        "num_rounds": "rounds", "local_epochs": "epochs", "clients": "num_clients", "K": "num_clients",
        "fraction_fit": "participation", "client_fraction": "participation", "dataset": "data.private",
        "dirichlet_alpha": "partition.alpha", "alpha": "partition.alpha", "arch": "model.client", "wd": "weight_decay",
        "optimizer.learning_rate": "lr", "mu": "method.prox_mu", "random_seed": "seed",
        "save_every": "checkpoint.every",
        "cache.D": "cache.duration", "algorithm": "method.name", "data_dir": "data.dir", "public": "data.public",
    }.items(),
)  # fmt: skip
def test_another_word_for_a_field_is_understood(typed, meant):
    with pytest.raises(UserError, match=rf"no field '{re.escape(typed)}' \(did you mean config\.{meant}\?\)\.$"):
        parse(DIGITS, f"--config.{typed}=1")


def test_every_other_word_stands_for_a_field_that_there_is():
    known = fields.leaves(base.get_config())
    assert set(fields.synonyms().values()) <= set(known)
    for word in fields.synonyms():
        assert re.fullmatch("[a-z0-9]+", word) and word not in known, word


def test_files_that_are_no_experiments_are_not_offered():
    with pytest.raises(UserError) as refusal:
        parse()
    offered = re.findall(r"configs/\S+\.py", str(refusal.value))
    cards = [p for p in Path("configs").rglob("*.py") if "Command:" in p.read_text()]
    assert sorted(offered) == sorted(map(str, cards))


def test_an_empty_value_of_a_flag_is_not_its_default():
    with pytest.raises(UserError, match=r"^--workdir is empty: give it a value, or leave it out\.$"):
        parse(DIGITS, "--workdir=")
    with pytest.raises(UserError, match="--workdir is empty"):
        parse(DIGITS, "--workdir", "")


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
    assert cli.default_workdir(path, config) == os.path.join("runs", name)


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


def test_neither_help_nor_refusals_import_jax(tmp_path):
    code = (
        "import sys\nfrom scarlet_jax.commands import entry\n"
        "try:\n  entry.start('run', 'scarlet run')\n"
        "finally:\n  print('jax' in sys.modules, file=sys.stderr)\n"
    )
    refused = ("round=3", "method.beta=-1", "method.prox_mu=1", "method.name=scarlt", "cache.ratio=2")
    for args, status in ((["--help"], 0), *(([DIGITS, f"--config.{field}"], 1) for field in refused)):
        done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == status
        assert done.stderr.splitlines()[-1] == "False"


def test_a_refusal_goes_to_stderr_with_exit_code_1():
    done = launch(DIGITS, "--config.participatoin=0.5")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "The config has no field 'participatoin' (did you mean config.participation?).\n"


@pytest.mark.parametrize(
    ("body", "status", "stderr"),
    [
        ("return None", 0, ""),
        ("return {'a': 'summary'}", 0, ""),
        ("return 143", 143, ""),
        ("raise UserError('no such data')", 1, "no such data.\n"),
        ("logging.info('chatter')", 0, ""),
    ],
)
def test_what_main_does_becomes_the_exit_code(body, status, stderr):
    code = (
        "from absl import logging\nfrom scarlet_jax.commands import command_line as cli\n"
        "from scarlet_jax.errors import UserError\n"
        f"def main(config, config_path, flag_values):\n  {body}\n"
        "cli.run(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, DIGITS], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (status, stderr)
