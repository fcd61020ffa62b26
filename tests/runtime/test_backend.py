"""What is decided before jax starts, in processes of their own: this one's devices exist already."""

import os
import re
import resource
import subprocess
import sys

import jax
import pytest

from scarlet_jax.errors import UserError
from scarlet_jax.runtime import backend
from tests.support import harness

PROGRAM = (
    "import jax, os; from scarlet_jax.runtime import backend; "
    "backend.prepare(os.environ, {}); print(jax.device_count())"
)
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


LOADING = (
    "import os; from scarlet_jax.runtime import backend; backend.prepare(os.environ, False); backend.find_devices()"
)


@pytest.mark.parametrize(
    ("name", "value", "refusal"),
    [
        ("JAX_NUM_CPU_DEVICES", "two", r"JAX_NUM_CPU_DEVICES is 'two'; allowed is a whole number from 1 to \d+\.$"),
        ("JAX_NUM_CPU_DEVICES", "0", "JAX_NUM_CPU_DEVICES is '0'; allowed is"),
        ("JAX_NUM_CPU_DEVICES", "", "JAX_NUM_CPU_DEVICES is ''; allowed is"),
        ("JAX_NUM_CPU_DEVICES", "1000000", "JAX_NUM_CPU_DEVICES is '1000000'; allowed is"),
        (
            "JAX_ENABLE_X64",
            "maybe",
            "jax does not start: .*'maybe'.*'JAX_ENABLE_X64'; correct the environment variable",
        ),
        ("JAX_PLATFORMS", "cuda", "JAX_PLATFORMS is 'cuda', and jax finds no device"),
        ("JAX_PLATFORMS", "gpuu", "JAX_PLATFORMS is 'gpuu', and jax finds no device"),
    ],
)
def test_an_environment_that_jax_does_not_take_is_refused(name, value, refusal):
    program = f"from scarlet_jax.commands.boundary import guarded\n@guarded\ndef main():\n  {LOADING}"
    environment = harness.environment() | {name: value}
    done = subprocess.run([sys.executable, "-c", program], env=environment, cwd=harness.ROOT, capture_output=True)
    [line] = done.stderr.decode().splitlines()
    assert re.match(refusal, line) and line.endswith(".")


def test_too_few_open_files_are_refused_and_a_soft_limit_is_raised(monkeypatch):
    limits = [(64, 10_000)]
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda which, pair: limits.append(pair))
    backend.prepare({"JAX_NUM_CPU_DEVICES": "1"}, False)
    backend.prepare({"JAX_NUM_CPU_DEVICES": "1"}, False)
    assert limits == [(64, 10_000), (backend.OPEN_FILES, 10_000)]
    limits.append((64, 64))
    with pytest.raises(UserError, match=r"at most 64 files may be open at once \(ulimit -n\), and 256 are needed"):
        backend.prepare({"JAX_NUM_CPU_DEVICES": "1"}, False)
