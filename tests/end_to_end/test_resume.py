"""Stopping anyhow and starting again gives the bits of running through."""

import json
import logging
import shutil
import threading

import pytest

import scarlet_jax
from scarlet_jax import build
from scarlet_jax.data import federation as federation_data
from scarlet_jax.runtime import checkpoint, checkpoint_record, signals, workdir
from tests.support.compiling import with_round
from tests.support.harness import assert_same_bits, assert_same_run, rows, saved, scalars, tiny

pytestmark = pytest.mark.usefixtures("shared_programs")


def test_a_killed_run_goes_on_and_its_records_are_cut_back(unfinished, finished, capsys):
    summary = scarlet_jax.run(tiny(), unfinished)
    assert "resuming after 2 rounds" in capsys.readouterr().out
    assert summary["complete"] and summary["rounds"] == 4
    assert_same_run(unfinished, finished)
    board = scalars(unfinished)
    assert sorted(board["server_top1"]) == [0, 1, 2, 3]
    assert board == scalars(finished) | {"seconds": board["seconds"]}


def test_a_run_without_a_cache_resumes(tmp_path):
    fields = {"cache__duration": 0, "checkpoint__every": 1}
    scarlet_jax.run(tiny(**fields, rounds=1), tmp_path / "steps")
    for name in ("steps", "through"):
        scarlet_jax.run(tiny(**fields, rounds=2), tmp_path / name)
    assert_same_run(tmp_path / "steps", tmp_path / "through")


def test_a_run_killed_before_its_first_checkpoint_starts_anew(unfinished, finished, capsys):
    (unfinished / "checkpoints" / "2").rename(unfinished / "checkpoints" / "2.orbax-checkpoint-tmp")
    for name in ("metrics.jsonl", "metrics.csv"):  # the first checkpoint is waited for before round 3 is read
        lines = (unfinished / name).read_text().splitlines(keepends=True)
        (unfinished / name).write_text("".join(lines[: 2 + name.endswith("csv")]))
    scarlet_jax.run(tiny(), unfinished)
    assert "resuming" not in capsys.readouterr().out
    assert_same_run(unfinished, finished)
    assert sorted(p.name for p in (unfinished / "checkpoints").iterdir()) == ["2", "4"]


def test_a_run_killed_between_its_last_checkpoint_and_its_summary_is_finished(again, finished):
    (again / "summary.json").unlink()
    scarlet_jax.run(tiny(), again)
    assert_same_run(again, finished)


def test_a_stop_in_every_round_changes_nothing(finished, tmp_path, monkeypatch):
    """Each start does one round: the signal comes while the round is in flight."""
    make = build.make_algorithm

    def interrupted(*args):
        algorithm = make(*args)

        def round_(*args, **kwargs):
            result = algorithm.round(*args, **kwargs)
            stops[-1].handle(15, None)
            return result

        return with_round(algorithm, round_)

    stops = []
    monkeypatch.setattr(build, "make_algorithm", interrupted)
    monkeypatch.setattr(signals, "Stop", lambda stop=signals.Stop: stops.append(stop()) or stops[-1])
    for done in (1, 2, 3):
        with pytest.raises(SystemExit) as stopped:
            scarlet_jax.run(tiny(), tmp_path)
        assert stopped.value.code == 143
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert (summary["rounds"], summary["complete"]) == (done, False)
        assert checkpoint.steps(tmp_path)[-1] == done
    assert scarlet_jax.run(tiny(), tmp_path)["complete"]  # a signal in the last round changes nothing any more
    assert_same_run(tmp_path, finished)


def test_a_stop_during_set_up_ends_before_training(tmp_path, monkeypatch, capsys):
    load = federation_data.load
    stops = []
    monkeypatch.setattr(signals, "Stop", lambda stop=signals.Stop: stops.append(stop()) or stops[-1])
    monkeypatch.setattr(federation_data, "load", lambda *how: stops[-1].handle(2, None) or load(*how))
    with pytest.raises(SystemExit) as stopped:
        scarlet_jax.run(tiny(), tmp_path)
    assert stopped.value.code == 130
    assert "stopped by SIGINT after 0 rounds; the same command resumes it" in capsys.readouterr().out
    assert not (tmp_path / "metrics.jsonl").exists()


def test_more_rounds_continue_and_equal_a_longer_run(again, tmp_path):
    scarlet_jax.run(tiny(rounds=6), again)
    scarlet_jax.run(tiny(rounds=6), tmp_path / "longer")
    assert_same_run(again, tmp_path / "longer")


