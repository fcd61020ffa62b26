"""Images that stay on the host: the bits of a run whose images lie on the devices; test_devices has more of it."""

import scarlet_jax
from scarlet_jax.engine import evaluation
from tests.support.compiling import compilations
from tests.support.harness import assert_same_run, tiny

# Clients of unequal size, more than a block holds, not all of which take part; and validation images.
FEDERATION = {
    "num_clients": 9, "participation": 0.7, "data.train_size": 200, "partition.name": "label_dirichlet",
    "partition.alpha": 1.0, "batch_size": 10, "rounds": 3, "private_val_ratio": 0.2, "checkpoint.every": 3,
    "method.name": "feddf", "cache.duration": None,
}  # fmt: skip

PHASES = ("_sharded_block", "_server_phase", "_piece_phase", "_finish_phase")  # of blocks, one trains, one evaluates


def test_host_fed_and_on_the_devices_are_the_same_run(tmp_path, monkeypatch, capsys, shared_programs):
    monkeypatch.setattr(evaluation, "SERVER_BATCH", 20)  # 5 batches of test images, in pieces of 2
    monkeypatch.setattr(evaluation, "PIECE", 2)
    for budget in (0.0, 0.001):
        with compilations(monkeypatch) as compiled:
            scarlet_jax.run(tiny(**FEDERATION | {"data.device_budget_mb": budget}), tmp_path / str(budget))
        assert ("stay on the host" in capsys.readouterr().out) == (budget > 0)
    first = compiled[-1] + compiled[0]
    assert [first.count(name) for name in PHASES] == [2, 1, 1, 1] and not compiled[1], "each phase is compiled once"
    assert_same_run(tmp_path / "0.0", tmp_path / "0.001")
