"""A run whose workdir is deleted, moved or changed while it lasts, or whose disk is full."""

import errno
import json
import os
import shutil

import pytest

import scarlet_jax
from scarlet_jax import build
from scarlet_jax.data import federation as federation_data
from scarlet_jax.runtime import checkpoint, writers
from tests.support.compiling import with_round
from tests.support.harness import assert_same_run, rows, tiny

pytestmark = pytest.mark.usefixtures("shared_programs")


def _during_round(monkeypatch, at, act):
    """Let `act` happen while round `at` is under way."""
    make = build.make_algorithm

    def acting(*args):
        algorithm, calls = make(*args), []

        def round_(*args, **kwargs):
            calls.append(1)
            if len(calls) == at + 1:
                act()
            return algorithm.round(*args, **kwargs)

        return with_round(algorithm, round_)

    monkeypatch.setattr(build, "make_algorithm", acting)


def _empty(path):
    for each in path.iterdir():
        if not each.name.startswith("."):  # as `rm -r RUN/*` does
            shutil.rmtree(each) if each.is_dir() else each.unlink()


TAKEN = {
    "deleted": (shutil.rmtree, ".lock, config.json"),
    "emptied": (_empty, "config.json, environment.json"),
    "without checkpoints": (lambda path: shutil.rmtree(path / "checkpoints"), "checkpoints"),
    "moved": (lambda path: path.rename(path.with_name("moved")), ".lock, config.json"),
    "recreated": (lambda path: shutil.rmtree(path) or path.mkdir(), ".lock, config.json"),
    "without a lock": (lambda path: (path / ".lock").unlink(), ".lock"),
    "without rows": (lambda path: (path / "metrics.jsonl").unlink(), "metrics.jsonl"),
    "written by another": (lambda path: (path / "metrics.csv").open("a").write("1"), "metrics.csv"),
}


def test_checkpoints_taken_away_while_one_is_written_are_named(tmp_path, monkeypatch):
    """What Orbax raises then depends on how far it is, and says nothing that a user understands."""

    def fail(self, rounds, state, record):
        self.wait()
        shutil.rmtree(tmp_path / "checkpoints")
        (tmp_path / "checkpoints").mkdir()
        raise ValueError("Save failed: 2/2 params are missing .zarray in checkpoint")

    save = checkpoint.Checkpoints.save
    monkeypatch.setattr(checkpoint.Checkpoints, "save", lambda *args: (save, save, fail)[args[1] // 2 - 1](*args))
    with pytest.raises(
        scarlet_jax.UserError, match=r"was deleted, moved or changed .* \(checkpoints/2, checkpoints/4\)"
    ):
        scarlet_jax.run(tiny(rounds=6), tmp_path)


def test_another_failure_is_not_taken_for_it(tmp_path, monkeypatch):
    def fail(self, rounds, state, record):
        raise ValueError("a bug")

    save = checkpoint.Checkpoints.save
    monkeypatch.setattr(checkpoint.Checkpoints, "save", lambda *args: (save, fail)[args[1] // 2 - 1](*args))
    with pytest.raises(ValueError, match="a bug"):
        scarlet_jax.run(tiny(), tmp_path)


@pytest.mark.parametrize("at", [0, 5])
def test_a_disk_that_is_full_in_the_middle_of_a_row_is_not_taken_for_it(tmp_path, monkeypatch, finished, at):
    """After `at` appended rows of any file, the next one is written by half."""
    appended = []

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, text):
            appended.append(text)
            if len(appended) <= at:
                return self.file.write(text)
            self.file.write(text[: len(text) // 2])
            self.file.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def half(path, mode="r", *args, **kwargs):
        file = open(path, mode, *args, **kwargs)  # noqa: SIM115 (the program closes it)
        return Full(file) if mode == "a" else file

    with monkeypatch.context() as patch:
        patch.setattr(writers, "open", half, raising=False)
        with pytest.raises(scarlet_jax.UserError, match="No space left|the disk is full"):
            scarlet_jax.run(tiny(), tmp_path)
    assert len(appended) == at + 1
    scarlet_jax.run(tiny(), tmp_path)
    assert_same_run(tmp_path, finished)


@pytest.mark.parametrize("at", [2, 3, 5])
@pytest.mark.parametrize("how", TAKEN)
def test_a_run_stops_where_its_workdir_is_taken_away(tmp_path, monkeypatch, how, at):
    """In a round before a checkpoint, in one while a checkpoint is being written, and in the last."""
    act, gone = TAKEN[how]
    path = tmp_path / "run"
    _during_round(monkeypatch, at, lambda: act(path))
    with pytest.raises(scarlet_jax.UserError) as stopped:
        scarlet_jax.run(tiny(rounds=6, checkpoint__every=3), path)
    assert str(stopped.value).startswith(
        f"workdir {path} was deleted, moved or changed while the run wrote to it ({gone}"
    )
    assert not (path / "summary.json").exists() or json.loads((path / "summary.json").read_text())["complete"] is False


def test_a_workdir_taken_away_while_data_are_loaded_is_not_made_again(tmp_path, monkeypatch):
    path, load = tmp_path / "run", federation_data.load
    monkeypatch.setattr(federation_data, "load", lambda *how: shutil.rmtree(path) or load(*how))
    with pytest.raises(scarlet_jax.UserError, match=r"was deleted, moved or changed .* \(\.lock, config\.json\)"):
        scarlet_jax.run(tiny(), path)
    assert not path.exists()


def test_a_run_whose_workdir_was_moved_goes_on_once_it_is_back(tmp_path, monkeypatch, finished):
    path, moved = tmp_path / "run", tmp_path / "moved"
    with monkeypatch.context() as patch:
        _during_round(patch, 3, lambda: path.rename(moved))
        with pytest.raises(scarlet_jax.UserError, match="deleted, moved or changed"):
            scarlet_jax.run(tiny(), path)
    assert not path.exists() or not any(os.scandir(path))
    shutil.rmtree(path, ignore_errors=True)
    moved.rename(path)
    scarlet_jax.run(tiny(), path)
    assert_same_run(path, finished)
    assert len(rows(path)) == 4
