"""What a run chooses where its config leaves the choice to it; the config itself never changes."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import scarlet_jax
from configs import digits
from scarlet_jax import build
from scarlet_jax.engine.layout import make_mesh
from scarlet_jax.preview import choices, dry_run
from tests.support.harness import tiny


def mesh_of(size, platform="gpu"):
    """As much of a mesh as choices look at."""
    return SimpleNamespace(size=size, devices=np.array([SimpleNamespace(platform=platform)] * size))


def chunks(size, before=(), platform="gpu", **fields):
    config = digits.get_config()
    config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return build.choose_chunks(config, mesh_of(size, platform), before)


@pytest.mark.parametrize(("size", "expected"), [(1, (10,)), (2, (5,)), (3, (4,)), (16, (1,))])
def test_on_an_accelerator_the_participants_of_a_device_are_trained_at_once(size, expected):
    assert chunks(size) == chunks(size, clients_per_chunk=1_000_000) == chunks(size, (1_000_000,)) == expected


def test_groups_and_participants_are_counted_one_by_one():
    groups = {"model__client": "mlp:7,cnn:3"}
    assert chunks(1, **groups) == (7, 3) and chunks(2, **groups) == (4, 2)
    assert chunks(1, participation=0.5, **groups) == (4, 1)
    assert chunks(1, (5, 2), **groups) == (5, 2) and chunks(1, (5, 2), clients_per_chunk=3, **groups) == (3, 3)


def test_on_a_cpu_clients_are_trained_one_by_one():
    assert chunks(2, platform="cpu") == (1,) and chunks(2, platform="cpu", clients_per_chunk=4) == (4,)


def test_choices_are_kept_unless_the_user_asks_otherwise():
    def begun(before, **fields):
        return choices.to_record(config := tiny(**fields), choices.begin(config, make_mesh(), before))

    recorded = {"conv": "winograd", "clients_per_chunk": {"mlp": 3}, "cache": {"duration": 2, "own": 50}}
    recorded["precision"] = "float32"  # what the open field means on a CPU
    assert begun(recorded) == recorded
    assert begun(recorded | {"clients_per_chunk": 3}) == recorded, "as earlier versions recorded it"
    assert begun(recorded, clients_per_chunk=4) == recorded | {"clients_per_chunk": {"mlp": 4}}
    assert begun({}) == recorded | {"conv": "xla", "clients_per_chunk": {"mlp": 1}}


def test_convolutions_are_timed_once_and_only_where_there_are_any():
    def times(before, **fields):
        config = tiny(**fields)
        return choices.times_convolutions(config, choices.begin(config, make_mesh(), before), before)

    timed = {"model__client": "cnn", "model__conv": "timed"}
    assert times({}, **timed) and not times({"conv": "cpu"}, **timed)
    assert not times({}, model__conv="timed") and not times({}, model__client="cnn")


@pytest.mark.usefixtures("quick_compilation")
def test_a_run_and_a_dry_run_leave_the_config_as_it_was(tmp_path, monkeypatch):
    """Neither what the caller gave, nor what the run works with, which is frozen."""
    config, seen, make = tiny(model__client="mlp:3,cnn:1", rounds=1), [], build.make_algorithm
    before = config.to_json()

    def watching(own, *arguments):
        seen.append(own)
        with pytest.raises(AttributeError, match="immutable"):
            own.model.conv = "xla"
        return make(own, *arguments)

    monkeypatch.setattr(build, "make_algorithm", watching)
    scarlet_jax.run(config, tmp_path / "run", quiet=True)
    plan = dry_run.prepare(config)
    assert len(seen) == 2 and config.to_json() == before
    assert all(json.loads(own.to_json()) == json.loads(before) for own in (*seen, plan.config))
    assert json.loads(before) == json.loads((tmp_path / "run" / "config.json").read_text())
    assert plan.chosen.conv != "auto" and plan.chosen.chunks == (1, 1) and plan.chosen.duration == 2
