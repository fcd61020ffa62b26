"""What a run chooses where its config leaves the choice to it; the config itself never changes."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import scarlet_jax
from configs import digits
from scarlet_jax import build
from scarlet_jax.engine.layout import make_mesh
from scarlet_jax.preview import choices, compiled, dry_run, memory
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
    recorded["precision"] = "float32"
    assert begun(recorded) == recorded
    assert begun(recorded | {"clients_per_chunk": 3}) == recorded, "as earlier versions recorded it"
    assert begun(recorded, clients_per_chunk=4) == recorded | {"clients_per_chunk": {"mlp": 4}}
    assert begun({}) == recorded | {"conv": "xla", "clients_per_chunk": {"mlp": 1}}


def test_convolutions_are_timed_once_and_only_where_there_are_any():
    def times(before, **fields):
        config = tiny(**fields)
        return choices.times_convolutions(config, make_mesh(), choices.begin(config, make_mesh(), before), before)

    timed = {"model__client": "cnn", "model__conv": "timed"}
    assert times({}, **timed) and not times({"conv": "cpu"}, **timed)
    assert not times({}, model__conv="timed") and not times({}, model__client="cnn")


def test_what_an_earlier_start_chose_otherwise_is_said():
    config = tiny(num_clients=4, model__client="mlp:3,cnn:1")
    chosen = build.Chosen("grouped", (3, 1), 2)
    assert choices.changes(config, {}, chosen) == []
    assert choices.changes(config, choices.to_record(config, chosen), chosen) == []
    assert choices.changes(config, {"conv": "native", "clients_per_chunk": {"mlp": 3, "cnn": 2}}, chosen) == [
        "clients_per_chunk was mlp 3, cnn 2 and is now mlp 3, cnn 1",
        "the convolution was native and is now grouped",
    ]


def test_a_recorded_convolution_that_cannot_be_used_here_is_chosen_anew():
    before = {"conv": "native", "clients_per_chunk": {"cnn": 1}}
    config = tiny(model__client="cnn")
    chosen = choices.begin(config, mesh_of(1, "gpu"), before)
    assert chosen.conv == "grouped" and chosen.chunks == (1,)


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


def need_of(fixed, each, calls):
    """Memory as a straight line with a little on top, as of compiled programs; notes what is asked."""

    def need(chunk):
        calls.append(chunk)
        return fixed + each * chunk + 3 * (chunk % 4)

    return need


@pytest.mark.parametrize("clients", [1, 2, 7, 25, 100, 101])
@pytest.mark.parametrize("fixed", [0, 50, 5_000])
def test_the_largest_equal_part_that_fits_is_found_with_two_compilations(clients, fixed):
    parts = sorted({-(-clients // n) for n in range(1, clients + 1)})
    for limit in range(0, fixed + 100 * clients + 100, 97):
        calls = []
        need = need_of(fixed + 40, 100, calls)  # 40: what a program needs whatever the chunk, and is not known before
        found = choices.largest_part(clients, fixed, need, limit)
        assert len(calls) <= 2 and found in parts
        fitting = [size for size in parts if need(size) <= limit]
        best = max(fitting, default=1)
        assert found <= best and parts.index(best) - parts.index(found) <= 1, (limit, found, best)


def test_where_everything_fits_one_compilation_tells_so():
    calls = []
    assert choices.largest_part(100, 10, need_of(10, 1, calls), 10_000) == 100 and calls == [100]


def test_chunks_are_found_group_by_group():
    """Of a pretended device, on which a client of the first group takes 10 bytes and one of the second 100."""
    config, asked = tiny(num_clients=12, model__client="mlp:8,cnn:4"), []
    chosen = build.Chosen("grouped", (8, 4), 2)

    def outline_of(other):
        names = "init", "train mlp", "train cnn", "server"
        calls = [SimpleNamespace(name=name, chunks=other.chunks) for name in names]
        return compiled.Outline(calls, None, 1000)

    def size_of(call):
        asked.append(call.name)
        return compiled.Size(
            call.name, 0, 0, {"mlp": 10, "cnn": 100}[call.name[6:]] * call.chunks[call.name[6:] == "cnn"]
        )

    def fitting(beyond):
        asked.clear()
        return choices.fitting(config, chosen, int((1000 + beyond) / memory.USABLE) + 1, outline_of, size_of).chunks

    assert fitting(400) == (8, 4) and asked == ["train mlp", "train cnn"]
    assert fitting(250) == (8, 2) and asked == ["train mlp", "train cnn", "train cnn"]
    assert fitting(45) == (4, 1) and fitting(0) == (1, 1)
    assert choices.fitting(config, chosen, None, outline_of, size_of) == chosen, (
        "a device that does not tell its memory"
    )
