"""Draw and tabulate runs: `scarlet report RUN_DIR... --out=DIR`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from scarlet_jax.commands import boundary
from scarlet_jax.errors import UserError
from scarlet_jax.report import text
from scarlet_jax.report.runs import LEDGERS
from scarlet_jax.report.table import Options
from scarlet_jax.report.write import write_report
from scarlet_jax.runtime import streams

_EXAMPLES = """\
examples:
  %(prog)s runs/* --out=report
  %(prog)s runs/* --out=report --targets=0.3,0.4 --baseline=dsfl
  %(prog)s runs/* --out=report --ledger=wire --uplink-mbps=10 --downlink-mbps=50

Runs that differ only in their seed are shown as one, with mean and standard deviation.
Written: report.html (all in one file), table.md, table.csv, and every figure as .svg and .png.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[:1].upper()}{message[1:].rstrip('.')}; --help lists what there is.")


def _targets(value: str) -> tuple[float, ...]:
    """The values of --targets, in rising order, each once."""
    try:
        return tuple(sorted({float(part) for part in value.split(",") if part.strip()}))
    except ValueError:
        raise UserError(f"--targets takes accuracies divided by commas, as in 0.3,0.4, not {value!r}.") from None


def _parser(command: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=command,
        description="Draw and tabulate runs from the files in their directories; they may still be running.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN_DIR", help="directory of a run (its --workdir)")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="where the report goes; an earlier report there is replaced"
    )
    parser.add_argument(
        "--targets", metavar="A,B", help="top-1 accuracies, 0 to 1, whose bytes until reached are shown"
    )
    parser.add_argument(
        "--baseline", metavar="NAME", help="divide bytes by this one's: METHOD, METHOD+cache, a run's name or a label"
    )
    parser.add_argument(
        "--ledger", default=LEDGERS[0], metavar="|".join(LEDGERS), help="how bytes are counted (default: reference)"
    )
    parser.add_argument(
        "--uplink-mbps", type=float, metavar="MBPS", help="a participant's uplink in Mbit/s: adds hours of transmission"
    )
    parser.add_argument("--downlink-mbps", type=float, metavar="MBPS", help="a participant's downlink in Mbit/s")
    return parser


def parse(argv: Sequence[str] | None = None, command: str = "scarlet report") -> tuple[argparse.Namespace, Options]:
    """Parse the arguments of the command; by default those of this process.

    Returns:
      The arguments, and the options of the report that they give.

    Raises:
      UserError: an argument is missing, unknown, empty or impossible.
    """
    args = _parser(command).parse_intermixed_args(argv)
    for name, value in vars(args).items():
        if value == "" or (name == "runs" and "" in value):
            flag = "RUN_DIR" if name == "runs" else f"--{name}"
            raise UserError(f"{flag} is empty: give it a value, or leave it out.")
    targets, baseline = _targets(args.targets or ""), args.baseline or ""
    return args, Options(targets, baseline, args.ledger, args.uplink_mbps, args.downlink_mbps)


def main(argv: Sequence[str] | None = None, command: str = "scarlet report") -> int:
    """Make the report and print its tables; returns the exit code."""
    try:
        args, options = parse(argv, command)
        entries = write_report(args.runs, args.out, options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(text.markdown(entries, options, ()).partition("## Notes")[0].partition("\n")[2].strip())
    print(f"\nwritten: {args.out}/report.html")
    return 0


def run(command: str) -> NoReturn:
    """Do what the command line says, exit; `command` is how it is called."""
    streams.protect()
    sys.exit(boundary.guarded(lambda: main(command=command)))
