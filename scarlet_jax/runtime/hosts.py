"""Several processes that train one federation: how they find each other, and how they agree.

All processes run the same program on one mesh. Process 0 reads and writes the workdir and decides; the others follow.
Everything here is free of collectives, and of cost, where there is one process.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import numpy as np

from scarlet_jax.errors import UserError, first_line
from scarlet_jax.system_errors import refusing

_T = TypeVar("_T")
_TEXT = 4096  # most bytes of an error that are sent between processes
PATIENCE = 300.0  # seconds in which all processes must have come


class Cluster(NamedTuple):
    """Where the processes meet."""

    coordinator: str  # HOST:PORT of process 0
    num_processes: int
    process_id: int


def find_cluster(
    coordinator: str | None, num_processes: int | None, process_id: int | None, environment: Mapping[str, str]
) -> Cluster | None:
    """The cluster named by flags, else by environment variables; None: neither names one.

    Args:
      coordinator, num_processes, process_id: values of the flags; None where not given.
      environment: JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID are read when no flag is given.

    Raises:
      UserError: some are given and others are not, or a value is impossible.
    """
    names: tuple[str, ...] = ("--coordinator", "--num_processes", "--process_id")
    values: list[Any] = [coordinator, num_processes, process_id]
    if all(value is None for value in values):
        names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
        values = [environment.get(name) or None for name in names]
    if all(value is None for value in values):
        return None
    missing = [name for name, value in zip(names, values, strict=True) if value is None]
    if missing:
        raise UserError(f"{' and '.join(missing)} missing: several processes need all of {', '.join(names)}.")
    host, _, port = values[0].rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(f"{names[0]} is {values[0]!r}; allowed is HOST:PORT, as in node1:1234.")
    for i in (1, 2):
        if not str(values[i]).isdecimal():
            raise UserError(f"{names[i]} is {values[i]!r}; allowed is a whole number, not negative.")
    count, own = int(values[1]), int(values[2])
    if count < 1:
        raise UserError(f"{names[1]} is {count}; allowed is 1 or more.")
    if own >= count:
        raise UserError(f"{names[2]} is {own}; allowed is 0 to {count - 1}, with {names[1]} {count}.")
    return Cluster(values[0], count, own)


def connect(cluster: Cluster | None) -> None:
    """Join the other processes; before anything else asks jax for devices.

    Args:
      cluster: to join; with None, that of the SLURM step this process is one of several tasks of, if it is.

    Where the others do not come the process ends with a sentence and code 1: jax would end it with a stack trace.

    Raises:
      UserError: this process cannot join, for its address or its number is taken.
    """
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "")  # of the step: a batch script on its own is one task
    in_slurm = cluster is None and tasks.isdecimal() and int(tasks) > 1
    if not in_slurm and (cluster is None or cluster.num_processes == 1):
        return
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    where = cluster.coordinator if cluster else "the SLURM step"
    limits: dict[str, Any] = {"initialization_timeout": int(PATIENCE) + 60, "shutdown_timeout_seconds": 60}
    waiting = threading.Timer(PATIENCE, _give_up, [where])
    waiting.daemon = True
    waiting.start()
    try:
        if cluster is None:
            # jax gives the i-th task of a node its i-th GPU. A task that has a node to itself takes all: an empty list.
            alone = os.environ.get("SLURM_STEP_NUM_NODES") == tasks
            devices: list[int] | None = [] if alone else None
            jax.distributed.initialize(cluster_detection_method="slurm", local_device_ids=devices, **limits)
        else:
            jax.distributed.initialize(*cluster, cluster_detection_method="deactivate", **limits)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the processes of {where} did not find each other: {first_line(error)}.") from error
    finally:
        waiting.cancel()


def _give_up(where: str) -> None:
    sentence = (
        f"Not all processes of {where} joined within {PATIENCE:.0f} s; start every process with the same coordinator "
        "address."
    )
    os.write(2, f"{sentence}\n".encode())
    os._exit(1)  # the main thread is inside a call that does not return


def will_be_first(cluster: Cluster | None, environment: Mapping[str, str]) -> bool:
    """What `is_first` will say once the processes have joined."""
    if cluster is not None:
        return cluster.process_id == 0
    return environment.get("SLURM_PROCID", "0") == "0"


def is_first() -> bool:
    """Whether this process is the one that writes."""
    import jax

    return jax.process_index() == 0


def several() -> bool:
    """Whether there is more than one process."""
    import jax

    return jax.process_count() > 1


def largest(value: int) -> int:
    """The largest of all processes' values (i32); waits for the devices where there are several processes."""
    return int(_gather(np.array(value, np.int32)).max()) if several() else value


def smallest(size: int | None) -> int | None:
    """The smallest of all processes' numbers of bytes, in whole MB if there are several; None if one has none."""
    if largest(int(size is None)):
        return None
    assert size is not None
    return size if not several() else -largest(-(size // 10**6)) * 10**6


def together(work: Callable[[], _T]) -> _T:
    """Do something in every process; what one of them refuses, or the system refuses it, all refuse.

    Raises:
      UserError: of the first process that has one.
    """
    if not several():
        return work()
    refusal, result = "", None
    try:
        with refusing("preparing the run"):
            result = work()
    except UserError as error:
        refusal = str(error)
    text = np.frombuffer(refusal.encode()[:_TEXT].ljust(_TEXT, b"\0"), np.uint8)
    for row in _gather(text):
        if row.any():
            raise UserError(row.tobytes().rstrip(b"\0").decode(errors="ignore"))
    return result  # type: ignore[return-value]


def from_first(work: Callable[[], _T]) -> _T:
    """Do something in process 0 only, and give its result, which must be JSON, to all.

    Raises:
      UserError: process 0 refuses.
    """
    if not several():
        return work()
    from jax.experimental import multihost_utils

    value = together(lambda: work() if is_first() else None)
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.array(text.size, np.int32)))
    text = text if is_first() else np.zeros(size, np.uint8)
    return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(text)).tobytes())


def check_same(value: Any, refusal: str) -> None:
    """Compare a JSON value with process 0's.

    Raises:
      UserError: `refusal`, in every process, when it differs in one.
    """
    if not several():
        return
    same = from_first(lambda: value) == json.loads(json.dumps(value))
    if largest(int(not same)):
        raise UserError(refusal)


def _gather(value: np.ndarray) -> np.ndarray:
    """[processes, ...]"""
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(value))
