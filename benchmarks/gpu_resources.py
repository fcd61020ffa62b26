"""Registers, spilled bytes and shared memory of the Triton kernels of ResNet-20, compiled for cards that are not here.

python -m benchmarks.gpu_resources [80 90]     (needs triton; a minute for each compute capability)
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from scarlet_jax.models.conv.triton import kernels
from scarlet_jax.models.conv.triton.launches import Launch, Problem
from scarlet_jax.models.conv.triton.primitive import Operation

SHAPES = ((32, 3, 16, 1), (32, 16, 16, 1), (32, 16, 32, 2), (16, 32, 32, 1), (16, 32, 64, 2), (8, 64, 64, 1))
TYPES = {"float32": "*fp32", "bfloat16": "*bf16"}
PTXAS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"


def usage(operation: Operation, capability: int) -> dict[str, Any]:
    """What ptxas says of the operation's kernel."""
    launch = operation.launch(capability)
    kernel = getattr(kernels, launch.kernel)
    names, types = kernel.arg_names, _types(operation, launch)
    signature = {name: types[i] if i < len(types) else "constexpr" for i, name in enumerate(names)}
    constants = {(names.index(name),): value for name, value in launch.constants}
    aligned = {(i,): [["tt.divisibility", 16]] for i in range(len(types))}
    source = ASTSource(kernel, signature, constants, aligned)
    options = {"num_warps": launch.warps, "num_stages": launch.stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assembly = compiled.asm["ptx"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "kernel.ptx")
        file.write_text(assembly)
        card = re.findall(r"\.target (\w+)", assembly)[0]
        command = [PTXAS, "-v", f"-arch={card}", "-o", f"{folder}/kernel.cubin", file]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return {
        "sm": capability,
        "kernel": launch.kernel,
        "shape": f"{operation.problem.height}x{operation.problem.inputs}-{operation.problem.outputs}",
        "dtype": operation.dtype,
        "registers": int(re.findall(r"Used (\d+) registers", said)[0]),
        "spilled": int(re.findall(r"(\d+) bytes spill stores", said)[0]),
        "shared": compiled.metadata.shared,
    }


def _types(operation: Operation, launch: Launch) -> list[str]:
    """Of the kernel's arrays, in its order."""
    images, exact = TYPES[operation.dtype], TYPES["float32"]
    arrays = {
        "forward": [images, exact],
        "input_gradient": [images, exact, images, images, images, exact, exact],
        "weight_gradient": [images, images],
    }[operation.kind]
    return [*arrays, *(TYPES[dtype] for _, dtype in launch.results)]


def operations(dtype: str) -> Iterator[Operation]:
    """All kernels of a training step of 100 clients with batches of 50; the gradient with everything it can do."""
    for size, inputs, outputs, stride in SHAPES:
        problem = Problem(100, 50, size, size, inputs, outputs, 3, stride)
        yield Operation("forward", problem, dtype, "tf32")
        yield Operation("weight_gradient", problem, dtype, "tf32")
        if not problem.few:
            yield Operation("input_gradient", problem, dtype, "tf32", True, True, True)


def main() -> None:
    """A line of JSON for each kernel."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = folder  # jax-triton sets it to nothing, which child processes inherit
        for capability in [int(text) for text in sys.argv[1:]] or [80, 90]:
            for dtype in TYPES:
                for operation in operations(dtype):
                    print(json.dumps(usage(operation, capability)), flush=True)


if __name__ == "__main__":
    main()
