"""Whether two versions of this program compute the same bits: `python tools/compare_bits.py OLD NEW`.

OLD and NEW are checkouts. Each trains every allowed combination of method, cache, participation and groups for three
rounds on the digits, in a process of its own; compared are metrics.jsonl without the times, clients.csv, and every
array of every checkpoint. Names that changed between the two versions are given as `--rename OLD=NEW`, a regular
expression over the arrays' names. A combination that a version refuses is named, and counts as a difference.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

CACHED = ("scarlet", "dsfl", "cfd", "comet", "selective_fd")
UNCACHED = ("fedavg", "feddf", "individual", "centralized", "fedmd", "kt_pfl", "fd", "fedproto")
ONE_MODEL = ("fedavg", "centralized")
SMALL = {
    "rounds": 3,
    "num_clients": 4,
    "public_size": 60,
    "public_per_round": 20,
    "epochs": 1,
    "kd_epochs": 1,
    "batch_size": 20,
    "kd_batch_size": 20,
    "data.train_size": 120,
    "data.test_size": 100,
    "checkpoint.every": 1,
    "checkpoint.keep": 3,
    "clients_per_chunk": 1,
    "model.conv": "cpu",
}


def combinations() -> dict[str, dict[str, object]]:
    """Every run, by name: its fields beside SMALL's."""
    runs = {}
    for method in (*CACHED, *UNCACHED):
        caches = (0, 1) if method in CACHED else (0,)
        shares = (1.0,) if method == "centralized" else (1.0, 0.5)
        models = ("cnn",) if method in ONE_MODEL else ("cnn", "cnn:2,mlp:2")
        for duration, share, model in itertools.product(caches, shares, models):
            name = f"{method}-D{duration}-{share}-{'one' if model == 'cnn' else 'two'}"
            runs[name] = {"participation": share, "model.client": model, "model.server": "cnn"}
            runs[name] |= {"method.name": method, "cache.duration": duration}
    for name, fields in {
        "refresh": {"cache.duration": 1, "cache.on_expiry": "refresh", "participation": 0.5},
        "ratio": {"cache.duration": 1, "cache.ratio": 0.5, "participation": 0.5},
        "bits": {"cache.duration": 1, "comm.label_bits": 8},
        "augment": {"private_augment": True, "public_augment": True, "private_val_ratio": 0.2, "public_val_ratio": 0.2},
        "fedprox": {"method.name": "fedavg", "method.prox_mu": 0.1, "cache.duration": 0},
        "fed": {"data.device_budget_mb": 0.001},
    }.items():
        runs[f"scarlet-{name}"] = {"model.client": "cnn", "model.server": "cnn"} | fields
    return runs


def train(folder: Path, only: str) -> None:
    """Train every combination with the program in the current directory, which may refuse some.

    One that exists is left as it is.
    """
    sys.path.insert(0, os.getcwd())
    import scarlet_jax
    from configs import digits

    for name, fields in combinations().items():
        if not re.search(only, name) or (folder / name / "summary.json").exists():
            continue
        config = digits.get_config()
        config.update_from_flattened_dict(SMALL | fields)
        try:
            scarlet_jax.run(config, folder / name)
        except scarlet_jax.UserError as error:
            print(f"{folder.name} refuses {name}: {error}", file=sys.stderr)


def arrays(run: Path) -> dict[str, object]:
    """Every array of every checkpoint, by step and name; read without the program's own code."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax warns of a file that it does not need
    found = {}
    for item in sorted(run.glob("checkpoints/*/*/_METADATA")):
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            tree = reader.metadata(item.parent).item_metadata.tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            restored = reader.restore(item.parent, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
        for key, leaf in jax.tree_util.tree_leaves_with_path(restored):
            name = f"{item.parents[1].name}/{item.parent.name}{jax.tree_util.keystr(key)}"
            found[name] = np.asarray(leaf)
    return found


def differences(old: Path, new: Path, renames: list[tuple[str, str]]) -> list[str]:
    """What differs between two runs."""
    import numpy as np

    def rows(run: Path) -> list[dict[str, object]]:
        lines = (run / "metrics.jsonl").read_text().splitlines()
        return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]

    wrong = [
        f"round {a['round']}: {key} {a.get(key)} -> {b.get(key)}"
        for a, b in zip(rows(old), rows(new), strict=True)
        for key in sorted({*a, *b})
        if a.get(key) != b.get(key)
    ]
    if (old / "clients.csv").read_text() != (new / "clients.csv").read_text():
        wrong.append("clients.csv")
    before, after = arrays(old), arrays(new)
    for pattern, replacement in renames:
        before = {re.sub(pattern, replacement, name): array for name, array in before.items()}
    assert len(before) > 10, f"no arrays in {old}"
    for name in sorted({*before, *after}):
        if name not in before or name not in after:
            wrong.append(f"{name} only in {'new' if name in after else 'old'}")
        elif before[name].dtype != after[name].dtype or not np.array_equal(before[name], after[name], equal_nan=True):
            far = np.max(np.abs(before[name].astype(float) - after[name].astype(float)))
            wrong.append(f"{name} by {far:.3g}")
    return wrong


def main() -> int:
    """Train with both versions and compare; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--keep", type=Path, help="directory for the runs; those found in it are not trained again")
    parser.add_argument("--rename", action="append", default=[], metavar="OLD=NEW")
    parser.add_argument("--only", default="", help="a regular expression over the names of combinations")
    args = parser.parse_args()
    folder = args.keep or Path(tempfile.mkdtemp(prefix="compare_bits_"))
    environment = os.environ | {"NPROC": "4", "JAX_NUM_CPU_DEVICES": "1", "JAX_PLATFORMS": "cpu", "MPLBACKEND": "Agg"}
    for side in ("old", "new"):
        code = f"import runpy; runpy.run_path({str(Path(__file__).resolve())!r})['train']"
        code += f"(__import__('pathlib').Path({str((folder / side).resolve())!r}), {args.only!r})"
        tree = getattr(args, side)
        subprocess.run([sys.executable, "-c", code], cwd=tree, env=environment, check=True, stdout=subprocess.DEVNULL)
    failed, count = 0, 0
    for name in combinations():
        if not re.search(args.only, name):
            continue
        count += 1
        old, new = (folder / side / name for side in ("old", "new"))
        refused = [f"refused by {run.parent.name}" for run in (old, new) if not (run / "summary.json").exists()]
        wrong = refused or differences(old, new, [tuple(r.split("=", 1)) for r in args.rename])
        failed += bool(wrong)
        print(f"{name}: {'; '.join(wrong[:5]) if wrong else 'the same bits'}{' ...' if len(wrong) > 5 else ''}")
    print(f"{count - failed} of {count} combinations have the same bits")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
