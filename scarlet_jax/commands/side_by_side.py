"""Commands side by side on this machine, each in a process of its own with its share of the devices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, NamedTuple

from scarlet_jax.runtime import interrupts
from scarlet_jax.runtime.streams import say

_GPU_MEMORY = 0.9  # share of a GPU's memory that processes on one GPU reserve together


class Share(NamedTuple):
    """What one of several processes gets of the machine."""

    cores: tuple[int, ...]  # of the CPU
    environment: dict[str, str]  # that differs from this process's own


def shares(jobs: int, environment: Mapping[str, str], cores: Sequence[int], gpus: Sequence[str]) -> list[Share]:
    """Divide cores, threads and GPUs among `jobs` processes; where there are fewer, several processes share one.

    Args:
      jobs: number of processes.
      environment: of this process. What the user chose there is kept: `NPROC`, and the memory that JAX reserves.
      cores: that this process may use.
      gpus: as in CUDA_VISIBLE_DEVICES; empty on a machine without.
    """
    found = []
    for job in range(jobs):
        own = _part(cores, job, jobs)
        changed = {name: str(len(own)) for name in ("NPROC", "OMP_NUM_THREADS") if name not in environment}
        if gpus:
            changed["CUDA_VISIBLE_DEVICES"] = ",".join(_part(gpus, job, jobs))
            together = len(range(job % len(gpus), jobs, len(gpus)))
            if together > 1 and "XLA_PYTHON_CLIENT_MEM_FRACTION" not in environment:
                changed["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{_GPU_MEMORY / together:.3f}"
        found.append(Share(own, changed))
    return found


def _part(things: Sequence[Any], job: int, jobs: int) -> tuple[Any, ...]:
    """Neighbouring things for each job; one, which others may have too, if there are fewer things than jobs."""
    if len(things) < jobs:
        return (things[job % len(things)],)
    return tuple(things[job * len(things) // jobs : (job + 1) * len(things) // jobs])


def usable_cores() -> list[int]:
    """The CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def usable_gpus(environment: Mapping[str, str]) -> list[str]:
    """The NVIDIA GPUs that this process may use, without starting JAX, which would reserve their memory."""
    if environment.get("JAX_PLATFORMS", "").lower() == "cpu":
        return []
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [own.strip() for own in chosen.split(",") if own.strip()]
    command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []


def run(commands: Sequence[tuple[str, Sequence[str]]], places: Sequence[Share]) -> list[str]:
    """Run all commands, as many at once as there are places, and print their lines behind their names.

    A signal to this process is passed on to the running commands, and no other one is started.

    Args:
      commands: name and arguments of each.
      places: in each of them runs one command after the other.

    Returns:
      The names of those that failed.

    Raises:
      SystemExit: with 128 + signal number, when all commands have ended after a signal.
    """
    pool = _Pool(commands)
    threads = [threading.Thread(target=pool.work, args=(place,), name="jobs") for place in places]
    with _passed_on(pool.stop):
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():  # a handler runs between two steps of the main thread
                thread.join(0.1)
    if pool.signum is not None:
        say(f"stopped by {signal.Signals(pool.signum).name}; the same command goes on")
        raise SystemExit(128 + pool.signum)
    return [name for name, _ in commands if name in pool.failed]


class _Pool:
    """Commands that wait, and those that run."""

    def __init__(self, commands: Sequence[tuple[str, Sequence[str]]]):
        self.failed: set[str] = set()
        self.signum: int | None = None
        self._waiting, self._total = deque(enumerate(commands, 1)), len(commands)
        self._running: set[subprocess.Popen] = set()
        self._lock = threading.RLock()

    def work(self, place: Share) -> None:
        """Run one command after the other in a place, until none is left."""
        while (started := self._start(place)) is not None:
            name, process = started
            assert process.stdout is not None and process.stderr is not None
            copying = [
                threading.Thread(target=_copy, args=(stream, name, to))
                for stream, to in ((process.stdout, say), (process.stderr, _to_errors))
            ]
            for thread in copying:
                thread.start()
            for thread in copying:
                thread.join()
            code = process.wait()
            with self._lock:
                self._running.discard(process)
                if code:
                    self.failed.add(name)

    def stop(self, signum: int, frame: Any = None) -> None:
        """The signal handler: pass the signal on, and start nothing more."""
        with self._lock:
            self.signum = self.signum or signum
            for process in self._running:
                with suppress(ProcessLookupError):
                    process.send_signal(signum)

    def _start(self, place: Share) -> tuple[str, subprocess.Popen] | None:
        with self._lock:
            if self.signum is not None or not self._waiting:
                return None
            number, (name, arguments) = self._waiting.popleft()
            say(f"[{number}/{self._total}] {name}")
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=os.environ | place.environment,
                start_new_session=True,  # the terminal's Ctrl-C comes to this process alone, which passes it on
            )
            if hasattr(os, "sched_setaffinity"):
                with suppress(OSError):  # the process may have ended
                    os.sched_setaffinity(process.pid, place.cores)
            self._running.add(process)
            return name, process


def _to_errors(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _copy(stream: IO[str], name: str, tell: Callable[[str], None]) -> None:
    """Repeat each line behind the name; empty ones are dropped."""
    with stream:
        for line in stream:
            if line.strip():
                tell(f"{name}: {line.rstrip()}")


@contextmanager
def _passed_on(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Handle signals with `handler`; off the main thread Python allows no handler, and none is installed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.signal(number, handler) for number in interrupts.handled()}
    try:
        yield
    finally:
        for number, before in old.items():
            signal.signal(number, signal.SIG_DFL if before is None else before)
