"""Settings needed before JAX starts: the number of CPU devices, and GPU determinism."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping, MutableMapping

from scarlet_jax.errors import UserError, bad_field, first_line

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
OPEN_FILES = 256
_MOST_DEVICES = 1024  # of a CPU: each has threads of its own


def prepare(environment: MutableMapping[str, str], deterministic: bool) -> None:
    """Make these settings. Call this in a process of one's own, before JAX knows its devices.

    A CPU with several cores becomes two devices, unless the user chose a number. Two clients are then trained side by
    side, with the same bits and up to a fifth faster than one after the other with two threads (benchmarks/results).

    Args:
      environment: of the process; XLA reads its flags from it.
      deterministic: whether GPU programs must give the same bits in every run.

    Raises:
      UserError: an environment variable has a value that jax does not take, or too few files may be open at once.
    """
    _allow_open_files()
    flags = environment.get("XLA_FLAGS", "")
    if deterministic and DETERMINISTIC not in flags:
        environment["XLA_FLAGS"] = f"{flags} {DETERMINISTIC}".strip()
    chosen = "JAX_NUM_CPU_DEVICES" in environment or "host_platform_device_count" in flags
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    load(environment)
    if cores > 1 and not chosen:
        import jax

        jax.config.update("jax_num_cpu_devices", 2)


def _allow_open_files() -> None:
    """Orbax opens more than a hundred files at once; where it meets the system's limit it may wait forever."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < OPEN_FILES:
        if hard != unlimited and hard < OPEN_FILES:
            raise UserError(
                f"at most {hard} files may be open at once (ulimit -n), and {OPEN_FILES} are needed; raise that limit."
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, hard))


def load(environment: Mapping[str, str]) -> None:
    """Import jax, which reads its options from environment variables.

    Raises:
      UserError: one of them has a value that jax does not take.
    """
    devices = environment.get("JAX_NUM_CPU_DEVICES", "1")
    if not (devices.isdecimal() and 1 <= int(devices) <= _MOST_DEVICES):
        raise UserError(f"JAX_NUM_CPU_DEVICES is {devices!r}; allowed is a whole number from 1 to {_MOST_DEVICES}.")
    try:
        import jax  # noqa: F401
    except ValueError as error:
        raise UserError(
            f"jax does not start: {first_line(error)}; correct the environment variable of that name, or unset it."
        ) from error


def find_devices() -> None:
    """Start jax's backend; after `hosts.connect`, where there are several processes.

    Raises:
      UserError: there is none, as with JAX_PLATFORMS=cuda on a machine without a GPU.
    """
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # AssertionError: a platform that is known, but has no devices
        asked = getattr(jax.config, "jax_platforms", None)
        where = f"JAX_PLATFORMS is {asked!r}, and " if asked else ""
        why = f" ({first_line(error)})" if str(error) else ""
        raise UserError(
            f"{where}jax finds no device{why}; unset JAX_PLATFORMS, or install what its platform needs (for NVIDIA "
            "GPUs a driver and the extra cuda12)."
        ) from error


def check(deterministic: bool) -> None:
    """Refuse `deterministic` if XLA was already started without it.

    Raises:
      UserError: `deterministic` on a GPU whose XLA was started without its flag.
    """
    import jax

    if deterministic and jax.default_backend() == "gpu" and DETERMINISTIC not in os.environ.get("XLA_FLAGS", ""):
        raise bad_field(
            "deterministic",
            True,
            "False, or True with launch.py, or with that in the environment variable XLA_FLAGS before jax starts",
            f"but XLA was started without {DETERMINISTIC}",
        )
