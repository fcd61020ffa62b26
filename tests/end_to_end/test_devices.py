"""The same bits on 1, 2 and 4 devices, for one size of XLA's thread pool; and a checkpoint moves between them."""

import json
import subprocess
import sys

from tests.support import harness
from tests.support.harness import assert_same_run

# 8 clients: two for each of four devices. With participation 0.75 six take part, and four devices hold two places each.
RUNS = {
    "mlp_partial": {"num_clients": 8, "batch_size": 10, "participation": 0.75, "rounds": 3, "momentum": 0.9},
    # A server model for each architecture. Each device has two clients of each group.
    "feddf_groups": {"num_clients": 8, "batch_size": 10, "rounds": 2, "model.client": "cnn:4,mlp:4",
                     "method.name": "feddf", "cache.duration": None},
    "fedproto": {"num_clients": 8, "batch_size": 10, "participation": 0.75, "rounds": 2, "method.name": "fedproto",
                 "cache.duration": None, "model.client": "cnn"},
}  # fmt: skip

# Arguments: devices, RUNS as JSON, then FOLDER:NAME:ROUNDS:BUDGET, one run each; with a budget of 0.001 MB images stay
# on the host. What computes the same is compiled once.
PROGRAM = """
import json, sys
import jax, pytest, scarlet_jax
from tests.support.compiling import share_programs
from tests.support.harness import tiny
RUNS = json.loads(sys.argv[2])
assert jax.device_count() == int(sys.argv[1])
with pytest.MonkeyPatch.context() as patch:
    share_programs(patch)
    for folder, name, rounds, budget in (argument.split(":") for argument in sys.argv[3:]):
        own = {"rounds": int(rounds), "data.device_budget_mb": float(budget)}
        scarlet_jax.run(tiny(**RUNS[name] | own), f"{folder}/{name}")
"""


def train(devices, *runs):
    arguments = [
        sys.executable,
        "-c",
        PROGRAM,
        str(devices),
        json.dumps(RUNS),
        *(":".join(map(str, run)) for run in runs),
    ]
    environment = harness.environment(devices, quick=False)
    done = subprocess.run(arguments, cwd=harness.ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr


def test_neither_the_number_of_devices_nor_where_images_lie_changes_a_bit(tmp_path):
    one, two, four, fed, moved = (tmp_path / name for name in ("1", "2", "4", "fed", "moved"))
    through = [(name, run["rounds"], 0) for name, run in RUNS.items()]
    train(2, *((two, *run) for run in through), (fed, "mlp_partial", 3, 0.001), (moved, "mlp_partial", 2, 0.001))
    train(4, (four, *through[0]))  # the models differ in nothing that four devices would treat differently
    train(1, *((one, *run) for run in through), (moved, "mlp_partial", 3, 0))
    for name in RUNS:
        assert_same_run(two / name, one / name)
    assert_same_run(fed / "mlp_partial", one / "mlp_partial")
    assert_same_run(four / "mlp_partial", one / "mlp_partial")
    assert_same_run(moved / "mlp_partial", one / "mlp_partial")
