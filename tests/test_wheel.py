"""The package as pip installs it: what is in the wheel, and that it runs in another folder than the checkout."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import scarlet_jax
from scarlet_jax.models.conv.native import build as native
from tests.support.harness import TINY, environment

ROOT = Path(__file__).resolve().parents[1]
SIZE = [f"--config.{name}={value}" for name, value in (TINY | {"rounds": 1, "model.client": "cnn"}).items()]


def tracked() -> list[str]:
    """Every file and link of the repository that is there, as a path from its top."""
    names = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True).split("\0")
    return [name for name in names if name and (ROOT / name).exists()]


def packaged(names: list[str]) -> dict[str, Path]:
    """Path in the package -> file. A tracked link to a folder stands for the files of that folder."""
    found = {}
    for name in names:
        file = ROOT / name
        if file.is_dir():
            inside = file.resolve().relative_to(ROOT)
            found |= {
                f"{name}/{Path(n).relative_to(inside)}": ROOT / n for n in names if Path(n).is_relative_to(inside)
            }
        else:
            found[name] = file
    return {name: file for name, file in found.items() if name.startswith("scarlet_jax/")}


def run(command, cwd, **extra):
    done = subprocess.run(command, cwd=cwd, env=environment() | extra, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of what is tracked: a file that only lies about in this checkout is not in it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run([*pip, f"--wheel-dir={out}", str(source)], source)
    [built] = out.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the package and its script, for the libraries of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    run([*pip, f"--target={folder}", str(wheel)], folder)
    return folder


@pytest.fixture
def call(installed, tmp_path, monkeypatch):
    """Call a command of the installed package in an empty folder; returns what it prints."""
    monkeypatch.setenv("PYTHONPATH", str(installed))  # comes before this checkout
    return lambda *command: run([sys.executable, *command], tmp_path)


def test_the_wheel_holds_the_tracked_files_of_the_package_and_the_cards(wheel):
    expected = packaged(tracked())
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert held == set(expected)
        for name, file in expected.items():
            assert archive.read(name) == file.read_bytes(), name
    for name in ("configs/digits.py", "configs/paper/cifar10.py", "models/conv/native/ffi.cc", "py.typed"):
        assert f"scarlet_jax/{name}" in held


def test_the_image_of_docker_holds_what_the_wheel_holds():
    """Docker's COPY takes what .dockerignore does not leave out: all but a list."""
    first, *lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert first == "*"
    taken = {line[1:] for line in lines if line.startswith("!")}
    assert {line for line in lines if not line.startswith("!")} == {"**/__pycache__"}
    names = tracked()
    needed = {*packaged(names).values(), *(ROOT / name for name in names if name.startswith("scarlet_jax/"))}
    assert {file.relative_to(ROOT).parts[0] for file in needed} <= taken
    assert {name for name in taken if not (ROOT / name).exists()} == set()
    copied = [line.split()[1:-1] for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("COPY ")]
    assert copied[-1] == ["."]
    assert {Path(name).parts[0] for names in copied[:-1] for name in names} <= taken


def test_the_installed_package_is_the_one_that_is_tested(call, installed):
    code = "import scarlet_jax as s; print(s.__file__); print(s.__version__); print(s.get_config('digits:dsfl').rounds)"
    file, version, rounds = call("-c", code).splitlines()
    assert Path(file).is_relative_to(installed)
    assert (version, rounds) == (scarlet_jax.__version__, "30")


def test_a_run_and_its_report_in_another_folder(call, installed, tmp_path):
    """With the native convolution, whose sources come from the wheel, where there is a compiler."""
    conv = "native" if native.find_compiler() else "cpu"
    scarlet = installed / "bin" / "scarlet"
    printed = call(scarlet, "run", "--config=digits", *SIZE, f"--config.model.conv={conv}")
    assert "workdir: runs/digits-scarlet-s0\n" in printed
    workdir = tmp_path / "runs" / "digits-scarlet-s0"
    assert json.loads((workdir / "summary.json").read_text())["complete"]
    [start] = json.loads((workdir / "environment.json").read_text())["starts"]
    assert start["choices"]["conv"] == conv
    assert "written: report/report.html" in call(scarlet, "report", workdir, "--out=report")
    assert (tmp_path / "report" / "report.html").is_file()


def test_the_other_commands_in_another_folder(call, installed, tmp_path):
    scarlet = installed / "bin" / "scarlet"
    assert call(scarlet, "--version") == f"scarlet_jax {scarlet_jax.__version__}\n"
    assert "30 rounds of scarlet: D = 10 rounds" in call(scarlet, "plan", "--config=digits", "--notable")
    assert "10 classes" in call(scarlet, "data", "--config=digits", "--out=partition")
    assert (tmp_path / "partition" / "partition.csv").is_file()
    help_of_sweep = call("-m", "scarlet_jax", "sweep", "--help")
    assert help_of_sweep.startswith("python -m scarlet_jax sweep --config=FILE")
    # The fields have their comments: configs/base.py is read from the package.
    assert "communication rounds" in help_of_sweep
