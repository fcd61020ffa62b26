"""Programs in processes of their own that are asked over their standard input: one line in, one line out.

Each has its threads and devices fixed at its start, so that several can be measured in turn.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.common import seconds

FOLDER = Path(__file__).parent
TORCH = FOLDER / ".venv-torch" / "bin" / "python"


class Side:
    """`processes` copies of a program that does what a line says and answers with a line.

    Args:
      command: of the program.
      processes: that do the same work side by side.
      devices: host devices that JAX is to see.
    """

    def __init__(self, command: list[str], processes: int = 1, devices: int = 1):
        environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
        self.processes = processes
        self._all = [
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=FOLDER.parent
            )
            for _ in range(processes)
        ]
        self.greeting = [self._answer(process) for process in self._all][0]

    def __call__(self, line: str) -> float:
        """Seconds until every process has answered."""

        def work() -> None:
            for process in self._all:
                assert process.stdin is not None
                process.stdin.write(line + "\n")
                process.stdin.flush()
            for process in self._all:
                self._answer(process)

        return seconds(work)

    def close(self) -> None:
        """End the processes."""
        for process in self._all:
            process.communicate()

    @staticmethod
    def _answer(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"{process.args} ended with {process.wait()}")
        return line.strip()


def ours(conv: str, devices: int, batch: int) -> Side:
    """Our learner on stacked clients."""
    return Side([sys.executable, "-m", "benchmarks.clients", conv, str(batch)], devices=devices)


def torch(processes: int, threads: int, batch: int) -> Side:
    """PyTorch eager; `make bench` installs it."""
    return Side([str(TORCH), str(FOLDER / "torch_peer.py"), str(threads), str(batch)], processes)
