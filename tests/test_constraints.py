"""constraints.txt pins what pyproject.toml asks for, once for each Python."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def pins(python):
    """Name -> the versions that a constraint allows on this Python."""
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if not line.startswith("#"):
            requirement = Requirement(line)
            [exact] = requirement.specifier
            assert exact.operator == "==", line
            if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
                found.setdefault(canonicalize_name(requirement.name), []).append(exact.version)
    return found


def required():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [Requirement(text) for text in (*project["dependencies"], *extras["test"], *extras["gpu-aot"])]


@pytest.mark.parametrize("python", PYTHONS)
def test_every_requirement_has_one_version_that_it_allows(python):
    pinned = pins(python)
    assert {name: versions for name, versions in pinned.items() if len(versions) != 1} == {}
    for requirement in required():
        [version] = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement


@pytest.mark.parametrize(("python", "jax"), [("3.11", "0.10"), ("3.12", "0.12"), ("3.13", "0.12")])
def test_the_parts_of_jax_are_of_one_version(python, jax):
    pinned = pins(python)
    [version] = {pinned[name][0] for name in ("jax", "jaxlib", "jax-cuda12-pjrt", "jax-cuda12-plugin")}
    assert version.startswith(f"{jax}.")
