"""What every benchmark shares: alternating measurements, medians with their range, results as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
REPEATS = 5


def alternate(sides: dict[str, Callable[[], float]], repeats: int = REPEATS) -> dict[str, dict[str, float]]:
    """Measure the sides in turn, `repeats` times each, so that what else the machine does meets all of them.

    Args:
      sides: name -> a function that does the work once and returns the seconds it took.
      repeats: at least 5.

    Returns:
      name -> median, min and max of the seconds.
    """
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, measure in sides.items():
            taken[name].append(measure())
    return {
        name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
        for name, values in taken.items()
    }


def seconds(work: Callable[[], Any]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def write(name: str, result: dict[str, Any]) -> None:
    """benchmarks/results/<name>.json, with the machine it was measured on."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **result}, indent=2) + "\n")
    print(f"written: {os.path.relpath(path)}", flush=True)


def machine() -> dict[str, Any]:
    """Processor, cores and versions."""
    import jax

    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "commit": commit,
    }
