"""Devices that are described instead of present: programs are compiled for them, and looked at, on any machine.

Needs the extra `gpu-aot`: XLA's CUDA compiler, without any of NVIDIA's libraries, a driver or a GPU. What it yields is
structure and estimates: nothing is autotuned, and scratch memory of cuDNN and cuBLAS is not included.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from scarlet_jax.engine.layout import make_mesh
from scarlet_jax.errors import UserError
from scarlet_jax.models.conv.triton import primitive

MODULES = ("jax_cuda12_plugin", "jax_plugins.xla_cuda12")  # of the extra
MOST_DEVICES = 64
USABLE = 0.9  # of a card's memory; the rest is left to the context, to cuDNN's scratch memory and to fragmentation


class Card(NamedTuple):
    """What XLA wants to know of a GPU; NVIDIA's data sheets."""

    compute_capability: int  # major
    multiprocessors: int
    lanes: int  # float32 units of a multiprocessor
    shared_memory: int  # bytes of a multiprocessor
    block_shared_memory: int  # bytes that a block may opt in to
    bandwidth: int  # bytes per second
    l2_cache: int  # bytes
    clock: float  # GHz
    memory: int  # bytes


CARDS = {
    "A100": Card(8, 108, 64, 167_936, 166_912, 2_039_040_000_000, 41_943_040, 1.41, 85_100_068_864),
    "H100": Card(9, 132, 128, 233_472, 232_448, 3_352_320_000_000, 52_428_800, 1.98, 84_942_979_072),
    "H200": Card(9, 132, 128, 233_472, 232_448, 4_800_000_000_000, 52_428_800, 1.98, 150_754_820_096),
}

# XLA would try tiles of Triton products on the device; without one it picks some, which say nothing. Show cuBLAS calls.
OPTIONS = {"xla_gpu_enable_triton_gemm": False}


def problem() -> str | None:
    """Why nothing can be compiled for a card here; None if it can."""
    with contextlib.suppress(ModuleNotFoundError):  # of the parent package
        if all(importlib.util.find_spec(name) for name in MODULES):
            return None
    return 'it needs the extra gpu-aot: in the source folder, pip install -c constraints.txt -e ".[gpu-aot]"'


def parse(text: str) -> tuple[str, int]:
    """`H100x8` -> ("H100", 8); `H100` is one.

    Raises:
      UserError: unknown card, or a number out of range.
    """
    match = re.fullmatch(r"(\w+?)(?:x(\d+))?", text)
    name, count = (match[1], int(match[2] or 1)) if match else (text, 0)
    if name not in CARDS or not 1 <= count <= MOST_DEVICES:
        raise UserError(
            f"--cards is {text!r}; allowed is one of {', '.join(CARDS)}, or several on one host, as in H100x8 "
            f"(at most {MOST_DEVICES})."
        )
    return name, count


def described_mesh(text: str) -> Mesh:
    """The mesh of a run on that many cards. It holds no data; give phases shapes with its shardings.

    Raises:
      UserError: as `parse`, or the compiler is not installed.
    """
    return _mesh(*parse(text))


@functools.cache
def _mesh(name: str, count: int) -> Mesh:
    why = problem()
    if why:
        raise UserError(f"--cards is {name}x{count}, but {why}.")
    try:
        with _without_a_driver():
            topology = topologies.get_topology_desc(name, "cuda", target_config=_config(name), topology=f"1x1x{count}")
    except NotImplementedError:  # JAX has looked for devices before, and the plugin left when it found no driver
        raise UserError("JAX looked for a GPU before --cards was read: set JAX_PLATFORMS=cpu.") from None
    primitive.describe(10 * CARDS[name].compute_capability)
    return make_mesh(list(topology.devices))


@contextlib.contextmanager
def _without_a_driver() -> Iterator[None]:
    """The plugin registers itself only where a driver is, or where somebody said which platforms to use."""
    before = jax.config.jax_platforms  # type: ignore[attr-defined]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # or every library of it says that there is no driver
    if before is None:
        jax.config.update("jax_platforms", "cpu")
    try:
        yield
    finally:
        jax.config.update("jax_platforms", before)


def _config(name: str) -> str:
    """XLA's GpuTargetConfigProto, as text."""
    card = CARDS[name]
    return f"""
      gpu_device_info {{
        cuda_compute_capability {{ major: {card.compute_capability} minor: 0 }}
        core_count: {card.multiprocessors} fpus_per_core: {card.lanes} clock_rate_ghz: {card.clock}
        threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
        registers_per_core_limit: 65536 registers_per_block_limit: 65536
        shared_memory_per_block: 49152 shared_memory_per_core: {card.shared_memory}
        shared_memory_per_block_optin: {card.block_shared_memory}
        block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
        thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
        memory_bandwidth: {card.bandwidth} l2_cache_size: {card.l2_cache} device_memory_size: {card.memory}
      }}
      platform_name: "CUDA" runtime_version {{ major: 12 minor: 9 }} dnn_version_info {{ major: 9 minor: 10 }}
      device_description_str: "{name}" """
