"""`python -m scarlet_jax.data`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from configs import digits
from scarlet_jax.data import describe, federation

ROOT = Path(__file__).resolve().parents[2]


def look(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scarlet_jax.data", *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_command_prints_and_writes_and_trains_nothing(tmp_path):
    done = look("--config=configs/digits.py", f"--out={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "8x8 pixels, 1 channel, 10 classes" in done.stdout
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["partition.csv", "partition.npz", "partition.png"]
    with (tmp_path / "out" / "partition.csv").open(newline="") as file:
        written = {row["client"]: row["size"] for row in csv.DictReader(file) if row["split"] == "train"}
    table = done.stdout[done.stdout.index("  client") :].splitlines()
    shown = {line.split()[0]: line.split()[1] for line in table[1:11]}
    assert shown == written and len(shown) == 10
    assert not list(tmp_path.rglob("config.json"))


@pytest.mark.parametrize(
    "args,words",
    [
        (["--config=configs/digits.py", "--config.data.private=digitz"], "config.data.private is 'digitz'"),
        (["--config=configs/digits.py", "--out=configs"], "--out is configs"),
    ],
)
def test_refusals_are_one_sentence(args, words):
    done = look(*args)
    assert done.returncode == 1 and words in done.stderr and len(done.stderr.splitlines()) == 1


def test_long_tables_are_quartiles():
    config = digits.get_config()
    config.num_clients, config.partition.name, config.partition.alpha = 60, "label_dirichlet", 1e-3
    fed = federation.load(config)
    size = np.asarray(fed.data.train.size)
    lines = describe.text(fed).splitlines()
    at = next(i for i, line in enumerate(lines) if "60 by client" in line)
    column = [float(line.replace("quarter", "").split()[1]) for line in lines[at + 1 : at + 6]]
    assert column == pytest.approx(np.percentile(size, [0, 25, 50, 75, 100]))
    assert f"{(size == 0).sum()} of 60 clients have no training images" in lines[-1]
