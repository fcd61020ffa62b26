"""The embedded experiment learns."""

import pytest

import scarlet_jax
from configs import digits
from tests.support.harness import rows


@pytest.fixture(autouse=True)
def _quick():
    """The programs are those of a run: they take longer to compile than in other tests, and half as long in all."""


def test_digits_learn(tmp_path):
    config = digits.get_config()
    with config.unlocked():
        config.rounds = 12  # of 30
    summary = scarlet_jax.run(config, tmp_path)
    found = rows(tmp_path)
    assert summary["server_top1"] > 0.85 and summary["server_top1"] == found[-1]["server_top1"]
    assert found[-1]["server_loss"] < found[0]["server_loss"]
    assert found[-1]["fit_loss"] < 0.2 * found[0]["fit_loss"]
    assert 0 < summary["cache_share"] < 1
    assert summary["uplink_bytes"]["wire"] <= summary["uplink_bytes"]["reference"]
