"""Whose directory it is."""

import json
import os

import pytest

from configs import base
from scarlet_jax.errors import UserError
from scarlet_jax.runtime import workdir
from tests.support import harness


def held(path):
    """Every file below a path, with its bytes."""
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", '{"lr": 0.1, "method": "mine", "rounds": 3}'),
        ("config.json", "[1, 2]"),
        ("config.json", "lr: 0.1"),
        ("metrics.csv", "mine"),
        ("metrics.jsonl", '{"round": 0}\n'),
        ("partition.png", "mine"),
        ("summary.json", "{}"),
        ("checkpoints/7/weights", "mine"),
        ("tensorboard/events", "mine"),
        (".lock", "mine"),
    ],
)
def test_a_directory_with_files_of_somebody_else_is_refused_and_stays_as_it_is(tmp_path, name, content):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(content)
    before = held(tmp_path)
    with pytest.raises(UserError) as refusal, workdir.lock(tmp_path):
        pass
    assert name.partition("/")[0] in str(refusal.value) and "give --workdir another" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert held(tmp_path) == before


def test_an_empty_directory_one_with_other_files_and_one_of_ours_are_taken(tmp_path):
    for name in ("notes.txt", "config.yaml", "data/metrics.csv", "metrics.csv.bak"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    (tmp_path / "checkpoints").mkdir()  # perhaps a link to another disk
    config = base.get_config()
    for path in (tmp_path, tmp_path / "new"):
        with workdir.lock(path):
            workdir.write_config(path, config)
        (path / "metrics.csv").write_text("round\n")
        with workdir.lock(path):
            assert json.loads((path / "config.json").read_text())["rounds"] == config.rounds


def test_a_run_in_the_making_is_in_use_and_not_somebody_elses(tmp_path):
    with workdir.lock(tmp_path), pytest.raises(UserError, match="in use by another run"), workdir.lock(tmp_path):
        pass


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "fifo", "folder"])
def test_a_lock_that_is_no_file_of_its_own_is_refused_and_nothing_is_written_through_it(tmp_path, kind):
    precious, path = tmp_path / "precious", tmp_path / "run" / ".lock"
    precious.write_text("123")
    path.parent.mkdir()
    lay = {
        "symbolic link": lambda: path.symlink_to(precious),
        "hard link": lambda: path.hardlink_to(precious),
        "fifo": lambda: os.mkfifo(path),
        "folder": path.mkdir,
    }
    lay[kind]()
    with pytest.raises(UserError, match=r"/\.lock.*\.$"), workdir.lock(path.parent):
        pass
    assert precious.read_text() == "123" and list(path.parent.iterdir()) == [path]


def test_other_bytes_in_the_lock_of_a_run_do_not_matter(tmp_path):
    with workdir.lock(tmp_path):
        workdir.write_config(tmp_path, base.get_config())
        (tmp_path / ".lock").write_bytes(b"\xff\x00 other")
        with pytest.raises(UserError, match=r"in use by another run \(process unknown\)"), workdir.lock(tmp_path):
            pass
    with workdir.lock(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


@pytest.mark.parametrize("name", [b"caf\xe9", b"caf\xe9/run"])
def test_a_name_that_is_not_utf8_is_refused_before_anything_is_made(tmp_path, monkeypatch, name):
    path = tmp_path / os.fsdecode(name)
    with pytest.raises(UserError, match="has a name that is not UTF-8") as refusal, workdir.lock(path):
        pass
    assert str(refusal.value).isascii() and list(tmp_path.iterdir()) == []
    (tmp_path / "caf\udce9").mkdir()
    monkeypatch.chdir(tmp_path / "caf\udce9")  # the name that counts is the whole one
    with pytest.raises(UserError, match="not UTF-8"), workdir.lock(tmp_path.__class__("run")):
        pass


@pytest.mark.parametrize(("before", "now"), [("float32", None), ("bfloat16", "bfloat16")])
def test_a_run_that_was_begun_with_model_dtype_goes_on_with_model_precision(tmp_path, before, now):
    config = harness.tiny(model__precision=now)
    written = json.loads(config.to_json())
    del written["model"]["precision"]
    (tmp_path / "config.json").write_text(json.dumps(written | {"model": written["model"] | {"dtype": before}}))
    workdir.check_config(tmp_path, config)
    assert workdir.read_config(tmp_path)["model"]["precision"] == now
    other = harness.tiny(model__precision="tf32")
    with pytest.raises(UserError, match=f"model.precision was {now!r} and is now 'tf32'"):
        workdir.check_config(tmp_path, other)


def test_a_run_of_a_program_with_fewer_fields_goes_on_and_an_open_rate_is_the_optimizers(tmp_path):
    """Fields that it did not have are as if they had their defaults; it had no open learning rates."""
    written = json.loads(harness.tiny().to_json())
    gone = [field for field in written if field.startswith(("lr_", "optimizer", "kd_optimizer", "eval_clients"))]
    assert len(gone) == 7
    old = {field: value for field, value in written.items() if field not in gone} | {"lr": 0.1, "kd_lr": 0.1}
    (tmp_path / "config.json").write_text(json.dumps(old))
    workdir.check_config(tmp_path, harness.tiny())
    workdir.check_config(tmp_path, harness.tiny(lr=0.1, kd_optimizer="sgd"))
    for fields, named in (
        ({"optimizer": "adam"}, "kd_lr was 0.1 and is now 0.001, kd_optimizer was 'sgd' and is now 'adam', lr was 0.1"),
        ({"lr_schedule": "cosine"}, "lr_schedule was 'constant' and is now 'cosine'"),
        ({"lr": 0.2}, "lr was 0.1 and is now 0.2;"),
    ):
        with pytest.raises(UserError, match=named):
            workdir.check_config(tmp_path, harness.tiny(**fields))
