"""A schedule of the learning rates over the starts of a run: its horizon is that of the first one."""

import shutil

import numpy as np
import pytest

import scarlet_jax
from scarlet_jax import build, learners
from scarlet_jax.engine.layout import make_mesh
from scarlet_jax.engine.optimizers import Cosine
from scarlet_jax.preview import choices
from tests.support.harness import assert_same_run, starts, tiny
from tests.support.shapes import shapes

pytestmark = pytest.mark.usefixtures("shared_programs")

COSINE = {
    "optimizer": "adam", "kd_lr": 0.01, "weight_decay": 1e-3, "lr_schedule": "cosine", "checkpoint.every": 1,
}  # fmt: skip


def chosen(path):
    return [start["choices"] for start in starts(path)]


def test_more_rounds_do_not_move_the_horizon_and_a_resumed_run_has_the_same_bits(tmp_path, capsys):
    """Two starts, of which the first knows of three rounds and is killed in its third, against one that knows all."""
    scarlet_jax.run(tiny(**COSINE, rounds=3), tmp_path / "steps")
    assert "lr_horizon" not in capsys.readouterr().out
    shutil.rmtree(tmp_path / "steps" / "checkpoints" / "3")
    (tmp_path / "steps" / "summary.json").unlink()
    scarlet_jax.run(tiny(**COSINE, rounds=4), tmp_path / "steps")
    said = capsys.readouterr().out
    assert "resuming after 2 rounds" in said
    assert "config.rounds is 4, and the learning rates fall over the first 3 (lr_horizon)" in said
    scarlet_jax.run(tiny(**COSINE, rounds=4, lr_horizon=3), tmp_path / "through")
    assert_same_run(tmp_path / "steps", tmp_path / "through")
    assert [start["lr_horizon"] for start in chosen(tmp_path / "steps")] == [3, 3]
    found = scarlet_jax.load_server(tmp_path / "steps")(np.zeros((1, 8, 8, 1), np.uint8))
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-5)


def test_the_rates_of_a_round_are_those_of_the_config_times_the_factor():
    config, mesh = tiny(**COSINE, kd_optimizer="sgd"), make_mesh()
    population = build.make_algorithm(config, shapes(4), 10, mesh, build.choose(config, mesh)).population
    for round_, factor in enumerate((1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2)):
        found = population.numbers_at(np.int32(round_))
        np.testing.assert_allclose((found.fit.lr, found.kd.lr), (0.001 * factor, 0.01 * factor), rtol=1e-6)
        assert found.fit.weight_decay == np.float32(1e-3) and found.schedule is None


def test_the_horizon_is_the_configs_else_the_records_else_all_rounds():
    def horizon(before, **fields):
        config = tiny(**fields)
        made = choices.begin(config, make_mesh(), before)
        assert choices.to_record(config, made).get("lr_horizon") == made.horizon
        schedule = learners.numbers(config, 2, made.horizon).schedule
        assert schedule == (None if made.horizon is None else Cosine(np.int32(made.horizon)))
        return made.horizon

    assert horizon({}, lr_schedule="cosine", rounds=7) == 7
    assert horizon({"lr_horizon": 7}, lr_schedule="cosine", rounds=9) == 7
    assert horizon({}, lr_schedule="cosine", lr_horizon=3) == 3
    assert horizon({}, lr_horizon=3) is None
