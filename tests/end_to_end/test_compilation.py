"""Each phase compiles once a start, and how clients are divided into chunks changes no more than rounding."""

import collections

import numpy as np
import pytest

import scarlet_jax
from tests.support.compiling import compilations
from tests.support.harness import assert_same_bits, rows, saved, tiny

PHASES = ("_plan_phase", "_sharded_block", "_server_phase", "_finish_phase")


def assert_compiled_once(compiled, first_save):
    """Nothing after the first round but what the first checkpoint needs, and one program per phase."""
    count = collections.Counter(compiled[-1] + compiled[0])  # before the first round it is asked what memory they need
    assert [count[name] for name in PHASES] == [1, 2, 1, 1], count  # of blocks, one trains and one evaluates
    later = {r: [n for n in names if "lambda" not in n and n != "strip"] for r, names in compiled.items() if r > 0}
    assert not any(later.values()), later
    assert not any(names for r, names in compiled.items() if r > first_save), compiled


def test_each_phase_compiles_once_with_full_participation(compiled_by_finished):
    assert_compiled_once(compiled_by_finished, first_save=1)


def test_partial_participation_compiles_once_per_start_and_resumes_with_the_same_bits(tmp_path, monkeypatch):
    fields = {
        "participation": 0.5, "momentum": 0.9, "kd_momentum": 0.9, "batch_size": 20, "kd_batch_size": 15,
        "private_val_ratio": 0.2, "public_val_ratio": 0.25, "checkpoint.every": 1,
    }  # fmt: skip
    with compilations(monkeypatch) as compiled:
        for rounds in (3, 6):
            compiled.clear()
            scarlet_jax.run(tiny(**fields, rounds=rounds), tmp_path / "steps")
            assert_compiled_once(compiled, first_save=0)
        scarlet_jax.run(tiny(**fields, rounds=6), tmp_path / "through")
    assert_same_bits(saved(tmp_path / "through"), saved(tmp_path / "steps"))
    assert rows(tmp_path / "through") == rows(tmp_path / "steps")
    for row in rows(tmp_path / "steps"):
        assert 0 <= row["private_val_top1"] <= 1 and row["private_val_loss"] > 0
        assert 0 <= row["public_val_agreement"] <= 1 and row["public_val_loss"] >= 0


@pytest.mark.usefixtures("shared_programs")
def test_another_chunk_size_only_reassociates_sums(tmp_path):
    """One step each; at lr 0.1 differences would grow by orders of magnitude within an epoch."""
    states = []
    for chunk in (1, 2):
        scarlet_jax.run(tiny(clients_per_chunk=chunk, rounds=1), tmp_path / str(chunk))
        states.append(saved(tmp_path / str(chunk)))
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        if np.issubdtype(value.dtype, np.inexact):
            np.testing.assert_allclose(states[1][name], value, rtol=1e-5, atol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(states[1][name], value, err_msg=name)
