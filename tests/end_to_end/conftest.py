"""Runs that several tests look at. In this process, equal programs are compiled once for all tests."""

import shutil

import pytest

import scarlet_jax
from scarlet_jax.runtime import workdir
from tests.support import harness
from tests.support.compiling import compilations, compiling_quickly, share_programs


@pytest.fixture
def shared_programs(monkeypatch):
    share_programs(monkeypatch)


@pytest.fixture(autouse=True)
def _quick(quick_compilation):
    """What is tested here is how runs begin, stop and go on; test_devices uses processes of its own."""


@pytest.fixture(scope="session")
def _finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("finished") / "run"
    with compiling_quickly(), pytest.MonkeyPatch.context() as patch:
        share_programs(patch)
        with compilations(patch) as compiled:
            scarlet_jax.run(harness.tiny(), path)
    return path, compiled


@pytest.fixture
def compiled_by_finished(_finished):
    """What `compiling.compilations` counted in that run."""
    return _finished[1]


@pytest.fixture
def finished(_finished):
    """The workdir of an undisturbed run of `harness.tiny()`, to be read only."""
    return _finished[0]


@pytest.fixture
def again(_finished, tmp_path):
    """A copy of it, to be spoilt."""
    path = tmp_path / "again"
    shutil.copytree(_finished[0], path)
    return path


@pytest.fixture
def unfinished(again):
    """A copy as a kill in round 4 would leave it: a checkpoint after 2 rounds, rows beyond it, half a line."""
    shutil.rmtree(again / "checkpoints" / "4")
    (again / "summary.json").unlink()
    for name in ("metrics.jsonl", "metrics.csv", "clients.csv"):
        text = (again / name).read_text()
        (again / name).write_text(text[: len(text) - 20])
    assert workdir.read_json(again / "config.json")["rounds"] == 4
    return again
