"""Measures everything that needs a GPU, in one command that ends by itself.

    python -m benchmarks.gpu [--seconds=300] [--tiny]

Three stages, each with its limit; within a stage parts compile side by side and use the GPU one at a time:
1. copy bandwidth, every kernel of `model.conv=triton` against its pure form and against the bytes it must move; the
   training step of ResNet-20 in bfloat16 with `triton` and `grouped`, its kernels by kind;
2. configs/cifar10.py in bfloat16 on images that are made here, three rounds with nothing kept, and three with what
   that start kept and another seed: from the command to the first round, and the rounds;
3. the training step in TF32; rounds of that config, each waited for, and their phases; the server's steps; PyTorch,
   where it is installed: one model eager and as a CUDA graph, `torch.func.vmap` of 25; the server's step and the
   clients' with Triton's kernels inside XLA's command buffers (CUDA graphs).

After every stage benchmarks/results/gpu.json holds what was measured, and names the parts that did not end in time.
`--tiny` rehearses all parts on any machine, and does not write that file.

On a machine without a network bring wheels of what is missing: jax-triton, and this project's dependencies
(`pip download --no-deps --only-binary=:all: --python-version 3.12 -r ...`); images are not needed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "gpu.json"
LAST = (
    "grouped tf32", "triton tf32", "rounds", "torch", "server triton", "server grouped", "server triton graphs",
    "triton bfloat16 graphs",
)  # fmt: skip
STAGES = (  # share of the time by whose end a stage is over, its parts
    (0.30, ("grouped bfloat16", "triton bfloat16", "kernels bfloat16", "kernels tf32")),
    (0.68, ("config",)),
    (1.0, LAST),
)
# What is compared with PyTorch: the name of a row, and two parts whose samples/s are divided.
RATIOS = (
    ("CUDA graph of one model, bfloat16", "triton bfloat16", "torch graph bfloat16"),
    ("CUDA graph of one model, TF32", "triton tf32", "torch graph tf32"),
    ("eager, bfloat16", "triton bfloat16", "torch eager bfloat16"),
    ("eager, TF32", "triton tf32", "torch eager tf32"),
    ("torch.func.vmap of 25, TF32", "triton tf32", "torch vmap tf32"),
)


def main() -> int:
    """Run the stages; 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300, help="when to end, whatever is missing then")
    parser.add_argument("--tiny", action="store_true", help="rehearse with tiny sizes; nothing is kept")
    arguments = parser.parse_args()
    begun = time.monotonic()
    result: dict[str, Any] = {"seconds": arguments.seconds, "parts": {}, "missing": {}}
    with tempfile.TemporaryDirectory(prefix="scarlet_gpu_") as folder:
        for share, parts in STAGES:
            _stage(parts, begun + share * arguments.seconds, folder, arguments.tiny, result)
            if not arguments.tiny:
                RESULT.parent.mkdir(exist_ok=True)
                RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))
    return int(bool(result["missing"]))


def _stage(parts: tuple[str, ...], end: float, folder: str, tiny: bool, result: dict[str, Any]) -> None:
    """Start the parts of a stage, and wait for them until `end`."""
    running = {}
    for part in parts:
        log = open(f"{folder}/{part}.log", "w")  # noqa: SIM115
        command = [sys.executable, "-m", "benchmarks.gpu_parts", part, folder, *(["--tiny"] if tiny else [])]
        running[part] = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, env=_environment())
        time.sleep(0 if tiny else 0.5)  # the first of a stage uses the GPU first
    for part, process in running.items():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, end - time.monotonic()))
        late = process.poll() is None
        if late:
            process.kill()
            process.wait()
        found = Path(folder, f"{part}.json")
        if found.exists():
            result["parts"][part] = json.loads(found.read_text())
        if late or process.returncode:
            tail = Path(folder, f"{part}.log").read_text().splitlines()[-12:]
            result["missing"][part] = "not done in time" if late else " | ".join(tail)[-1500:]
        print(f"{part}: {'late' if late else 'failed' if process.returncode else 'done'}", flush=True)


def _environment() -> dict[str, str]:
    """Of a part: several share the card, and modules are found from this folder."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "3"}


def table(result: dict[str, Any]) -> str:
    """Markdown of what was measured."""
    parts, lines = result["parts"], []
    speeds = {name: part["samples"] for name, part in parts.items() if "samples" in part}
    speeds |= {f"torch {name}": value for name, value in parts.get("torch", {}).items()}
    kernels = parts.get("kernels bfloat16", {})
    lines.append(f"{kernels.get('card', '?')}, copy {kernels.get('copy_tb', '?')} TB/s\n")
    lines += ["| how | samples/s | step, ms | first call, s |", "| --- | --- | --- | --- |"]
    for name, speed in speeds.items():
        part = parts.get(name, {})
        lines.append(f"| {name} | {speed:,.0f} | {part.get('step_ms', '')} | {part.get('first', '')} |")
    lines += ["", "| against PyTorch in the same precision | times |", "| --- | --- |"]
    for name, ours, theirs in RATIOS:
        if ours in speeds and theirs in speeds:
            lines.append(f"| {name} | {speeds[ours] / speeds[theirs]:.1f} |")
    for name in parts:
        if "kinds" in parts[name]:
            lines.append(f"\n{name}, ms a step by kind: {parts[name]['kinds']}, {parts[name]['launches']} launches")
    if "config" in parts:
        lines.append(f"\nconfigs/cifar10.py, bfloat16, triton: {json.dumps(parts['config'])}")
    if "rounds" in parts:
        lines.append(f"\na round, evaluation included: {json.dumps(parts['rounds'])}")
    rows = [row for name in ("bfloat16", "tf32") for row in parts.get(f"kernels {name}", {}).get("rows", [])]
    if rows:
        lines += [
            "",
            "| kernel | shape | precision | us | times its floor | error |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    for name, part in parts.items():
        if "doubt" in part:
            lines.append(f"\n{name}: {part['doubt']}")
    for name, why in result["missing"].items():
        lines.append(f"\nnot measured: {name}: {why}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
