"""Runs whose files were damaged, hidden or exchanged: nothing that was written is lost."""

import json
import logging
import shutil
import subprocess

import pytest

import scarlet_jax
from scarlet_jax import build
from scarlet_jax.data import federation as federation_data
from scarlet_jax.runtime import checkpoint, checkpoint_record
from tests.support import harness
from tests.support.harness import assert_same_run, command, tiny

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
