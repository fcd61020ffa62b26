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

PROGRAM = """
import sys
import jax, scarlet_jax
from tests.end_to_end.harness import tiny
from tests.end_to_end.test_devices import RUNS
assert jax.device_count() == int(sys.argv[1])
for name in sys.argv[4:]:
    fewer = {"rounds": int(sys.argv[3])} if sys.argv[3] != "0" else {}
    scarlet_jax.run(tiny(**RUNS[name] | fewer), f"{sys.argv[2]}/{name}")
"""


def train(devices, folder, *names, rounds=0):
    arguments = [sys.executable, "-c", PROGRAM, str(devices), str(folder), str(rounds), *names]
    done = subprocess.run(
        arguments,
        cwd=harness.ROOT,
        env=harness.environment(devices, quick=False),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr


def test_the_number_of_devices_changes_no_bit(tmp_path):
    one = tmp_path / "1"
    train(1, one, *RUNS)
    for devices in (2, 4):
        train(devices, tmp_path / str(devices), *RUNS)
        for name in RUNS:
            assert_same_run(tmp_path / str(devices) / name, one / name)
    moved = tmp_path / "moved"
    train(2, moved, "mlp_partial", rounds=2)
    train(1, moved, "mlp_partial")
    assert_same_run(moved / "mlp_partial", one / "mlp_partial")
