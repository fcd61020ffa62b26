"""What is decided before jax starts: into how many devices a CPU is divided, and how exactly a GPU repeats itself."""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from scarlet_jax.errors import bad_field

DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def prepare(environment: MutableMapping[str, str], deterministic: bool) -> None:
    """Choose for a program that owns its process; before anything asks jax for devices.

    A CPU with several cores becomes two devices, unless the user chose a number: two clients are then trained side by
    side, with the same bits, up to a fifth faster than one after the other with two threads (benchmarks/results).

    Args:
      environment: of the process; XLA reads its flags there.
      deterministic: whether GPU programs are to give the same bits in every run.
    """
    flags = environment.get("XLA_FLAGS", "")
    if deterministic and DETERMINISTIC not in flags:
        environment["XLA_FLAGS"] = f"{flags} {DETERMINISTIC}".strip()
    chosen = "JAX_NUM_CPU_DEVICES" in environment or "host_platform_device_count" in flags
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores > 1 and not chosen:
        import jax

        jax.config.update("jax_num_cpu_devices", 2)


def check(deterministic: bool) -> None:
    """Refuse a promise that is too late to keep.

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
