"""Compiled kernels are kept between processes: a later one compiles none, and lowers a program to the same text."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scarlet_jax.models.conv.triton import primitive
from scarlet_jax.preview import cards

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="it needs triton"),
    pytest.mark.skipif(cards.problem() is not None, reason=f"{cards.problem()}"),
    pytest.mark.skipif(primitive.problem() is not None, reason=f"{primitive.problem()}"),
]

# Gradients of a small CNN of three clients, under `shard_map` as in training.
LOWERED = """
import hashlib, json, sys
import jax, jax.numpy as jnp
from jax.sharding import PartitionSpec
import jax_triton.triton_lib as library
from scarlet_jax.models import build_model
from scarlet_jax.models.conv.triton import primitive

compiled = []
to_ttir = library.code_gen.ast_to_ttir
library.code_gen.ast_to_ttir = lambda fn, *more, **named: (compiled.append(fn.__name__), to_ttir(fn, *more, **named))[1]

capability, dtype = int(sys.argv[1]), sys.argv[2]
primitive.describe(capability)
model = build_model("cnn", 10, "triton", dtype)
variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False))

def loss(params, stats, x):
    logits, _ = model.apply({"params": params, "batch_stats": stats}, x, True, None, mutable=["batch_stats"])
    return jnp.sum(jnp.sin(logits))

def of_clients(params, stats, x):
    return jax.vmap(jax.grad(loss))(params, stats, x)

mesh = jax.make_mesh((1,), ("clients",), axis_types=(jax.sharding.AxisType.Auto,))
spec = PartitionSpec("clients")
program = jax.jit(jax.shard_map(of_clients, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))
stacked = jax.tree.map(lambda a: jax.ShapeDtypeStruct((3, *a.shape), a.dtype), dict(variables))
x = jax.ShapeDtypeStruct((3, 4, 8, 8, 1), jnp.float32)
text = program.trace(stacked["params"], stacked["batch_stats"], x).lower(lowering_platforms=("cuda",)).as_text()
hashed, calls = hashlib.sha256(text.encode()).hexdigest(), text.count("@triton_kernel_call")
print(json.dumps({"compiled": compiled, "text": hashed, "calls": calls}))
"""


def lowered(cache: Path, capability: int = 90, dtype: str = "bfloat16", **environment: str) -> dict[str, Any]:
    """What a process of its own compiles, and a hash of what it lowers the program to."""
    own = {"XDG_CACHE_HOME": str(cache), "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"} | environment
    command = [sys.executable, "-W", "ignore", "-c", LOWERED, str(capability), dtype]
    said = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **own})
    assert said.returncode == 0, said.stderr[-2000:]
    return json.loads(said.stdout.splitlines()[-1])


def test_a_second_process_compiles_nothing_and_lowers_to_the_same_text(tmp_path: Path) -> None:
    first, folder = lowered(tmp_path), tmp_path / "scarlet_jax" / "triton"
    kinds = sorted(name.rpartition("_few")[0] or name for name in first["compiled"])
    assert len(first["compiled"]) == first["calls"] == 5, "forward and weight gradient of both, one input gradient"
    assert {"forward", "weight_gradient"} <= set(kinds)
    second = lowered(tmp_path)
    assert second == first | {"compiled": []}
    fresh = lowered(tmp_path / "empty")
    assert fresh == first, "a kernel compiles to the same bytes in every process"

    whole = {path: path.read_bytes() for path in folder.iterdir()}
    assert len(whole) == 5
    torn, flipped, *others = sorted(whole)
    torn.write_bytes(whole[torn][:1000])
    flipped.write_bytes(whole[flipped][:-1] + b"?")
    third = lowered(tmp_path)
    assert len(third["compiled"]) == 2 and third["text"] == first["text"], "damaged entries are compiled again"
    assert {path: path.read_bytes() for path in folder.iterdir()} == whole

    folder.chmod(0o777)
    assert lowered(tmp_path) == first, "entries that others can have planted are not executed"
    assert {path.stat().st_mode & 0o777 for path in (folder, *others)} == {0o777, others[0].stat().st_mode & 0o777}


def test_what_a_kernel_is_compiled_for_is_in_its_key(tmp_path: Path) -> None:
    compiled = lowered(tmp_path)["compiled"]
    for other in ({"capability": 80}, {"dtype": "float32"}, {"TRITON_DEFAULT_FP_FUSION": "0"}):
        assert len(lowered(tmp_path, **other)["compiled"]) == len(compiled), other  # type: ignore[arg-type]
