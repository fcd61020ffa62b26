"""What the files around the code say of it: make targets, paths and commands exist."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROSE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / ".github").rglob("*.md"), *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_only_calls_make(file):
    """And the actions that fetch the source and Python, and keep the wheel."""
    steps = [step for job in yaml.safe_load(file.read_text())["jobs"].values() for step in job["steps"]]
    commands = [shlex.split(step["run"]) for step in steps if "run" in step]
    assert {make for make, *_ in commands} == {"make"}
    assert {target for _, target, *_ in commands} <= TARGETS
    actions = {step["uses"].split("@")[0] for step in steps if "uses" in step}
    assert actions <= {"actions/checkout", "actions/setup-python", "actions/upload-artifact"}


def test_the_workflows_test_check_and_build():
    text = "".join(file.read_text() for file in WORKFLOWS)
    assert {"test", "check", "wheel"} <= set(re.findall(r"make (\w+)", text))
    assert 'python: ["3.11", "3.13"]' in text


def test_the_targets_that_are_named_exist():
    named = set(re.findall(r"(?:`|^    )make ([\w-]+)", "\n".join(file.read_text() for file in PROSE), re.MULTILINE))
    assert {"setup", "test", "check", "run"} <= named <= TARGETS
    listed = subprocess.check_output(["make", "--no-print-directory", "help"], cwd=ROOT, text=True)
    assert set(re.findall(r"^make ([\w-]+)", listed, re.MULTILINE)) == TARGETS - {"help"}


def test_the_paths_of_contributing_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rooms = [name for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall("`(.*?)`", row)]
    for name in rooms:
        assert (ROOT / "scarlet_jax" / name).exists(), name
    packages = {f"{file.parent.name}/" for file in (ROOT / "scarlet_jax").glob("*/__init__.py")}
    assert packages <= set(rooms)
    for name in re.findall(r"`((?:tests|tools|configs|docs|methods|models|data|options)/[\w/.]*)`", text):
        assert (ROOT / name).exists() or (ROOT / "scarlet_jax" / name).exists(), name


def test_pre_commit_calls_what_is_installed():
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    assert [shlex.split(hook["entry"])[:2] for hook in repository["hooks"]] == [
        [".venv/bin/ruff", "check"],
        [".venv/bin/ruff", "format"],
    ]
