"""A sweep as a Slurm job array: a task for each run, which saves before its time ends, requeues itself and goes on."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from scarlet_jax.errors import UserError, first_line

_OWN = ("--array", "-a", "--signal", "--requeue", "--no-requeue", "--output", "-o", "--open-mode")

_BODY = """
cd {folder} || exit 1
# SIGUSR1 comes {grace} s before the time limit, and SIGTERM before a preemption. Either becomes SIGTERM for the run,
# which finishes its round, saves and ends with exit code 143.
again=no
asked=no
stop() {{ asked=yes; kill -TERM "$run" 2>/dev/null; }}
trap 'again=yes; stop' USR1
trap stop TERM
{command} --only="$SLURM_ARRAY_TASK_ID" &
run=$!
if [ "$asked" = yes ]; then stop; fi  # the signal came before the number of the process was known
code=0
await() {{ wait "$run"; got=$?; [ "$got" -eq 127 ] || code=$got; }}  # 127: its exit code is known already
await
while kill -0 "$run" 2>/dev/null; do await; done  # a signal ends the waiting, not the run
await
if [ "$again" = yes ] && [ "$code" -eq 143 ]; then
  scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
fi
exit "$code"
"""


def script(
    command: Sequence[str],
    numbers: Sequence[int],
    at_once: int | None,
    logs: Path,
    name: str,
    grace: int,
    options: str = "",
) -> str:
    """The batch script of the array.

    Args:
      command: arguments of a process that trains the run of a number, which `--only=NUMBER` tells it.
      numbers: of the runs, which are those of the tasks.
      at_once: most tasks that run at a time; None: any number.
      logs: folder of the tasks' output.
      name: of the job.
      grace: seconds before the time limit at which a run is asked to save.
      options: of sbatch, as on its command line.

    Raises:
      UserError: `options` cannot be read, or sets what the script sets itself.
    """
    own = {
        "job-name": name,
        "array": _ranges(numbers) + (f"%{at_once}" if at_once else ""),
        "output": str(logs.absolute()).replace("%", "%%") + "/%a.log",
        "open-mode": "append",
        "signal": f"B:USR1@{grace}",
    }
    lines = [f"#SBATCH --{option}={shlex.quote(value)}" for option, value in own.items()]
    lines += ["#SBATCH --requeue", *(f"#SBATCH {shlex.join(option)}" for option in _options(options))]
    body = _BODY.format(folder=shlex.quote(os.getcwd()), grace=grace, command=shlex.join(command))
    head = "#!/bin/bash\n# Written by scarlet sweep --launcher=slurm: each task of the array trains one run.\n"
    return head + "\n".join(lines) + "\n" + body


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as sbatch takes them: 1-3,5."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][-1] + 1 == number:
            found[-1].append(number)
        else:
            found.append([number])
    return ",".join(f"{own[0]}-{own[-1]}" if len(own) > 1 else str(own[0]) for own in found)


def _options(text: str) -> list[list[str]]:
    """The options of sbatch, each with its value."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"--sbatch is {text!r}, which cannot be read ({first_line(error)}).") from error
    found: list[list[str]] = []
    for word in words:
        if word.startswith("-"):
            found.append([word])
        elif found:
            found[-1].append(word)
        else:
            raise UserError(
                f"--sbatch is {text!r}; allowed are options of sbatch, as in '--time=4:00:00 --gres=gpu:1'."
            )
    for name, *_ in found:
        if name.partition("=")[0] in _OWN:
            raise UserError(f"--sbatch is {text!r}, but --launcher=slurm sets {name.partition('=')[0]} itself.")
    return found


def submit(path: Path) -> str:
    """Give a batch script to sbatch; returns the number of the job.

    Raises:
      UserError: there is no sbatch here, or it refuses the script.
    """
    program = shutil.which("sbatch")
    if program is None:
        raise UserError(
            f"--launcher=slurm finds no sbatch on the PATH; {path} is written: submit it where there is one."
        )
    done = subprocess.run([program, "--parsable", str(path)], capture_output=True, text=True, errors="replace")
    if done.returncode:
        why = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0].rstrip(".")
        raise UserError(f"sbatch refuses {path}: {why}.")
    return done.stdout.strip().partition(";")[0]
