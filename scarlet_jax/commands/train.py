"""Train a federation, or resume it: `scarlet run --config=digits`; `--help` lists every field."""

from __future__ import annotations

import os
from typing import NoReturn

from absl import flags
from ml_collections import config_dict

from scarlet_jax.commands import command_line as cli
from scarlet_jax.commands import config_files
from scarlet_jax.errors import UserError
from scarlet_jax.options.rules import validate
from scarlet_jax.runtime import backend, hosts
from scarlet_jax.runtime.stages import Stages

EXAMPLES = (
    ("--config=digits", "a minute on a laptop, no download"),
    ("--config=cifar10", "the paper's experiment; the same command again resumes it"),
    ("--config=digits --config.lr=0.05 --workdir=DIR", "another value, another folder"),
    ("--config=cifar10 --dry_run", "shapes, memory and bytes; trains nothing"),
)


def define_flags(flag_values: flags.FlagValues) -> None:
    """Define the flags that this command has beside --config."""
    flags.DEFINE_string(
        "workdir",
        None,
        "where the run is written to, and resumed from (default: runs/<config>-<method>-s<seed>)",
        flag_values=flag_values,
    )
    flags.DEFINE_bool(
        "dry_run", False, "print shapes, memory and bytes of the run, and train nothing", flag_values=flag_values
    )
    flags.DEFINE_string(
        "cards",
        None,
        "with --dry_run: graphics cards that need not be here, as in A100, H100x8 (extra gpu-aot)",
        flag_values=flag_values,
    )
    flags.DEFINE_string("coordinator", None, "with several processes: HOST:PORT of process 0", flag_values=flag_values)
    flags.DEFINE_integer("num_processes", None, "with several processes: how many", flag_values=flag_values)
    flags.DEFINE_integer(
        "process_id", None, "with several processes: which one this is, from 0", flag_values=flag_values
    )


def main(config: config_dict.ConfigDict, config_path: str, flag_values: flags.FlagValues) -> None:
    """Run the experiment, or look at it."""
    if flag_values.cards and not flag_values.dry_run:
        raise UserError(f"--cards is {flag_values.cards}, which only --dry_run can compile for: add --dry_run.")
    cluster = hosts.find_cluster(flag_values.coordinator, flag_values.num_processes, flag_values.process_id, os.environ)
    if flag_values.dry_run:
        if cluster is not None:
            raise UserError(f"--dry_run is for one process, and a coordinator is named ({cluster.coordinator}).")
        backend.prepare(os.environ, config.deterministic)
        backend.find_devices()
        from scarlet_jax.preview import dry_run

        dry_run.run(config, flag_values.cards)
        return
    workdir = flag_values.workdir or config_files.default_workdir(config_path, config)
    validate(config)  # a refusal needs no jax, whose import takes seconds
    waiting = "" if cluster is None else f", waiting for all {cluster.num_processes} processes"
    with Stages(quiet=not hosts.will_be_first(cluster, os.environ))(f"starting JAX{waiting}"):
        backend.prepare(os.environ, config.deterministic)
        from scarlet_jax.runtime import run

        hosts.connect(cluster)
        backend.find_devices()
    run.run(config, workdir)


def run(command: str) -> NoReturn:
    """Parse the command line, do what it says, exit; `command` is how it is called."""
    cli.run(main, define_flags, command=command, description="Train a federation.", examples=EXAMPLES, prints=False)
