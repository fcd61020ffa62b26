"""benchmarks/gpu.py, rehearsed without a GPU, so that the minutes on one are not lost to a mistake."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_part_of_the_measurement_runs(tmp_path):
    before = (ROOT / "benchmarks" / "results" / "gpu.json").read_bytes()
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--seconds=900"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "not measured" not in run.stdout
    for line in ("| triton bfloat16 |", "| server grouped |", "a round, evaluation included", "| input_gradient |"):
        assert line in run.stdout
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
    assert (ROOT / "benchmarks" / "results" / "gpu.json").read_bytes() == before, "a rehearsal is no result"


def test_it_ends_when_it_must():
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--seconds=1"]
    run = subprocess.run(command, cwd=ROOT, env={**os.environ, "JAX_PLATFORMS": "cpu"}, capture_output=True, text=True)
    assert run.returncode == 1
    assert "not measured: config: not done in time" in run.stdout
