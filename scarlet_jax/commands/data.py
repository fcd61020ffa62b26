"""Look at the data of a config: `scarlet data --config=NAME [--config.FIELD=VALUE]`.

Prepares, checks and describes the data sets and their division among the clients, and trains nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

from absl import flags
from ml_collections import config_dict

from scarlet_jax.commands import command_line as cli
from scarlet_jax.errors import UserError
from scarlet_jax.runtime import backend

EXAMPLES = (
    ("--config=digits", "counts, classes and clients; no download"),
    ("--config=cifar10 --out=partition", "also partition.npz, .csv and .png"),
)


def define_flags(flag_values: flags.FlagValues) -> None:
    """Define the flags that this command has beside --config."""
    flags.DEFINE_string(
        "out", None, "directory for partition.npz, partition.csv and partition.png", flag_values=flag_values
    )


def main(config: config_dict.ConfigDict, config_path: str, flag_values: flags.FlagValues) -> None:
    """Prepare, check, describe."""
    del config_path
    out = Path(flag_values.out) if flag_values.out else None
    if out is not None:
        _check_out(out)
    backend.load(os.environ)
    from scarlet_jax import build  # imports jax, which takes seconds
    from scarlet_jax.data import describe, federation
    from scarlet_jax.options.rules import validate
    from scarlet_jax.preview import checks

    validate(config)
    loaded = federation.load(config, build.uses_public(config))
    checks.check_images(config, loaded.image_shape)
    print(describe.text(loaded), flush=True)
    if out is not None:
        describe.write_partition(loaded, out)
        print(f"\nwritten: {out / 'partition.png'}, .csv and .npz", flush=True)


def _check_out(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out is {out}, which exists already and is not an empty directory: name another one.")


def run(command: str) -> NoReturn:
    """Parse the command line, do what it says, exit; `command` is how it is called."""
    cli.run(
        main,
        define_flags,
        command=command,
        description="Prepare, check and describe data and partition; train nothing.",
        examples=EXAMPLES,
    )
