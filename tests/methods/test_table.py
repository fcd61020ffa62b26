"""A new method of the package is one file and one entry of the table: everything else is made from these."""

import csv
import inspect
import shutil
import subprocess
import sys
import types

import pytest
from absl import flags

from configs import base
from scarlet_jax import methods
from scarlet_jax.commands import command_line as cli
from scarlet_jax.commands import help, plan, sweep
from scarlet_jax.errors import UserError
from scarlet_jax.methods import METHODS, Ask, Entry, Parameter, load
from scarlet_jax.options import fields
from scarlet_jax.report import group_runs, style
from scarlet_jax.report.runs import planned
from tests.support.harness import ROOT, environment
from tests.support.harness import flags as tiny_flags

FILE = '''"""Distillation from a mean that is weighted by confidence."""

import jax.numpy as jnp

from scarlet_jax.methods.base import Method, stateless


def loud(power: float = 2.0, weight: int = 1) -> Method:
    """Mean over the clients, each soft label weighted by its largest probability to the given power."""

    def aggregate(uploads):
        own = jnp.where(uploads.sent, jnp.max(uploads.probs, -1) ** power, 0)
        total = jnp.einsum("mp,mpc->pc", own, uploads.probs)
        return total / jnp.maximum(jnp.sum(own, 0), 1e-9)[:, None]

    return Method(stateless(aggregate))
'''
# Another method has a `weight`, of another type.
ENTRY = """Entry(
    "scarlet_jax.methods.loud:loud",
    "Loud",
    {
        "power": Parameter(2.0, "exponent of the weight", 0, 8, traced=True, synonyms=("loudness",)),
        "weight": Parameter(1, "of nothing", 1, 3, kind=int),
    },
    {"kd_epochs": Ask("but loud distils", 1)},
    duration=3,
)"""
OPTIONS = [flag for flag in tiny_flags(rounds=2) if not flag.startswith(("--config=", "--config.cache"))]


