"""Which runs are seeds of one line, and how lines are named."""

import json

import numpy as np
import pytest

from scarlet_jax import report
from scarlet_jax.errors import UserError
from scarlet_jax.report import groups, runs
from tests.support.report_runs import tabulated, write_run


def test_labels(tmp_path):
    def labels(*settings):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        loaded = [report.load(write_run(folder / str(i), **fields)) for i, fields in enumerate(settings)]
        return [group.label for group in report.group_runs(loaded)]

    assert labels({}, {"cache__duration": 0}, {"method": "cfd", "cache__duration": 5}) == [
        "SCARLET, D=50", "SCARLET without cache", "CFD + cache, D=5"
    ]  # fmt: skip
    assert labels({}, {"method__beta": 1.5}, {"method": "dsfl", "method__temperature": 0.1}) == [
        "SCARLET, beta=default", "SCARLET, beta=1.5", "DS-FL"
    ]  # fmt: skip
    assert labels({"lr": 0.1}, {"lr": 0.05, "seed": 3}, {"lr": 0.1, "seed": 1}) == [
        "SCARLET, lr=0.1",
        "SCARLET, lr=0.05",
    ]
    # An explicit default, another place for the data, another chunk size, the expiry of a cache that is not there.
    assert labels({}, {"seed": 1, "cache__duration": 50}, {"seed": 2, "data__dir": "x", "clients_per_chunk": 3}) == [
        "SCARLET"
    ]
    assert labels({"method": "dsfl"}, {"method": "dsfl", "seed": 1, "cache__on_expiry": "refresh"}) == ["DS-FL"]
    assert labels({"method": "a_new_one"}) == ["a_new_one"]


def test_a_method_from_outside_is_labelled_by_the_duration_that_its_run_recorded(tmp_path):
    """Its own D is known to the program that ran it alone; a report finds it in environment.json."""

    def load(name, duration, used):
        path = write_run(tmp_path / name, "a_new_one", cache__duration=duration)
        choices = {"conv": "xla", "cache": {"duration": used, "own": 20}}
        (path / "environment.json").write_text(json.dumps({"run": "x", "starts": [{"choices": choices}]}))
        return report.load(path)

    own, off = load("own", None, 20), load("off", 0, 0)
    assert (own.duration, own.own_duration, off.duration, off.own_duration) == (20, 20, 0, 20)
    made = report.group_runs([own, off])
    assert [group.label for group in made] == ["a_new_one", "a_new_one without cache"]
    assert groups.find_baseline(made, "a_new_one") is made[0] is groups.find_baseline(made, "a_new_one+cache")
    assert runs.planned(tmp_path / "p", own.config, {"duration": 20, "own": 20}).duration == 20
    (tmp_path / "own" / "environment.json").write_text("{torn")
    assert report.load(tmp_path / "own").duration == 0


def test_curves_are_over_the_rounds_all_seeds_have(tmp_path):
    paths = [
        write_run(tmp_path / "a", server=(0.2, 0.3, 0.4), rounds=4),
        write_run(tmp_path / "b", server=(0.4, None, 0.8, 0.9), rounds=4, seed=1),
    ]
    (group,) = report.group_runs([report.load(path) for path in paths])
    curve = group.curve(lambda run: run.server_top1)
    assert curve.rounds.tolist() == [1, 3]
    np.testing.assert_allclose(curve.mean, [0.3, 0.6])
    np.testing.assert_allclose(curve.std, [0.2 / np.sqrt(2), 0.4 / np.sqrt(2)])
    assert group.shown == "SCARLET (unfinished)"


def test_baseline_by_label_run_or_method(many):
    made = report.group_runs([report.load(path) for path in many])
    for wanted, label in (
        ("dsfl", "DS-FL"), ("ds-fl + CACHE", "DS-FL + cache"), ("d", "DS-FL + cache"), ("a", "SCARLET"),
        ("scarlet", "SCARLET"), ("dsfl+cache", "DS-FL + cache"), ("DSFL+Cache", "DS-FL + cache"),
        ("scarlet+cache", "SCARLET"),
    ):  # fmt: skip
        assert groups.find_baseline(made, wanted).label == label
    with pytest.raises(UserError, match="'fedavg' is not among the runs: .*'DS-FL \\+ cache'"):
        groups.find_baseline(made, "fedavg")


def test_ambiguous_baseline(tmp_path):
    paths = [write_run(tmp_path / "a", "dsfl", lr=0.1), write_run(tmp_path / "b", "dsfl", lr=0.2)]
    with pytest.raises(UserError, match="may be any of 'DS-FL, lr=0.1', 'DS-FL, lr=0.2'"):
        tabulated(paths, baseline="dsfl")
