"""Train the runs of docs/results, and make its page: `python -m tools.evidence train RUNS`, `... page RUNS`."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from tools.evidence import runs, train

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tools.evidence", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train what has not finished; may be stopped at any time")
    training.add_argument("runs", type=Path, help="folder of the runs")
    training.add_argument("--checkout", type=Path, default=ROOT, help="the program that trains; default: this one")
    training.add_argument("--only", type=re.compile, default="", help="regular expression: runs with such a name")
    paging = commands.add_parser("page", help="make docs/results from the records")
    paging.add_argument("runs", type=Path, nargs="?", help="folder of runs, whose records are made first")
    commands.add_parser("list", help="print the command line of every run")
    options = parser.parse_args()
    if options.command == "train":
        wanted = [run for run in runs.planned() if re.search(options.only, run.name)]
        failed = train.train(options.runs, options.checkout, wanted)
        print(f"failed: {', '.join(failed)}" if failed else "All runs have finished.")
        return 1 if failed else 0
    if options.command == "page":
        make_page(options.runs)
        return 0
    for run in runs.planned():
        print("python launch.py", *runs.command(run))
    return 0


def make_page(folder: Path | None) -> None:
    """Write records, figures and page into docs/results."""
    from tools.evidence import figures, page, records  # training needs no matplotlib and no SciPy

    if folder is not None:
        print(f"{records.collect(folder, RESULTS / 'records')} runs have finished.")
    found = records.read(RESULTS / "records")
    figures.write({setting: records.by_variant(found, setting) for setting in runs.SETTINGS}, RESULTS)
    (RESULTS / "README.md").write_text(page.render(found))


if __name__ == "__main__":
    sys.exit(main())
