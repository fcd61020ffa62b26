"""(e) Seconds from the command to the end of round 0: cold (nothing built, nothing decoded) and warm.

Against the time that Python takes to import the libraries, measured in the same turn.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import alternate, seconds, write

IMPORTS = "import jax, flax.linen, optax, orbax.checkpoint, matplotlib.pyplot; jax.devices()"
# ResNet-20 at the size of configs/cifar10_small.py. A round ends when its row has been read.
CASES = {"digits": "configs/digits.py", "resnet20": "configs/cifar10_small.py"}


def start(config: str, cache: str) -> float:
    """Seconds until the first round's line; the run is then stopped."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-u", "launch.py", f"--config={config}", f"--workdir={folder}/run"]
        environment = os.environ | {"XDG_CACHE_HOME": cache}
        began = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("round 1/"):
                taken = time.perf_counter() - began
                process.kill()
                process.communicate()
                return taken
        raise SystemExit(f"launch.py --config={config} ended before its first round")


def cold(config: str) -> float:
    """With empty caches."""
    with tempfile.TemporaryDirectory() as cache:
        return start(config, cache)


def main() -> None:
    """Measure and write."""
    result = {}
    imports = functools.partial(subprocess.run, [sys.executable, "-c", IMPORTS], check=True)
    with tempfile.TemporaryDirectory() as cache:
        for name, config in CASES.items():
            if name == "resnet20" and not Path(os.environ.get("TFDS_DATA_DIR", "")).joinpath("cifar10").exists():
                print("TFDS_DATA_DIR has no cifar10: the start with ResNet-20 is not measured", flush=True)
                continue
            start(config, cache)
            sides = {"cold": functools.partial(cold, config), "warm": functools.partial(start, config, cache)}
            result[name] = alternate(sides | {"imports": lambda: seconds(imports)})
            print(name, {side: round(t["median"], 1) for side, t in result[name].items()}, flush=True)
    write("start", {"seconds": result})


if __name__ == "__main__":
    main()
