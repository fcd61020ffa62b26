"""What is read from compiled programs, against programs whose memory and calls are known."""

import jax
import jax.numpy as jnp
import pytest

from scarlet_jax.engine import phases
from scarlet_jax.preview import compiled


def program(function, *args, **options):
    with phases.recording() as calls:
        phases.Phase("known", function, **options)(*args)
    (call,) = calls
    return compiled.compile_phase(call)


def test_bytes_of_arguments_and_results():
    x, y = jnp.zeros((40, 50)), jnp.zeros(30, jnp.int8)
    found = program(lambda x, y: (x + 1, y * 2, x.sum()), x, y)
    assert found.name == "known" and found.arguments == x.nbytes + y.nbytes
    assert found.results == pytest.approx(x.nbytes + y.nbytes + 4, abs=3 * 8)  # and a table of three addresses
    assert found.calls == {} and found.collectives == {}


def test_results_written_over_donated_arguments_take_nothing():
    x = jnp.zeros((40, 50))
    kept, donated = (program(lambda x: x + 1, x, **options) for options in ({}, {"donate_argnums": 0}))
    assert kept.results == x.nbytes and donated.results == 0
    assert kept.arguments == donated.arguments == x.nbytes


def test_temporary_memory_is_that_of_the_largest_intermediate():
    """A matrix of 512 x 512 that is neither argument nor result."""
    found = program(lambda x: jnp.linalg.norm(jnp.sort(x[:, None] * x[None, :], 0)), jnp.zeros(512))
    assert found.temporary >= 4 * 512 * 512


def test_calls_are_counted_in_the_text():
    found = program(lambda x: jnp.linalg.cholesky(x) + jnp.linalg.cholesky(2 * x), jnp.eye(4))
    assert sum(found.calls.values()) == 2 and all("potrf" in name for name in found.calls)


def phase(name, arguments, results, temporary):
    return compiled.Program(name, arguments, results, temporary, {}, {}, {}, "")


def test_the_peak_is_the_largest_phase_beside_what_stays():
    phases_ = [phase("a", 50, 5, 6), phase("b", 10, 0, 30), phase("c", 200, 1, 2)]
    assert compiled.peak(100, phases_) == (203, "c")  # its arguments are more than what stays
    assert compiled.peak(1000, phases_) == (1030, "b")


def test_every_phase_of_a_run_is_recorded_once():
    calls = []

    class Algorithm:
        def __init__(self):
            self.first = phases.Phase("init", lambda data: data * 2)
            self.again = phases.Phase("round", lambda state, data: (state + data, state))
            self.last = phases.Phase("evaluate", lambda state, ids: state + ids)

        def init(self, data):
            return self.first(data)

        def round(self, state, data):
            state, _ = self.again(state, data)
            state, ids = self.again(state, data)
            return state, type("Report", (), {"participants": ids})

        def evaluate(self, state, data, ids):
            return self.last(state, ids)

    shape = jax.ShapeDtypeStruct((3,), jnp.float32)
    calls = compiled.record(Algorithm(), shape, shape)
    assert [call.name for call in calls] == ["init", "round", "evaluate"]
