"""Images that stay on the host: the same bits as when they lie on the devices."""

import pytest

import scarlet_jax
from tests.end_to_end.harness import assert_same_run, tiny

# More clients than one block holds, of unequal size, not all of which take part.
FEDERATION = {
    "num_clients": 40, "participation": 0.9, "data.train_size": 400, "partition.name": "label_dirichlet",
    "partition.alpha": 1.0, "batch_size": 10, "rounds": 3, "private_val_ratio": 0.2, "checkpoint.every": 3,
}  # fmt: skip


@pytest.mark.parametrize("method", ["scarlet", "feddf"])
def test_host_fed_and_on_device_have_the_same_bits(method, tmp_path, capsys):
    fields = FEDERATION | {"method.name": method, "cache.duration": 2 if method == "scarlet" else None}
    for budget in (0.0, 0.001):
        scarlet_jax.run(tiny(**fields | {"data.device_budget_mb": budget}), tmp_path / str(budget))
        assert ("stay on the host" in capsys.readouterr().out) == (budget > 0)
    assert_same_run(tmp_path / "0.0", tmp_path / "0.001")
