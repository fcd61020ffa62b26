"""The Triton kernels without a GPU: against their pure form in Triton's interpreter, and what they take of a card.

They run where triton is installed, the interpreter only with torch (CPU): it takes torch's tensors. It knows no
bfloat16; those kernels are compiled. Interpreting is a choice of a whole process, made before triton is imported: hence
the process beside this one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scarlet_jax.models.conv.triton.launches import Problem, covers

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="it needs triton")

INTERPRETER = """
import json, sys
import jax, numpy as np, torch
from scarlet_jax.models.conv.triton import kernels, launches, primitive

def run(operation, arrays, capability):
    launch = operation.launch(capability)
    results = [torch.full(shape, float("nan")) for shape, _ in launch.results]
    tensors = [torch.from_numpy(np.array(a)) for a in arrays]
    getattr(kernels, launch.kernel)[launch.grid](*tensors, *results, **dict(launch.constants))
    return [*results[:-1], results[-1].sum(1)]

for line in sys.stdin:
    kind, problem, flags, precision, capability, seed = json.loads(line)
    p = launches.Problem(*problem)
    operation = primitive.Operation(kind, p, "float32", precision, *flags)
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    if kind == "forward":
        arrays = draw(*p.image), draw(*p.weights)
    elif kind == "weight_gradient":
        arrays = draw(*p.image), draw(*p.result)
    else:
        scales = draw(p.clients, p.inputs), draw(p.clients, p.inputs)
        images = [draw(*p.image) for _ in range(3)]
        images[1] *= rng.random(images[1].shape[:2])[:, :, None, None, None] < 0.7  # z of padding rows is 0
        arrays = draw(*p.result), draw(*p.weights), *images, *scales
    expected = [np.asarray(a) for a in primitive.pure(operation, *arrays)]
    got = [a.numpy() for a in run(operation, arrays, capability)]
    if kind == "input_gradient" and not flags[0]:
        got, expected = got[:1], expected[:1]
    worst = max(float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-6)) for a, b in zip(got, expected))
    print(json.dumps(worst if all(np.isfinite(a).all() for a in got) else 1e9), flush=True)
"""


@pytest.fixture(scope="module")
def interpreter():
    """A process that interprets kernels: a line of JSON in, the relative error out."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("it needs torch")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", INTERPRETER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdin is not None and process.stdout is not None

    def ask(*question: object) -> float:
        process.stdin.write(json.dumps(question) + "\n")
        process.stdin.flush()
        return float(json.loads(process.stdout.readline()))

    yield ask
    process.stdin.close()
    process.wait(60)


SMALL = st.builds(
    Problem,
    clients=st.integers(1, 2), batch=st.integers(1, 3), height=st.integers(1, 9), width=st.integers(1, 9),
    inputs=st.sampled_from((1, 3, 16, 32)), outputs=st.sampled_from((16, 32)), size=st.sampled_from((1, 3)),
    stride=st.sampled_from((1, 2)),
)  # fmt: skip


@settings(max_examples=40)
@given(SMALL, st.tuples(st.booleans(), st.booleans(), st.booleans()), st.sampled_from(("tf32", "ieee")),
       st.sampled_from((80, 90)), st.integers(0, 99))  # fmt: skip
@example(Problem(1, 2, 4, 5, 64, 64, 3, 1), (True, True, True), "tf32", 90, 0)
@example(Problem(1, 2, 5, 4, 32, 64, 3, 2), (True, True, True), "tf32", 90, 0)
@example(Problem(1, 1, 4, 3, 128, 64, 3, 1), (True, True, False), "tf32", 90, 0)
@example(Problem(1, 1, 3, 3, 64, 128, 1, 2), (False, False, True), "tf32", 80, 0)
def test_kernels_compute_their_pure_form(interpreter, problem, flags, precision, capability, seed):
    assert covers(problem, "float32")
    for kind in ("forward", "weight_gradient", "input_gradient"):
        if kind != "input_gradient" or not problem.few:
            assert (
                interpreter(kind, problem, flags if kind == "input_gradient" else (), precision, capability, seed)
                < 2e-5
            )


def test_kernels_of_bfloat16_spill_nothing_and_fit_their_card():
    """163 and 227 KB of shared memory are what a block may have on sm_80 and sm_90."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "benchmarks.gpu_resources"]
    said = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert said.returncode == 0, said.stderr[-2000:]
    rows = [json.loads(line) for line in said.stdout.splitlines()]
    assert len(rows) == 2 * 2 * 17
    assert [row for row in rows if row["shared"] > {80: 163, 90: 227}[row["sm"]] * 1024] == []
    assert [row for row in rows if row["dtype"] == "bfloat16" and row["spilled"]] == []
