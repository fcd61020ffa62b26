"""The same bits on 1, 2 and 4 devices, for one size of XLA's thread pool; and a checkpoint moves between them."""

import subprocess
import sys

from tests.end_to_end import harness
from tests.end_to_end.harness import assert_same_run

# 8 clients: two for each of four devices. With participation 0.75 six take part, and four devices hold two places each.
RUNS = {
    "mlp_partial": {"num_clients": 8, "batch_size": 10, "participation": 0.75, "rounds": 3, "momentum": 0.9},
    "cnn": {"num_clients": 8, "batch_size": 10, "rounds": 2, "model.client": "cnn", "model.server": "cnn"},
}  # fmt: skip

# Arguments: devices, then FOLDER:NAME:ROUNDS, one run each. What computes the same is compiled once.
PROGRAM = """
import sys
import jax, pytest, scarlet_jax
from tests.end_to_end import conftest
from tests.end_to_end.harness import tiny
from tests.end_to_end.test_devices import RUNS
assert jax.device_count() == int(sys.argv[1])
with pytest.MonkeyPatch.context() as patch:
    conftest._share(patch)
    for folder, name, rounds in (argument.split(":") for argument in sys.argv[2:]):
        scarlet_jax.run(tiny(**RUNS[name] | {"rounds": int(rounds)}), f"{folder}/{name}")
"""


def train(devices, *runs):
    arguments = [sys.executable, "-c", PROGRAM, str(devices), *(f"{a}:{b}:{c}" for a, b, c in runs)]
    environment = harness.environment(devices, quick=False)
    done = subprocess.run(arguments, cwd=harness.ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr


def test_the_number_of_devices_changes_no_bit(tmp_path):
    one, two, four, moved = (tmp_path / name for name in ("1", "2", "4", "moved"))
    through = [(name, run["rounds"]) for name, run in RUNS.items()]
    train(2, *((two, *run) for run in through), (moved, "mlp_partial", 2))
    train(4, *((four, *run) for run in through))
    train(1, *((one, *run) for run in through), (moved, "mlp_partial", 3))
    for name in RUNS:
        assert_same_run(two / name, one / name)
        assert_same_run(four / name, one / name)
    assert_same_run(moved / "mlp_partial", one / "mlp_partial")
