"""The bytes of a plan are those that a run of the same config sends."""

import json

import pytest

import scarlet_jax
from scarlet_jax.build import make_planner
from tests.support.planning import planned

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize("method", ["scarlet", "cfd", "comet"])
def test_bytes_are_those_of_a_training_run(method, tmp_path):
    config = planned(**{"comm.label_bits": 8, "method.name": method})
    scarlet_jax.run(config, tmp_path / "run")
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    result = make_planner(config, 10).run()
    assert len(rows) == config.rounds
    for name in ("requested", "hit", "stale", "caught_up"):
        assert [row[name] for row in rows] == getattr(result, name).tolist(), name
        assert sum(getattr(result, name)) > 0, f"{name} never happens: the test shows nothing"
    for ledger in ("reference", "wire"):
        assert [row[f"uplink_bytes_{ledger}"] for row in rows] == result.uplink_bytes[ledger].tolist()
        assert [row[f"downlink_bytes_{ledger}"] for row in rows] == result.downlink_bytes[ledger].tolist()
        total = result.total(ledger)
        assert (rows[-1][f"total_uplink_bytes_{ledger}"], rows[-1][f"total_downlink_bytes_{ledger}"]) == total