def test_fewer_rounds_than_done_are_refused(again):
    with pytest.raises(
        scarlet_jax.UserError, match=r"config\.rounds is 3, but the run in .* has done 4; allowed is at least 4"
    ):
        scarlet_jax.run(tiny(rounds=3), again)
    assert json.loads((again / "config.json").read_text())["rounds"] == 4


def test_a_raised_run_is_not_complete_until_it_is(again, monkeypatch):
    make = build.make_algorithm
    seen = []

    def watching(*args):
        algorithm = make(*args)

        def round_(*args, **kwargs):
            seen.append(json.loads((again / "summary.json").read_text())["complete"])
            return algorithm.round(*args, **kwargs)

        return with_round(algorithm, round_)

    monkeypatch.setattr(build, "make_algorithm", watching)
    scarlet_jax.run(tiny(rounds=5), again)
    assert seen == [False]
    assert json.loads((again / "summary.json").read_text())["complete"]


def test_a_finished_run_prints_its_summary_and_loads_nothing(again, monkeypatch, capsys):
    before = {p: p.stat().st_mtime_ns for p in again.rglob("*") if p.name != ".lock" and p.is_file()}
    monkeypatch.setattr(federation_data, "load", lambda _: pytest.fail("data were loaded"))
    monkeypatch.setattr(build, "make_algorithm", lambda *_: pytest.fail("something was built"))
    summary = scarlet_jax.run(tiny(), again)
    assert summary == json.loads((again / "summary.json").read_text())
    out = capsys.readouterr().out
    assert "this run is finished" in out and "MB up" in out and "served from the cache" in out
    assert before == {p: p.stat().st_mtime_ns for p in again.rglob("*") if p.name != ".lock" and p.is_file()}


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_damaged_newest_checkpoint_is_named_put_aside_and_skipped(again, finished, damage, caplog):
    files = [p for p in (again / "checkpoints" / "4" / "federation").rglob("*") if p.is_file()]
    victim = max(files, key=lambda p: p.stat().st_size)
    data = bytearray(victim.read_bytes())
    if damage == "truncate":
        victim.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)
    else:
        victim.unlink()
    (again / "summary.json").unlink()
    with caplog.at_level(logging.WARNING, logger="scarlet_jax"):
        scarlet_jax.run(tiny(), again)
    assert f"checkpoint {again / 'checkpoints' / '4'} is damaged" in caplog.text
    assert [p.name.split("-")[0] for p in (again / "checkpoints_damaged").iterdir()] == ["4"]
    assert_same_run(again, finished)


def test_with_all_checkpoints_damaged_the_run_is_refused_and_stays_as_it_is(again, monkeypatch):
    monkeypatch.setattr(federation_data, "load", lambda _: pytest.fail("data were loaded"))
    for path in (again / "checkpoints").glob("*/record/*"):
        path.write_text("{")
    (again / "summary.json").unlink()
    before = {p: p.read_bytes() for p in again.rglob("*") if p.name != ".lock" and p.is_file()}
    with pytest.raises(scarlet_jax.UserError, match=r"every checkpoint in .* is damaged \(4: .*; 2: .*\)"):
        scarlet_jax.run(tiny(), again)
    assert before == {p: p.read_bytes() for p in again.rglob("*") if p.name != ".lock" and p.is_file()}


@pytest.mark.parametrize("rounds", [6, 3])
@pytest.mark.parametrize("left", ["no folder", "an empty folder", "nothing but records"])
def test_a_run_whose_checkpoints_are_gone_is_refused_and_its_records_stay(again, monkeypatch, rounds, left):
    monkeypatch.setattr(federation_data, "load", lambda _: pytest.fail("data were loaded"))
    shutil.rmtree(again / "checkpoints")
    if left == "an empty folder":
        (again / "checkpoints").mkdir()
    if left == "nothing but records":
        (again / "metrics.jsonl").unlink()
    before = {p: p.read_bytes() for p in again.rglob("*") if p.name != ".lock" and p.is_file()}
    with pytest.raises(scarlet_jax.UserError) as refused:
        scarlet_jax.run(tiny(rounds=rounds), again)
    assert str(refused.value) == (
        f"the run in {again} has done 4 rounds, but no checkpoint is left in {again / 'checkpoints'} to go on from; "
        "restore that, or give --workdir another directory."
    )
    assert before == {p: p.read_bytes() for p in again.rglob("*") if p.name != ".lock" and p.is_file()}
    assert scarlet_jax.run(tiny(), again)["complete"]  # a finished one is still summarised


