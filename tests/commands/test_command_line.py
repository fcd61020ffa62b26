"""What is typed behind a command: overrides, configs by name or file, and what is wrong with them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from configs import base
from scarlet_jax.errors import UserError
from scarlet_jax.methods import METHODS
from scarlet_jax.options import fields
from tests.support.command_lines import parse
from tests.support.harness import launch

ROOT = Path(__file__).resolve().parents[2]
DIGITS = "--config=configs/digits.py"
pytestmark = pytest.mark.usefixtures("at_the_root")


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
    "float": ([DIGITS, "--config.lr=fast"], ["config.lr is 'fast'; allowed is open (None) or a number above 0"]),
    "bool": ([DIGITS, "--config.same_init=maybe"], ["config.same_init is 'maybe'; allowed is true or false."]),
    "open int": (
        [DIGITS, "--config.cache.duration=none"],
        ["config.cache.duration is 'none'; allowed is open (None) or a whole number from 0"],
    ),
    "open float": (
        [DIGITS, "--config.method.beta=x"],
        ["config.method.beta is 'x'; allowed is open (None) or a number"],
    ),
    "empty value": ([DIGITS, "--config.lr="], ["config.lr is ''; allowed is open (None) or a number above 0"]),
    "no value": ([DIGITS, "--config.rounds"], ["Missing value", "config.rounds"]),
    "unknown flag": ([DIGITS, "--wokdir=x"], ["no flag --wokdir", "--workdir?"]),
    "field as a flag": ([DIGITS, "--rounds=3"], ["no flag --rounds", "--config.rounds=VALUE"]),
    "group field as a flag": ([DIGITS, "--duration=3"], ["no flag --duration", "--config.cache.duration?"]),
    "not a bool": ([DIGITS, "--noconfig.rounds"], ["no flag --noconfig.rounds"]),
    "positional": ([DIGITS, "rounds=3"], ["'rounds=3'", "--config.FIELD=VALUE"]),
    "a value out of range": ([DIGITS, "--config.rounds=0"], ["config.rounds is 0; allowed is a whole number from 1"]),
    "open, where it cannot be": (
        [DIGITS, "--config.momentum=open"],
        ["config.momentum is 'open'; allowed is a number of at least 0"],
    ),
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
    texts = {"stop.server_top1": (0.5, 1), "stop.client_top1": (0.5, 1)}
    texts |= {
        "model.precision": ("float32", "bfloat16"),
        "kd_optimizer": ("sgd", "adam"),
        "method.average": ("images", "clients"),
        "lr_milestones": ("1", "2,3"),
    }
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


def test_an_empty_value_of_a_flag_is_not_its_default():
    with pytest.raises(UserError, match=r"^--workdir is empty: give it a value, or leave it out\.$"):
        parse(DIGITS, "--workdir=")
    with pytest.raises(UserError, match="--workdir is empty"):
        parse(DIGITS, "--workdir", "")


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
