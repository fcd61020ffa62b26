"""Trains the runs of the evidence, one after another; what is finished is skipped."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tools.evidence import runs


def finished(workdir: Path) -> bool:
    """Whether a run has done all its rounds."""
    try:
        return bool(json.loads((workdir / "summary.json").read_text())["complete"])
    except (FileNotFoundError, KeyError, ValueError):
        return False


def train(out: Path, checkout: Path, wanted: Sequence[runs.Planned], python: str = sys.executable) -> list[str]:
    """Train what is not finished; a run that fails is named at the end and does not keep the others from running.

    Args:
      out: folder of the runs' folders.
      checkout: of the program that trains.
      wanted: in this order.
      python: interpreter that has the program's dependencies.

    Returns:
      Names of the runs that failed.
    """
    failed = []
    for number, run in enumerate(wanted, 1):
        workdir = out / run.name
        if finished(workdir):
            continue
        workdir.parent.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        with workdir.with_name(workdir.name + ".log").open("a") as log:
            code = subprocess.run(
                [python, "launch.py", *runs.command(run), f"--workdir={workdir.resolve()}"],
                cwd=checkout, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False,
            ).returncode  # fmt: skip
        if code or not finished(workdir):
            failed.append(run.name)
        word = f"failed with exit status {code}" if run.name in failed[-1:] else "finished"
        print(f"[{number}/{len(wanted)}] {run.name}: {word} after {time.monotonic() - start:.0f} s", flush=True)
    return failed