@pytest.fixture
def loud(monkeypatch):
    """The method, in this process."""
    module = types.ModuleType("scarlet_jax.methods.loud")
    exec(FILE, module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(METHODS, "loud", eval(ENTRY, {"Entry": Entry, "Parameter": Parameter, "Ask": Ask}))
    monkeypatch.chdir(ROOT)


def parse(*arguments: str):
    return cli.parse(["scarlet", "--config=configs/digits.py", *arguments], flags.FlagValues())[0]


@pytest.mark.parametrize("name", METHODS)
def test_an_entry_repeats_the_parameters_of_its_builder(name):
    entry = METHODS[name]
    for reference in (entry.builder, *([entry.gradient[1]] if entry.gradient else [])):
        assert list(inspect.signature(load(reference)).parameters) == list(entry.parameters)
    for key, own in methods.signature(load(entry.builder)).items():
        said = entry.parameters[key]
        assert (own.default, own.kind) == (said.default, said.kind) and said.help
        assert not said.traced or own.kind is float


def test_every_default_is_in_its_range():
    for name, entry in METHODS.items():
        for key, own in entry.parameters.items():
            if own.default is not None:
                parse(f"--config.method.name={name}", f"--config.method.{key}={own.default}")


def test_help_describes_a_new_method(loud):
    text = help.render(base.get_config(), (ROOT / "configs/base.py").read_text(), None, [], "run", "", [])
    words = " ".join(text.split())
    assert "fedproto, loud, or MODULE:FUNCTION" in words
    assert "method.power open loud: exponent of the weight (open: 2.0)" in words
    assert "comet: factor of the distillation loss (open: 1.0). fedproto: factor of the distance" in words
    assert "(lambda) (open: 1.0). loud: of nothing (open: 1)" in words
    assert "(open: scarlet 50, loud 3, others 0)" in words


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--config.method.power=-1"], r"method\.power is -1\.0; allowed is open \(None\) or a number from 0 to 8\."),
        (["--config.method.power=9"], r"method\.power is 9\.0; allowed is open \(None\) or a number from 0 to 8\."),
        (["--config.method.power=x"], r"method\.power is 'x'; allowed is open \(None\) or a number from 0 to 8\."),
        (["--config.method.weight=1.5"], r"method\.weight is '1\.5'; allowed is .* a whole number from 1 to 3\."),
        (["--config.method.beta=1"], r"beta is 1\.0, but method loud .* \(loud has method\.power, method\.weight\)"),
        (["--config.kd_epochs=0"], r"kd_epochs is 0, but loud distils; allowed is at least 1\."),
        (["--config.loudness=1"], r"did you mean config\.method\.power\?"),
    ],
)
def test_a_new_method_refuses_what_its_entry_excludes(loud, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        parse("--config.method.name=loud", *arguments)


def test_a_field_of_two_methods_has_the_type_of_the_one_chosen(loud):
    for name, value in (("loud", 2), ("comet", 0.5)):
        config = parse(f"--config.method.name={name}", f"--config.method.weight={value}")
        assert fields.method_parameters(config)["weight"] == value and type(config.method.weight) is type(value)


def test_a_card_gives_a_new_method_with_a_cache_of_its_own_the_duration_of_the_card(loud):
    assert parse("--config.method.name=loud").cache.duration == 10
    assert parse("--config.method.name=dsfl").cache.duration is None


@pytest.mark.usefixtures("quick_compilation")
def test_a_new_method_is_run_planned_swept_and_reported(loud, tmp_path, monkeypatch, capsys):
    arguments = [*OPTIONS, "--config.method.name=loud", "--config.method.power=1", "--notable"]
    values = flags.FlagValues()
    plan.define_flags(values)
    config, path = cli.parse(["plan", "--config=configs/digits.py", *arguments], values)
    plan.main(config, path, values)
    assert "2 rounds of loud: D = 10 rounds" in capsys.readouterr().out

    monkeypatch.setattr("sys.argv", ["sweep", "--config=configs/digits.py", *OPTIONS])
    values = flags.FlagValues()
    sweep.define_flags(values)
    values(["sweep", f"--out={tmp_path}", "--methods=loud,dsfl", "--baseline=LOUD"])
    assert sweep.main(None, "configs/digits.py", values) == 0
    table = list(csv.DictReader((tmp_path / "report" / "table.csv").open()))
    assert [row["label"] for row in table] == ["Loud", "DS-FL"]


def groups_of(*names: str):
    configs = [{"seed": 0, "method": {"name": name}, "cache": {"duration": None}} for name in names]
    return group_runs([planned(ROOT / f"run{i}", config) for i, config in enumerate(configs)])


def test_every_method_has_a_look_and_a_title_of_its_own_in_reports(loud):
    names = [*METHODS, "mine.of_mine:Build", "mine.of_mine:other"]
    groups = groups_of(*names)
    assert [group.label for group in groups][-3:] == ["Loud, D=3", "mine.of_mine:Build", "mine.of_mine:other"]
    looks = style.looks(groups)
    assert len(set(looks)) == len({look.marker for look in looks}) == len(names)
    # A method looks the same whatever it is shown with.
    assert style.looks(groups_of("dsfl", "scarlet")) == [looks[1], looks[0]]


@pytest.mark.usefixtures("quick_compilation")
def test_a_copy_of_the_package_with_one_more_file_and_one_more_entry_is_complete(tmp_path):
    for name in ("scarlet_jax", "configs"):
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=ignored)
    folder = tmp_path / "scarlet_jax" / "methods"
    (folder / "loud.py").write_text(FILE)
    text = (folder / "__init__.py").read_text()
    end = "\n}  # fmt: skip\n"
    assert text.count(end) == 1, "the end of the table"
    (folder / "__init__.py").write_text(text.replace(end, f'\n    "loud": {ENTRY},\n{end}'))

    def call(*arguments):
        command = [sys.executable, "-m", "scarlet_jax", *arguments]
        env = environment() | {"PYTHONPATH": str(tmp_path)}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)

    done = call("run", "--help")
    assert done.returncode == 0 and "loud: exponent of the weight (open: 2.0)" in " ".join(done.stdout.split())
    done = call("run", "--config=digits:loud", "--config.method.power=9")
    assert done.returncode == 1
    assert done.stderr == "config.method.power is 9.0; allowed is open (None) or a number from 0 to 8.\n"
    done = call("sweep", "--config=digits", "--methods=loud,loud+cache,individual", "--out=runs", *OPTIONS)
    assert done.returncode == 1 and "the same config and the same seed" in done.stderr
    done = call("sweep", "--config=digits", "--methods=loud,individual", "--out=runs", *OPTIONS)
    assert done.returncode == 0, done.stderr
    assert "Loud" in (tmp_path / "runs" / "report" / "table.md").read_text()
