"""Methods x seeds: `scarlet sweep --config=NAME --methods=A,B --seeds=0,1 --out=DIR`.

Each run is what `scarlet run` would do, in DIR/<method>-s<seed>; the same command again skips what is finished and
resumes what is not. At the end the runs are reported in DIR/report.

Runs are trained one after another in this process, side by side in processes of their own (--jobs), or as the tasks of
a Slurm job array (--launcher=slurm). These processes are the same command with --only=NUMBER.
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
from scarlet_jax.commands import config_files, report, side_by_side, slurm
from scarlet_jax.errors import UserError
from scarlet_jax.options import fields as config_fields
from scarlet_jax.report.groups import find_baseline, group_runs
from scarlet_jax.report.runs import planned
from scarlet_jax.report.write import check_place
from scarlet_jax.runtime import backend
from scarlet_jax.runtime.streams import say
from scarlet_jax.system_errors import refusing

EXAMPLES = (
    (
        "--config=digits --methods=scarlet,dsfl,dsfl+cache --seeds=0,1,2 --out=a",
        "nine runs, a table and curves with bands; METHOD+cache adds the cache",
    ),
    (
        "--config=cifar10 --methods=scarlet,dsfl --out=b --baseline=dsfl --targets=0.3,0.4",
        "what the report takes: bytes to reach an accuracy, against a baseline",
    ),
    (
        "--config=digits --methods=scarlet,dsfl --seeds=0,1,2 --out=c --jobs=4",
        "four runs at a time on this machine, whose cores and GPUs are divided among them",
    ),
    (
        "--config=cifar10 --methods=scarlet,dsfl --out=d --launcher=slurm --sbatch='--time=4:00:00 --gres=gpu:1'",
        "a job array, a task for each run; without --launcher, the same command reports it later",
    ),
)


MOST_JOBS = 1024


def define_flags(flag_values: flags.FlagValues) -> None:
    """Define the flags that this command has beside --config."""
    flags.DEFINE_list("methods", [], "methods divided by commas; METHOD+cache adds the cache", flag_values=flag_values)
    flags.DEFINE_list("seeds", ["0"], "seeds divided by commas", flag_values=flag_values)
    flags.DEFINE_string("out", None, "directory of the runs and of their report", flag_values=flag_values)
    flags.DEFINE_string("targets", "", "for the report: top-1 accuracies, as 0.3,0.4", flag_values=flag_values)
    flags.DEFINE_string(
        "baseline", "", "for the report: divide bytes by those of this METHOD or METHOD+cache", flag_values=flag_values
    )
    flags.DEFINE_integer(
        "jobs",
        None,
        "runs trained side by side, each with its part of the cores and GPUs (slurm: tasks at once)",
        lower_bound=1,
        upper_bound=MOST_JOBS,
        flag_values=flag_values,
    )
    flags.DEFINE_enum(
        "launcher", "local", ["local", "slurm"], "local: train here; slurm: submit a job array", flag_values=flag_values
    )
    flags.DEFINE_string("sbatch", None, "slurm: options of sbatch, as '--time=4:00:00'", flag_values=flag_values)
    flags.DEFINE_integer(
        "grace",
        300,
        "slurm: seconds before the time limit at which a run saves and requeues itself",
        lower_bound=1,
        upper_bound=65535,
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "only", None, "train the run of this number from 1 alone, and report nothing", flag_values=flag_values
    )


def main(config: config_dict.ConfigDict, config_path: str, flag_values: flags.FlagValues) -> int:
    """Run and report; 1 if a run or the report failed."""
    del config  # each run has one of its own
    if not flag_values.out:
        raise UserError("--out is missing: name the directory of the runs.")
    runs = plan(config_path, sys.argv[1:], flag_values.methods, flag_values.seeds)
    out, on_slurm = Path(flag_values.out), flag_values.launcher == "slurm"
    _check_flags(flag_values, len(runs))
    if flag_values.only is not None:
        _train(runs[flag_values.only - 1 : flag_values.only], out)
        return 0
    _, options = report.parse([*(name for name, _ in runs), *_report_flags(out, flag_values)])
    check_place(out / "report")
    apart = on_slurm or (flag_values.jobs or 1) > 1
    _prepare(runs, devices=not apart)
    _check_groups(runs, out, options.baseline)
    if on_slurm:
        return _submit(runs, out, flag_values)
    failed = _side_by_side(runs, flag_values.jobs) if apart else _one_after_another(runs, out)
    done = [str(out / name) for name, _ in runs if name not in failed]
    code = report.main([*done, *_report_flags(out, flag_values)]) if done else 1
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else code


Runs = Sequence[tuple[str, config_dict.ConfigDict]]  # name and config


def _check_flags(flag_values: flags.FlagValues, runs: int) -> None:
    """Refuse a number of a run that there is not, and options of a launcher that is not used."""
    only = flag_values.only
    if only is not None and not 1 <= only <= runs:
        raise UserError(f"--only is {only}; allowed is 1 to {runs}, the number of a run of this sweep.")
    if flag_values.launcher != "slurm":
        for name in ("sbatch", "grace"):
            if flag_values[name].present and only is None:
                raise UserError(f"--{name} is {flag_values[name].value!r}, which only --launcher=slurm reads.")


def _prepare(runs: Runs, devices: bool = True) -> None:
    """Start what is needed to check the configs, and to train them here if `devices`; then check all of them.

    Raises:
      UserError: a config cannot be run; nothing has been computed.
    """
    if devices:
        backend.prepare(os.environ, any(config.deterministic for _, config in runs))
        backend.find_devices()
    from scarlet_jax.options.rules import validate
    from scarlet_jax.preview import checks  # imports jax, which takes seconds

    for _, config in runs:
        validate(config)
        checks.check(config)


def _train(runs: Runs, out: Path) -> None:
    """Train one run, as `scarlet run` would."""
    _prepare(runs)
    from scarlet_jax.runtime import run

    ((name, config),) = runs
    run.run(config, out / name)


def _one_after_another(runs: Runs, out: Path) -> list[str]:
    """Train all runs in this process; returns the names of those that failed."""
    from scarlet_jax.runtime import run

    failed = []
    for number, (name, config) in enumerate(runs, 1):
        say(f"\n[{number}/{len(runs)}] {name}")
        try:
            run.run(config, out / name)
        except UserError as error:  # the others may still be of use
            failed.append(name)
            print(f"{name}: {error}", file=sys.stderr, flush=True)
    return failed


def _side_by_side(runs: Runs, jobs: int) -> list[str]:
    """Train all runs in processes of their own; returns the names of those that failed."""
    jobs = min(jobs, len(runs))
    cores, gpus = side_by_side.usable_cores(), side_by_side.usable_gpus(os.environ)
    commands = [(name, [*_command(), f"--only={number}"]) for number, (name, _) in enumerate(runs, 1)]
    return side_by_side.run(commands, side_by_side.shares(jobs, os.environ, cores, gpus))


def _submit(runs: Runs, out: Path, flag_values: flags.FlagValues) -> int:
    """Write the job array of the runs that are not finished, and submit it."""
    from scarlet_jax.runtime import opening

    left = {number: name for number, (name, config) in enumerate(runs, 1) if not opening.finished(out / name, config)}
    reported = "the same command without --launcher reports them"
    if not left:
        say(f"all {len(runs)} runs are finished: nothing is submitted; {reported}")
        return 0
    logs = out / "slurm"
    text = slurm.script(
        _command(), list(left), flag_values.jobs, logs, f"sweep-{out.name}", flag_values.grace, flag_values.sbatch or ""
    )
    with refusing(f"writing {logs}"):
        logs.mkdir(parents=True, exist_ok=True)
        (out / "sweep.sbatch").write_text(text)
    job = slurm.submit(out / "sweep.sbatch")
    say(f"submitted job array {job} with {len(left)} task{'s' * (len(left) != 1)}: {', '.join(left.values())}")
    say(f"their output goes to {logs}/NUMBER.log; when they are done, {reported}")
    return 0


def _command() -> list[str]:
    """This command as a process of its own that trains here; the last value of a flag counts."""
    return [sys.executable, "-m", "scarlet_jax", "sweep", *sys.argv[1:], "--launcher=local", "--jobs=1"]


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
        description="Train methods x seeds, one after another or side by side, and compare them.",
        examples=EXAMPLES,
        prints=False,
    )
