"""Small runs, in this process and in others, and what they left on disk."""

from __future__ import annotations

import csv
import json
import os
import pty
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from configs import digits
from scarlet_jax.runtime import checkpoint

ROOT = Path(__file__).resolve().parents[2]

# Milliseconds a round: 4 clients with 30 training images each, 20 of 60 public images.
TINY: dict[str, Any] = {
    "rounds": 4,
    "num_clients": 4,
    "public_size": 60,
    "public_per_round": 20,
    "epochs": 1,
    "kd_epochs": 1,
    "batch_size": 60,
    "kd_batch_size": 20,
    "data.train_size": 120,
    "data.test_size": 100,
    "partition.name": "iid",
    "model.client": "mlp",
    "model.server": "mlp",
    "cache.duration": 2,
    "checkpoint.every": 2,
}


def tiny(**fields: Any):
    """configs/digits.py at its smallest; fields by dotted name, with __ for the dot."""
    config = digits.get_config()
    config.update_from_flattened_dict(TINY | {name.replace("__", "."): value for name, value in fields.items()})
    return config


def flags(**fields: Any) -> list[str]:
    """The same as arguments of launch.py."""
    values = TINY | {name.replace("__", "."): value for name, value in fields.items()}
    return ["--config=configs/digits.py", *(f"--config.{name}={value}" for name, value in values.items())]


def command(workdir: Path, **fields: Any) -> list[str]:
    return [sys.executable, "launch.py", *flags(**fields), f"--workdir={workdir}"]


def environment(devices: int = 1, quick: bool = True) -> dict[str, str]:
    """Of a process with forced host devices; the pool of XLA has the size that conftest chose.

    With `quick`, programs are compiled as under the fixture `quick_compilation`.
    """
    own = {"JAX_NUM_CPU_DEVICES": str(devices)}
    own |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"} if quick else {}
    return {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | own


def launch(*args: str) -> subprocess.CompletedProcess[str]:
    """Run launch.py in its folder, as a user would; the terminal has 80 columns."""
    own = {**os.environ, "COLUMNS": "80"}
    command = [sys.executable, ROOT / "launch.py", *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=own, timeout=120)


def start(arguments: list[str], **options: Any) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(arguments, cwd=ROOT, env=environment(), text=True, **pipes)


# Without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, dropped by PR_CAPBSET_DROP; who is not root has neither of them.
_OBEYING = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def obeying(arguments: list[str]) -> list[str]:
    """The command with permissions of files binding it, also where the tests run as root.

    A root process keeps its uid, because another one might not be allowed to read the Python that it runs in.
    """
    return [sys.executable, "-c", _OBEYING, *arguments]


def without_native(stderr: str) -> str:
    """Without the line about the native convolution: that it is built now, or that there is no compiler for it."""
    return "".join(line for line in stderr.splitlines(keepends=True) if "native convolution" not in line)


def terminal() -> tuple[int, int]:
    """Both ends of a pseudo-terminal; a machine may have none, such as a bare chroot."""
    try:
        return pty.openpty()
    except OSError as error:
        pytest.skip(f"there are no pseudo-terminals here: {error}")


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str], seconds: float = 120) -> None:
    """Poll until something is so, while the process lives."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def rows(workdir: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what the clock says; metrics.csv must say the same."""
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    with open(workdir / "metrics.csv") as file:
        table = list(csv.DictReader(file))
    as_text = [{k: "" if v is None else str(v) for k, v in row.items()} for row in found]
    assert table == as_text
    return [{k: v for k, v in row.items() if k != "seconds"} for row in found]


def starts(workdir: Path) -> list[dict[str, Any]]:
    """What environment.json says of each start."""
    return json.loads((workdir / "environment.json").read_text())["starts"]


def saved(workdir: Path, rounds: int | None = None) -> dict[str, np.ndarray]:
    """Every array of a checkpoint, by default of the newest, by name; read without the program's own code."""
    rounds = checkpoint.steps(workdir)[-1] if rounds is None else rounds
    arrays = {}
    for item in ("federation", "server"):
        path = workdir / "checkpoints" / str(rounds) / item
        if not path.exists():
            continue  # a method without a server model
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            tree = reader.metadata(path).item_metadata.tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            found = reader.restore(path, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
        for key, leaf in jax.tree_util.tree_leaves_with_path(found):
            arrays[item + jax.tree_util.keystr(key)] = np.asarray(leaf)
    assert len(arrays) > 4
    return arrays


def assert_same_bits(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype and one[name].shape == other[name].shape, name
        assert one[name].tobytes() == other[name].tobytes(), name


def assert_same_run(one: Path, other: Path) -> None:
    """Same final state and same records, bit for bit, whatever happened on the way."""
    assert_same_bits(saved(one), saved(other))
    assert rows(one) == rows(other)
    assert (one / "clients.csv").read_text() == (other / "clients.csv").read_text()
    assert json.loads((one / "summary.json").read_text()) == json.loads((other / "summary.json").read_text())


def scalars(workdir: Path) -> dict[str, dict[int, float]]:
    """TensorBoard's scalars: tag -> step -> value, after its own rule that a restart cuts what lay beyond."""
    from tensorboardX.proto import event_pb2

    result: dict[str, dict[int, float]] = {}
    for path in sorted((workdir / "tensorboard").iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            event = event_pb2.Event.FromString(data[at + 12 : at + 12 + size])
            at += 16 + size
            if event.HasField("session_log"):
                for tag, steps in result.items():
                    result[tag] = {step: value for step, value in steps.items() if step < event.step}
            for value in event.summary.value:
                result.setdefault(value.tag, {})[event.step] = value.simple_value
    return result
