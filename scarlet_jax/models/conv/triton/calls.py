"""The custom call that launches a kernel: jax-triton compiles it, and it is kept for later processes.

jax-triton compiles a kernel to PTX while a program that contains it is lowered, which takes 1 to 8 s for each kernel
and shape and comes before JAX's compilation cache. What it puts into the program is a custom call, whose attributes
hold the PTX. They are read from a program of that kernel alone and kept, so that a program is lowered to the same text
whether or not its kernels were compiled in this process.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from scarlet_jax.models.conv.triton.launches import Launch
from scarlet_jax.models.kept import Kept

KERNELS = Path(__file__).parent / "kernels"
_PACKAGES = ("triton", "jax-triton", "jaxlib")
_SWITCHES = (
    "TRITON_",
    "DISABLE_",
    "LLVM_",
    "MLIR_",
    "NVPTX_",
    "USE_IR_LOC",
)  # environment variables of Triton begin so
_kept = Kept("triton", most=64 * 2**20)  # an entry has about 20 kB; ResNet-20 needs 17, a wider one some more
_known: dict[str, Call] = {}  # of this process
_compiling = threading.Lock()  # phases may be lowered side by side, and share kernels


class Call(NamedTuple):
    """A custom call of XLA's, but for its operands and results."""

    target: str
    version: int  # of XLA's interface for custom calls: 2 has one opaque string, 4 named attributes
    attributes: dict[str, bytes]

    def __call__(self, *arrays: jax.Array, results: list[jax.ShapeDtypeStruct]) -> list[jax.Array]:
        """Launch the kernel, in a program that is being traced."""
        if self.version < 4:
            opaque: Any = self.attributes["backend_config"]
            legacy = {"custom_call_api_version": self.version, "legacy_backend_config": opaque}
            return list(jax.ffi.ffi_call(self.target, results, **legacy)(*arrays))
        return list(jax.ffi.ffi_call(self.target, results)(*arrays, **self.attributes))


def launched(launch: Launch, capability: int, *arrays: jax.Array) -> list[jax.Array]:
    """The results of a kernel, in a program that is being traced for cards of this compute capability."""
    import jax_triton  # noqa: F401  (it registers the custom call)

    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in launch.results]
    with _compiling:
        call = _find(launch, capability, arrays)
    return call(*arrays, results=shapes)


@functools.cache
def sources() -> str:
    """A hash of the kernels' source. Where it lies counts, too: compiled kernels name it, for profilers."""
    parts = [str(KERNELS).encode(), *(path.read_bytes() for path in sorted(KERNELS.glob("*.py")))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _find(launch: Launch, capability: int, arrays: tuple[jax.Array, ...]) -> Call:
    key = _key(launch, capability, arrays)
    name = json.dumps(key)
    if name not in _known:
        value = _kept.read(key)
        if value is None:
            call = _compile(launch, capability, arrays)
            _kept.write(key, _encoded(call))
        else:
            call = _decoded(value)
        _known[name] = call
    return _known[name]


def _key(launch: Launch, capability: int, arrays: tuple[jax.Array, ...]) -> dict[str, Any]:
    """Everything that a compiled kernel depends on. Shapes are among the constants; grids are part of a call."""
    return {
        "launch": launch,
        "dtypes": [str(array.dtype) for array in arrays],
        "capability": capability,
        "sources": sources(),
        "compiler": _compiler(),
        "switches": sorted(
            item for item in os.environ.items() if item[0].startswith(_SWITCHES) and item[0] != "TRITON_CACHE_DIR"
        ),
    }


@functools.cache
def _compiler() -> list[str]:
    """What compiles, and where it lies: compiled kernels name Triton's own source, too."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES]
    found = importlib.util.find_spec("triton")
    return [*versions, f"python {sys.version_info[0]}.{sys.version_info[1]}", str(found and found.origin)]


def _compile(launch: Launch, capability: int, arrays: tuple[jax.Array, ...]) -> Call:
    import jax_triton

    from scarlet_jax.models.conv.triton import kernels

    def alone(*arrays: jax.Array) -> Any:
        return jax_triton.triton_call(
            *arrays,
            kernel=getattr(kernels, launch.kernel),
            out_shape=[jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in launch.results],
            grid=launch.grid,
            name=launch.kernel,
            num_warps=launch.warps,
            num_stages=launch.stages,
            compute_capability=capability,
            **dict(launch.constants),
        )

    shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays]
    module: Any = jax.jit(alone).trace(*shapes).lower(lowering_platforms=("cuda",)).compiler_ir("stablehlo")
    [found] = _custom_calls(module.operation)
    attributes = found.attributes
    version, config = attributes["api_version"].value, attributes["backend_config"]
    named = {item.name: item.attr.value_bytes for item in config} if version >= 4 else {}
    return Call(attributes["call_target_name"].value, version, named or {"backend_config": config.value_bytes})


def _custom_calls(operation: Any) -> Iterator[Any]:
    if operation.name == "stablehlo.custom_call":
        yield operation
    for region in operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield from _custom_calls(inner.operation)


def _encoded(call: Call) -> bytes:
    attributes = {name: base64.b64encode(value).decode() for name, value in call.attributes.items()}
    return json.dumps(call._replace(attributes=attributes)).encode()  # type: ignore[arg-type]


def _decoded(value: bytes) -> Call:
    target, version, attributes = json.loads(value)
    return Call(target, version, {name: base64.b64decode(text) for name, text in attributes.items()})
