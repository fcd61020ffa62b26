"""Runs whose files were damaged, hidden, exchanged or taken away: nothing that was written is lost."""

import errno
import json
import logging
import os
import shutil
import subprocess

import pytest

import scarlet_jax
from scarlet_jax import build
from scarlet_jax.data import federation as federation_data
from scarlet_jax.runtime import checkpoint, checkpoint_record, writers
from tests.support import harness
from tests.support.compiling import with_round
from tests.support.harness import assert_same_run, command, rows, tiny

pytestmark = pytest.mark.usefixtures("shared_programs")


def held(path):
    """Every file below a path, with its bytes, but the lock."""
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.name != ".lock" and p.is_file()}


def refused(path, match, **fields):
    """The sentence with which a run is refused; nothing in its workdir changes."""
    before = held(path)
    with pytest.raises(scarlet_jax.UserError, match=match) as refusal:
        scarlet_jax.run(tiny(**fields), path)
    assert held(path) == before and "\n" not in str(refusal.value) and str(refusal.value).endswith(".")
    return str(refusal.value)


@pytest.fixture
def every(tmp_path):
    """A run of three rounds with a checkpoint after each; two more rounds are asked for by the tests."""
    path = tmp_path / "every"
    scarlet_jax.run(tiny(rounds=3, checkpoint__every=1, checkpoint__keep=3), path)
    return path


FIVE = {"rounds": 5, "checkpoint__every": 1, "checkpoint__keep": 3}


@pytest.fixture
def five(tmp_path):
    scarlet_jax.run(tiny(**FIVE), tmp_path / "five")
    return tmp_path / "five"


def test_folders_without_rights_are_refused_and_afterwards_the_run_goes_on(unfinished, finished):
    """As a user who obeys permissions."""
    federation = unfinished / "checkpoints" / "2" / "federation"
    federation.chmod(0)
    try:
        before = {p: p.stat().st_mtime_ns for p in unfinished.rglob("*") if p.name != ".lock"}
        ended = subprocess.run(
            harness.obeying(command(unfinished)), cwd=harness.ROOT, env=harness.environment(),
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        after = {p: p.stat().st_mtime_ns for p in unfinished.rglob("*") if p.name != ".lock"}
    finally:
        federation.chmod(0o755)
    assert ended.returncode == 1 and before == after
    assert ended.stderr.splitlines()[-1] == (
        f"checkpoint {unfinished}/checkpoints/2 cannot be read ({federation}: permission denied); this is no "
        "damage, and all stays as it is: mend that, then give the same command again."
    )
    scarlet_jax.run(tiny(), unfinished)
    assert_same_run(unfinished, finished)
    assert not (unfinished / "checkpoints_damaged").exists()


@pytest.mark.parametrize("name", ["metrics.jsonl", "metrics.csv"])
def test_one_garbage_line_costs_nothing(unfinished, finished, name):
    lines = (unfinished / name).read_text().splitlines(keepends=True)
    (unfinished / name).write_text("".join([lines[0], "garbage\n", *lines[2:]]))
    scarlet_jax.run(tiny(), unfinished)
    assert_same_run(unfinished, finished)


def test_a_finished_run_restores_its_rows_without_loading_data(again, finished, monkeypatch):
    monkeypatch.setattr(federation_data, "load", lambda _: pytest.fail("data were loaded"))
    (again / "metrics.jsonl").write_text("garbage\n")
    scarlet_jax.run(tiny(), again)
    assert_same_run(again, finished)


def test_a_finished_run_is_summarised_whatever_its_checkpoints_are(again, monkeypatch):
    monkeypatch.setattr(checkpoint_record, "survey", lambda _: pytest.fail("checkpoints were read"))
    (again / "checkpoints" / "99").mkdir()
    assert scarlet_jax.run(tiny(), again)["complete"]


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "null", '{"complete": true}', "\0\0\0"])
@pytest.mark.parametrize("which", ["again", "unfinished"])
def test_a_torn_summary_is_written_again(request, which, finished, content):
    path = request.getfixturevalue(which)
    (path / "summary.json").write_text(content)
    scarlet_jax.run(tiny(), path)
    assert_same_run(path, finished)


def test_a_torn_summary_without_checkpoints_still_says_that_there_was_one(again):
    shutil.rmtree(again / "checkpoints")
    (again / "summary.json").write_text("")
    refused(again, "has done 4 rounds, but no checkpoint is left")
    (again / "summary.json").unlink()
    refused(again, "has done 4 rounds, but no checkpoint is left")


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", '{"run": "a", "starts": []}', '{"starts": [{"choices": {}}]}']
)
def test_the_run_s_id_and_choices_come_back_from_a_checkpoint(unfinished, finished, content, caplog):
    path = unfinished / "environment.json"
    before = json.loads(path.read_text())
    path.unlink() if content is None else path.write_text(content)
    with caplog.at_level(logging.WARNING):
        scarlet_jax.run(tiny(), unfinished)
    after = json.loads(path.read_text())
    assert after["run"] == before["run"] and len(after["starts"]) == 1
    assert after["starts"][0]["choices"] == before["starts"][0]["choices"]
    assert (
        f"{path} is {'gone' if content is None else 'damaged, and kept as environment.json.damaged-1'}" in caplog.text
    )
    if content is not None:
        assert (unfinished / "environment.json.damaged-1").read_text() == content
    assert_same_run(unfinished, finished)


