"""A trace of some rounds."""

import gzip
import json

import pytest

import scarlet_jax
from tests.support.harness import assert_same_run, tiny

pytestmark = pytest.mark.usefixtures("shared_programs")


def test_a_trace_names_the_phases_and_changes_nothing(finished, tmp_path, capsys):
    scarlet_jax.run(tiny(profile_rounds="1:3"), tmp_path)
    assert_same_run(tmp_path, finished)
    assert "trace of rounds 1 to 2" in capsys.readouterr().out
    (trace,) = (tmp_path / "profile").rglob("perfetto_trace.json.gz")
    with gzip.open(trace) as file:
        names = [event.get("name") for event in json.load(file)["traceEvents"]]
    for phase in ("plan", "server", "evaluate server"):
        assert names.count(phase) == 2, "one in each round"
    assert {"train mlp", "evaluate mlp"} <= set(names)