def test_a_run_that_lost_its_checkpoints_half_way_is_refused(tmp_path):
    scarlet_jax.run(tiny(rounds=2), tmp_path)
    (tmp_path / "checkpoints" / "2").rename(tmp_path / "elsewhere")
    with pytest.raises(scarlet_jax.UserError, match="has done 2 rounds, but no checkpoint is left"):
        scarlet_jax.run(tiny(), tmp_path)
    (tmp_path / "elsewhere").rename(tmp_path / "checkpoints" / "2")
    assert scarlet_jax.run(tiny(), tmp_path)["complete"]


def test_a_summary_waits_for_the_first_checkpoint_and_the_last(tmp_path, monkeypatch):
    """A kill while the first one is being written leaves no summary, which would say that there is a checkpoint."""
    events, write = [], workdir.write_json
    for name in ("save", "wait"):
        monkeypatch.setattr(checkpoint.Checkpoints, name, lambda *args, name=name: events.append(name))
    monkeypatch.setattr(workdir, "write_json", lambda path, value: events.append(path.stem) or write(path, value))
    scarlet_jax.run(tiny(rounds=6), tmp_path)
    events = [event for event in events if event not in ("config", "environment")]
    assert events == ["save", "wait", "summary", "save", "summary", "save", "wait", "summary"]


def test_another_config_is_refused_with_the_list_of_differences(again):
    with pytest.raises(scarlet_jax.UserError) as refused:
        scarlet_jax.run(tiny(lr=0.05, cache__duration=3), again)
    message = str(refused.value)
    assert "cache.duration was 2 and is now 3, lr was 0.1 and is now 0.05" in message and "\n" not in message
    assert json.loads((again / "config.json").read_text())["lr"] is None


def test_a_config_that_trained_nothing_binds_nobody(tmp_path):
    with pytest.raises(scarlet_jax.UserError, match="public_size"):
        scarlet_jax.run(tiny(public_size=100_000), tmp_path)  # refused by the data, after config.json was written
    assert scarlet_jax.run(tiny(rounds=1), tmp_path)["complete"]


def test_other_data_are_refused_and_the_checkpoint_stays(unfinished, monkeypatch):
    load = federation_data.load

    def other(*how):
        federation = load(*how)
        image = federation.data.private_image.copy()
        image[0, 0, 0, 0] ^= 1
        return federation._replace(data=federation.data._replace(private_image=image))

    monkeypatch.setattr(federation_data, "load", other)
    with pytest.raises(scarlet_jax.UserError, match="the data differ"):
        scarlet_jax.run(tiny(), unfinished)
    assert checkpoint.steps(unfinished) == [2]


def test_a_run_that_was_begun_with_a_pool_goes_on_with_it(tmp_path, monkeypatch):
    """Earlier programs loaded public images for every method, and the checksum of a run's data is of them, too."""
    fields = {"method__name": "individual", "cache__duration": None, "checkpoint__every": 1}
    own = {"num_classes", "image_shape", "class_names", "data"}
    with monkeypatch.context() as patch:
        patch.setattr(build, "uses_public", lambda config: True)
        scarlet_jax.run(tiny(rounds=1, **fields), tmp_path / "earlier")
    for name, known in (("earlier", own), ("now", own | {"public"})):
        assert scarlet_jax.run(tiny(rounds=2, **fields), tmp_path / name)["complete"]
        records = [found.record for found in checkpoint_record.survey(tmp_path / name)]
        assert {frozenset(record["facts"]) for record in records} == {frozenset(known)}
    assert rows(tmp_path / "earlier") == rows(tmp_path / "now")
    assert_same_bits(saved(tmp_path / "earlier"), saved(tmp_path / "now"))


def test_another_form_of_state_is_refused_and_the_checkpoint_stays(unfinished, monkeypatch):
    monkeypatch.setattr(checkpoint, "structure", lambda _: 1)
    with pytest.raises(scarlet_jax.UserError, match="written by a version of the program"):
        scarlet_jax.run(tiny(), unfinished)
    assert checkpoint.steps(unfinished) == [2]


def test_a_call_off_the_main_thread_works_and_the_config_is_unchanged(tmp_path, finished):
    config = tiny()
    before, results = config.to_json(), []
    thread = threading.Thread(target=lambda: results.append(scarlet_jax.run(config, str(tmp_path))))
    thread.start()
    thread.join()
    assert results[0]["complete"] and config.to_json() == before and config.is_locked
    assert_same_run(tmp_path, finished)