def test_choices_of_the_checkpoint_are_used_where_the_environment_is_gone(unfinished, monkeypatch):
    place = unfinished / "checkpoints" / "2"
    record = checkpoint_record.read(place)
    record["choices"] = {"conv": "winograd", "clients_per_chunk": 3}
    (place / "record" / "metadata").write_text(json.dumps(checkpoint_record.seal(record)))
    (unfinished / "environment.json").unlink()
    chosen = []
    monkeypatch.setattr(build, "make_algorithm", lambda *arguments: chosen.append(arguments[-1]) or pytest.skip())
    with pytest.raises(pytest.skip.Exception):
        scarlet_jax.run(tiny(), unfinished)
    assert chosen == [build.Chosen("winograd", (3,), 2)]


@pytest.mark.parametrize("content", [None, "", '{"lr": 0.1}'])
def test_a_torn_config_is_that_of_the_checkpoint(unfinished, finished, content):
    path = unfinished / "config.json"
    path.unlink() if content is None else path.write_text(content)
    refused(unfinished, "lr was 0.1 and is now 0.05", lr=0.05)
    scarlet_jax.load_server(unfinished)
    scarlet_jax.run(tiny(), unfinished)
    assert_same_run(unfinished, finished)
    assert path.read_text() == (finished / "config.json").read_text()


def test_a_torn_config_that_no_checkpoint_holds_is_refused(unfinished):
    shutil.rmtree(unfinished / "checkpoints")
    (unfinished / "config.json").write_text("{")
    refused(unfinished, r"config\.json is damaged \(.*\); restore it, or give --workdir another directory")


def test_an_empty_folder_is_no_checkpoint(unfinished, finished):
    (unfinished / "checkpoints" / "99").mkdir()
    scarlet_jax.run(tiny(), unfinished)
    assert_same_run(unfinished, finished)
    assert checkpoint.steps(unfinished) == [2, 4]


@pytest.mark.parametrize("gone", ["partition.npz", "partition.csv", "partition.png"])
@pytest.mark.parametrize("empty", [False, True])
def test_a_missing_partition_is_written_again(unfinished, gone, empty):
    before = (unfinished / gone).read_bytes()
    (unfinished / gone).write_bytes(b"") if empty else (unfinished / gone).unlink()
    scarlet_jax.run(tiny(), unfinished)
    assert (unfinished / gone).read_bytes() == before


def test_deleted_events_are_written_again(unfinished, finished):
    shutil.rmtree(unfinished / "tensorboard")
    scarlet_jax.run(tiny(), unfinished)
    board, original = harness.scalars(unfinished), harness.scalars(finished)
    assert board == original | {"seconds": board["seconds"]}


def test_checkpoints_of_another_run_are_refused(every, tmp_path):
    other = tmp_path / "other"
    scarlet_jax.run(tiny(rounds=4, lr=0.02, checkpoint__every=1), other)
    shutil.copytree(other / "checkpoints" / "4", every / "checkpoints" / "4")
    sentence = refused(every, r"checkpoint .*/4 is of another run \(.*; the run in this workdir is .*\)", **FIVE)
    assert "damage" not in sentence
    (every / "environment.json").unlink()  # now the newest checkpoint seems to know: the others contradict it
    refused(every, r"checkpoint .*/3 is of another run", **FIVE)


def test_a_checkpoint_copied_as_a_later_one_is_refused(every, five):
    shutil.copytree(every / "checkpoints" / "3", every / "checkpoints" / "9")
    refused(every, "/9 holds the state after 3 rounds, not 9", **FIVE)
    shutil.rmtree(every / "checkpoints" / "9")
    scarlet_jax.run(tiny(**FIVE), every)
    assert_same_run(every, five)


def test_exchanged_checkpoints_are_refused(every, five):
    names = [every / "checkpoints" / name for name in ("2", "aside", "3")]

    def exchange():
        for old, new in ((0, 1), (2, 0), (1, 2)):
            names[old].rename(names[new])

    exchange()
    refused(every, "/3 holds the state after 2 rounds, not 3: its folder was copied or renamed", **FIVE)
    exchange()
    scarlet_jax.run(tiny(**FIVE), every)
    assert_same_run(every, five)


def test_another_version_of_the_program_is_refused_and_not_called_damaged(unfinished, monkeypatch):
    monkeypatch.setattr(checkpoint_record, "SEMANTICS", checkpoint_record.SEMANTICS + 1)
    assert "damage" not in refused(unfinished, "written by another version of the program")


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
    monkeypatch.setattr(federation_data, "load", lambda config: shutil.rmtree(path) or load(config))
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
