"""Participants that a file gives: the bits of a run that draws the same ones, and a file that changes."""

import numpy as np
import pytest
from ml_collections import config_dict

import scarlet_jax
from scarlet_jax import build
from scarlet_jax.data import federation as federation_data
from scarlet_jax.engine.feed import Schedule
from tests.support.harness import rows, saved, tiny


def drawn(config):
    """The participants of every round, as lines of text."""
    draws = build.draws(config)
    return [" ".join(map(str, np.asarray(draws.participants(r)).tolist())) for r in range(config.rounds)]


def test_a_run_has_the_bits_of_the_draw_it_repeats_and_notices_a_file_that_changes(tmp_path, monkeypatch):
    uniform = tiny(participation=0.5, method__name="individual", cache__duration=None)
    scarlet_jax.run(uniform, tmp_path / "uniform", quiet=True)
    lines = drawn(uniform)
    assert len(set(lines)) > 1
    file = tmp_path / "ids.txt"
    file.write_text("\n".join(lines[:2]))
    given = config_dict.ConfigDict(uniform)
    given.rounds, given.sampling.by, given.sampling.file = 2, "given", str(file)
    scarlet_jax.run(given, tmp_path / "given", quiet=True)
    assert (tmp_path / "given" / "participants.csv").read_text().replace(",", " ").split("\n")[:2] == lines[:2]

    record = tmp_path / "given" / "participants.csv"
    record.unlink()
    (record / "mine").mkdir(parents=True)
    given.rounds = 4
    file.write_text("\n".join(lines))
    with pytest.raises(scarlet_jax.UserError, match=r"participants\.csv.*\.$"):
        scarlet_jax.run(given, tmp_path / "given", quiet=True)
    (record / "mine").rmdir()
    record.rmdir()

    file.write_text("\n".join([lines[0], "0 1" if lines[1] != "0 1" else "2 3", *lines[2:]]))
    monkeypatch.setattr(federation_data, "load", lambda *_: pytest.fail("data were loaded"))
    with pytest.raises(scarlet_jax.UserError, match=r"names other participants for round 1 \(counted from 0\) than"):
        scarlet_jax.run(given, tmp_path / "given", quiet=True)
    monkeypatch.undo()
    file.write_text("\n".join(lines))  # longer, and the same as far as it went
    scarlet_jax.run(given, tmp_path / "given", quiet=True)

    assert rows(tmp_path / "given") == rows(tmp_path / "uniform")
    one, other = saved(tmp_path / "given"), saved(tmp_path / "uniform")
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], name)


def test_the_planner_and_the_feed_know_the_participants_that_are_given(tmp_path):
    uniform, given = tiny(participation=0.5), tiny(participation=0.5)
    (tmp_path / "ids.txt").write_text("\n".join(drawn(uniform)))
    given.sampling.by, given.sampling.file = "given", str(tmp_path / "ids.txt")
    one, other = (build.make_planner(config, 10).run() for config in (uniform, given))
    assert sum(one.caught_up), "absent clients catch up: the plan depends on who takes part"
    for ledger in ("reference", "wire"):
        assert one.downlink_bytes[ledger].tolist() == other.downlink_bytes[ledger].tolist()
    schedules = [Schedule(build.draws(config), ()) for config in (uniform, given)]
    for r in range(uniform.rounds):
        np.testing.assert_array_equal(schedules[0].participants(r), schedules[1].participants(r))
        np.testing.assert_array_equal(schedules[0].public(r), schedules[1].public(r))
