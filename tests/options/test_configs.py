"""The experiments of the paper as configs: each loads, is valid, and is what the table in its documentation says."""

import re
import shlex
from pathlib import Path

import pytest
from absl import flags

from scarlet_jax.commands import command_line as cli
from scarlet_jax.commands import config_files, sweep
from scarlet_jax.options.rules import validate
from scarlet_jax.preview import checks
from scarlet_jax.training_tables import resolved

ROOT = Path(__file__).resolve().parents[2]
PAIRS = {
    "cifar10": ("cifar100", "resnet20"), "cifar100": ("tiny_imagenet", "resnet20"),
    "tiny_imagenet": ("caltech256", "resnet18_torchvision"),
}  # fmt: skip
FILES = [f"configs/{folder}/{name}.py" for folder in ("paper", "small") for name in PAIRS]
METHODS = ("scarlet", "dsfl", "cfd", "comet", "selective_fd", "individual", "dsfl+cache", "comet+cache")


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def parse(*args: str):
    flag_values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "help", flag_values=flag_values)
    return cli.parse(["launch.py", *args], flag_values)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("method", METHODS)
def test_every_config_is_valid_with_every_method(file, method):
    config, path = parse(f"--config={file}:{method}")
    validate(config)
    checks.check(config)
    _, folder, name = Path(file).with_suffix("").parts
    assert config_files.default_workdir(path, config) == f"runs/{folder}-{name}-{method}-s0"
    assert (config.data.private, config.data.public) == (name, PAIRS[name][0])
    assert config.method.beta == (1.0 if method == "scarlet" else None)


@pytest.mark.parametrize("name", PAIRS)
def test_the_published_values(name):
    config, _ = parse(f"--config=configs/paper/{name}.py")
    assert (config.num_clients, config.partition.alpha, config.public_size, config.public_per_round) == (
        100, 0.3, 10_000, 1_000,
    )  # fmt: skip
    assert (config.batch_size, config.kd_batch_size, config.epochs, config.kd_epochs) == (100, 100, 5, 5)
    rates = resolved(config)
    assert (rates["optimizer"], rates["lr"], rates["kd_lr"], config.rounds) == ("sgd", 0.1, 0.1, 2_000)
    assert (config.cache.duration, config.cache.ratio) == (50, 1.0)
    assert config.model.client == config.model.server == PAIRS[name][1]


def commands(file: str) -> list[list[str]]:
    """Every command in the card of a config, one for each value of its loop."""
    text = (ROOT / file).read_text().split('"""')[1].replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        line = re.sub(r"^(Command:)?\s*", "", line)
        loop = re.match(r"for (\w) in (.*); do (.*); done$", line)
        values, body = (loop[2].split(), loop[3]) if loop else ([""], line)
        if body.startswith("python "):
            found += [shlex.split(body.replace(f"${loop[1]}", value) if loop else body) for value in values]
    return found


@pytest.mark.parametrize("name", PAIRS)
def test_every_documented_command_is_understood(name):
    every = commands(f"configs/paper/{name}.py")
    assert len(every) == 1 + 2 + 5 + 6 + 10 + 4
    workdirs = set()
    for _, program, *args in every:
        if program == "launch.py":
            config, _ = parse(*args)
            validate(config)
            workdirs.add(args[-1])
        else:
            assert args.pop(0) == "scarlet_jax.sweep"
            flag_values = flags.FlagValues()
            sweep.define_flags(flag_values)
            _, path = cli.parse(["sweep", *args], flag_values)
            for _, config in sweep.plan(path, args, flag_values.methods, flag_values.seeds):
                validate(config)
            workdirs.add(flag_values.out)
    assert len(workdirs) == len([args for args in every if args[1] == "launch.py"]) + 2


def test_a_nested_config_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config_files.load_config(str(ROOT / "configs/small/cifar100.py"), "dsfl").method.name == "dsfl"
