"""Figures and tables of finished or running runs, from their files alone; nothing here imports jax.

    python -m scarlet_jax.report RUN_DIR... --out=DIR [--targets=0.3,0.4] [--baseline=dsfl]

In a notebook, `load(run_dir)` gives a run's numbers as arrays, and `write_report` does what the command does.
"""

from __future__ import annotations

from scarlet_jax.report.groups import Group, group_runs
from scarlet_jax.report.runs import Run, load
from scarlet_jax.report.table import Entry, Options, tabulate
from scarlet_jax.report.write import write_report

__all__ = ["Entry", "Group", "Options", "Run", "group_runs", "load", "tabulate", "write_report"]
