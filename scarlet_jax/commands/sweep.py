"""Methods x seeds, one after another: `scarlet sweep --config=NAME --methods=A,B --seeds=0,1 --out=DIR`.

Each run is what `scarlet run` would do, in DIR/<method>-s<seed>; the same command again skips what is finished and
resumes what is not. At the end the runs are reported in DIR/report.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import flags
from ml_collections import config_dict

from scarlet_jax.commands import command_line as cli
from scarlet_jax.commands import config_files, report
from scarlet_jax.errors import UserError
from scarlet_jax.options import fields as config_fields
from scarlet_jax.report.groups import find_baseline, group_runs
from scarlet_jax.report.runs import planned
from scarlet_jax.report.write import check_place
from scarlet_jax.runtime import backend
from scarlet_jax.runtime.streams import say

EXAMPLES = (
    (
        "--config=digits --methods=scarlet,dsfl,dsfl+cache --seeds=0,1,2 --out=a",
        "nine runs, a table and curves with bands; METHOD+cache adds the cache",
    ),
    (
        "--config=cifar10 --methods=scarlet,dsfl --out=b --baseline=dsfl --targets=0.3,0.4",
        "what the report takes: bytes to reach an accuracy, against a baseline",
    ),
)


def define_flags(flag_values: flags.FlagValues) -> None:
    """Define the flags that this command has beside --config."""
    flags.DEFINE_list("methods", [], "methods divided by commas; METHOD+cache adds the cache", flag_values=flag_values)
    flags.DEFINE_list("seeds", ["0"], "seeds divided by commas", flag_values=flag_values)
    flags.DEFINE_string("out", None, "directory of the runs and of their report", flag_values=flag_values)
    flags.DEFINE_string("targets", "", "for the report: top-1 accuracies, as 0.3,0.4", flag_values=flag_values)
    flags.DEFINE_string(
        "baseline", "", "for the report: divide bytes by those of this METHOD or METHOD+cache", flag_values=flag_values
    )


def main(config: config_dict.ConfigDict, config_path: str, flag_values: flags.FlagValues) -> int:
    """Run and report; 1 if a run or the report failed."""
    del config  # each run has one of its own
    if not flag_values.out:
        raise UserError("--out is missing: name the directory of the runs.")
    runs = plan(config_path, sys.argv[1:], flag_values.methods, flag_values.seeds)
    out = Path(flag_values.out)
    _, options = report.parse([*(name for name, _ in runs), *_report_flags(out, flag_values)])
    check_place(out / "report")
    backend.prepare(os.environ, any(config.deterministic for _, config in runs))
    backend.find_devices()
    from scarlet_jax import build  # imports jax, which takes seconds
    from scarlet_jax.options.rules import validate
    from scarlet_jax.runtime import run

    for _, config in runs:  # all of them, before any compute
        validate(config)
        build.check(config)
    _check_groups(runs, out, options.baseline)
    failed = []
    for number, (name, config) in enumerate(runs, 1):
        workdir = out / name
        say(f"\n[{number}/{len(runs)}] {name}")
        try:
            run.run(config, workdir)
        except UserError as error:  # the others may still be of use
            failed.append(name)
            print(f"{name}: {error}", file=sys.stderr, flush=True)
    done = [str(out / name) for name, _ in runs if name not in failed]
    code = report.main([*done, *_report_flags(out, flag_values)]) if done else 1
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else code


def plan(
    config_path: str, argv: Sequence[str], methods: Sequence[str], seeds: Sequence[str]
) -> list[tuple[str, config_dict.ConfigDict]]:
    """Name and config of every run, seed by seed, so that a first comparison is there early.

    Args:
      config_path: FILE of the config.
      argv: arguments of the command line, whose overrides of fields apply to every run.
      methods: METHOD or METHOD+cache.
      seeds: whole numbers.

    Raises:
      UserError: nothing to run, something twice, or a field that the sweep sets itself.
    """
    if not any(methods):
        raise UserError("--methods is missing: name methods divided by commas, as in scarlet,dsfl,dsfl+cache.")
    for flag, values in (("methods", methods), ("seeds", seeds)):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise UserError(f"--{flag} has {', '.join(twice)} twice.")
        if not all(values):
            raise UserError(f"--{flag} is {','.join(values)!r}, with nothing between two commas or at an end.")
    if not seeds or any(config_fields.whole(seed) is None for seed in seeds):
        raise UserError(f"--seeds is {','.join(seeds)!r}; allowed are whole numbers divided by commas.")
    if len({int(seed) for seed in seeds}) < len(seeds):
        raise UserError(f"--seeds is {','.join(seeds)!r}, which has a number twice.")
    _, rest = cli.take_config(argv)
    if ":" in config_path or {"method.name", "seed"} & {field for field, _ in cli.overrides(rest)}:
        file = config_path.partition(":")[0]
        raise UserError(f"The sweep chooses methods and seeds: name {file} alone, and use --methods and --seeds.")
    return [
        (f"{config_files.file_name(method)}-s{seed}", _config(config_path, method, seed, rest))
        for seed in seeds
        for method in methods
    ]


def _config(path: str, method: str, seed: str, overrides: Sequence[str]) -> Any:
    """What `scarlet run` would make of the same command line."""
    chosen = [f"--config={path}:{method}"] if "+" in method else [f"--config={path}", f"--config.method.name={method}"]
    values = flags.FlagValues()
    define_flags(values)
    return cli.parse(["sweep", *chosen, f"--config.seed={seed}", *overrides], values)[0]


def _check_groups(runs: Sequence[tuple[str, config_dict.ConfigDict]], out: Path, baseline: str) -> None:
    """Refuse what the report would refuse after hours of training: two equal runs, a baseline that is not among them.

    Raises:
      UserError: the report's own sentence.
    """

    groups = group_runs(
        [planned(out / name, json.loads(config.to_json()), config_fields.durations(config)) for name, config in runs]
    )
    if baseline:
        find_baseline(groups, baseline)


def _report_flags(out: Path, flag_values: flags.FlagValues) -> list[str]:
    named = [f"--{name}={flag_values[name].value}" for name in ("targets", "baseline") if flag_values[name].value]
    return [f"--out={out / 'report'}", *named]


def run(command: str) -> NoReturn:
    """Parse the command line, do what it says, exit; `command` is how it is called."""
    cli.run(
        main,
        define_flags,
        command=command,
        description="Train methods x seeds, one after another, and compare them.",
        examples=EXAMPLES,
        prints=False,
    )
