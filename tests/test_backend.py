"""What is decided before jax starts, in processes of their own: this one's devices exist already."""

import os
import subprocess
import sys

import jax
import pytest

from scarlet_jax import backend
from scarlet_jax.errors import UserError
from tests.end_to_end import harness

PROGRAM = "import jax, os; from scarlet_jax import backend; backend.prepare(os.environ, {}); print(jax.device_count())"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.mark.parametrize(
    "chosen, deterministic, devices",
    [
        ({}, False, min(CORES, 2)),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, True, 3),
        ({"JAX_NUM_CPU_DEVICES": "1"}, True, 1),
    ],
)
def test_a_cpu_with_several_cores_becomes_two_devices_unless_told_otherwise(chosen, deterministic, devices):
    environment = {name: value for name, value in harness.environment().items() if name != "JAX_NUM_CPU_DEVICES"}
    arguments = [sys.executable, "-c", PROGRAM.format(deterministic)]
    done = subprocess.run(arguments, env=environment | chosen, cwd=harness.ROOT, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == (f"{devices}\n", 0), done.stderr


def test_xla_is_asked_for_deterministic_operations_beside_what_the_user_asks():
    environment = {"XLA_FLAGS": "--xla_dump_to=x", "JAX_NUM_CPU_DEVICES": "1"}
    backend.prepare(environment, False)
    assert environment["XLA_FLAGS"] == "--xla_dump_to=x"
    for _ in range(2):
        backend.prepare(environment, True)
        assert environment["XLA_FLAGS"] == f"--xla_dump_to=x {backend.DETERMINISTIC}"


def test_a_gpu_that_was_started_without_the_flag_is_refused(monkeypatch):
    backend.check(True)  # a CPU needs no flag
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(UserError, match="deterministic is True, but XLA was started without"):
        backend.check(True)
    backend.check(False)
    monkeypatch.setenv("XLA_FLAGS", backend.DETERMINISTIC)
    backend.check(True)
