"""Where every command starts: `scarlet COMMAND`, `python -m scarlet_jax COMMAND`, `python launch.py` and the like.

This module imports nothing slow: a command's own module takes a third of a second to import, and jax takes seconds.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from typing import NoReturn

import scarlet_jax
from scarlet_jax.runtime import interrupts

# Command -> its module in this package, and what it does.
COMMANDS = {
    "run": ("train", "train a federation, or resume it"),
    "plan": ("plan", "plan the bytes of a federation without training it"),
    "sweep": ("sweep", "train methods x seeds and compare them"),
    "report": ("report", "draw and tabulate finished or running runs"),
    "data": ("data", "prepare, check and describe data and partition; train nothing"),
}


def main(command: str = "scarlet") -> NoReturn:
    """Start the command that the first argument names.

    Args:
      command: how this function is called, for help and refusals.
    """
    from scarlet_jax.runtime import streams

    name, *rest = sys.argv[1:] or [""]
    if name in ("-h", "--help", "-help"):
        streams.protect()
        print(_help(command))
        sys.exit(0)
    if name in ("-version", "--version"):
        print(f"scarlet_jax {scarlet_jax.__version__}")
        sys.exit(0)
    if name not in COMMANDS:
        print(_no_command(name, command), file=sys.stderr)
        sys.exit(1)
    sys.argv = [sys.argv[0], *rest]
    start(name, f"{command} {name}")


def start(name: str, command: str) -> NoReturn:
    """Run a command with the arguments of this process, and exit.

    Args:
      name: one of `COMMANDS`.
      command: how the command is called, for its help.
    """
    if name in ("run", "sweep"):  # they train: a signal while they import ends them at once
        interrupts.exit_at_once()
    if "" not in sys.path:
        sys.path.append("")  # modules of the working directory can be named; they hide none that is installed
    importlib.import_module(f"scarlet_jax.commands.{COMMANDS[name][0]}").run(command)
    raise AssertionError("a command always exits")


def _help(command: str) -> str:
    commands = "\n".join(f"  {name:8}{does}" for name, (_, does) in COMMANDS.items())
    return f"""{command} COMMAND [flags]

SCARLET in JAX: federated distillation with a synchronized soft-label cache.

{commands}

`{command} run --config=digits` trains a first federation, without a download.
`{command} COMMAND --help` lists flags and config fields."""


def _no_command(name: str, command: str) -> str:
    """The sentence for a first argument that is no command."""
    offered = f"{', '.join(COMMANDS)}; {command} --help describes them"
    if not name:
        return f"No command: add one of {offered}."
    if name.startswith("-"):
        return f"No command before {name}: put one there of {offered}."
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    return f"There is no command {name!r}" + (f" (did you mean {close[0]}?)." if close else f"; there are {offered}.")
