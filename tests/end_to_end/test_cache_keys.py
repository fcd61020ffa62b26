"""Two processes compile the same programs, also for another seed: what one has kept, the next one finds."""

import json
import subprocess
import sys

import pytest

from tests.support import harness

# Prints the key of every phase of a run, and of the fields of its config that are given as JSON.
KEYS = """
import json, sys
import jax
from scarlet_jax.preview import compiled, dry_run
from tests.support.harness import tiny
plan = dry_run.prepare(tiny(**json.loads(sys.argv[1])))
print(json.dumps({call.name: compiled.key(call.traced.lower()) for call in plan.shapes.calls}))
"""


def call(arguments, **variables):
    own = harness.environment() | variables
    done = subprocess.run(arguments, cwd=harness.ROOT, env=own, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def keys(hash_seed, **fields):
    """Phase -> key, as a process of its own computes them."""
    return json.loads(call([sys.executable, "-c", KEYS, json.dumps(fields)], PYTHONHASHSEED=str(hash_seed)))


@pytest.mark.parametrize(
    "fields", [{"model.client": "mlp:2,cnn:2", "method.name": "comet"}, {"method.name": "feddf", "cache.duration": 0}]
)
def test_two_processes_and_seeds_lower_the_same_programs(fields):
    one = keys(1, participation=0.5, **fields)
    other = keys(2, participation=0.5, seed=7, lr=0.01, kd_lr=0.02, **fields)
    assert one == other and len(one) > 5 and len(set(one.values())) > 5
    changed = keys(1, participation=0.5, epochs=3, **fields)
    assert all(changed[name] != one[name] for name in one if name in ("train mlp", "train cnn"))


def test_two_runs_with_different_seeds_ask_jax_s_cache_for_the_same_entries(tmp_path):
    """JAX's own cache, switched on for a CPU, where it writes entries. Both runs name them alike."""
    folder, names = tmp_path / "cache", []
    switched_on = {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    for number in (1, 2):
        run = harness.command(tmp_path / str(number), rounds=1, seed=number)
        call(run, PYTHONHASHSEED=str(number), **switched_on)
        names.append({path.name for path in folder.iterdir() if path.name.endswith("-cache")})
        folder.rename(tmp_path / f"cache {number}")
    assert names[0] == names[1] and len(names[0]) > 5
