"""The job array of a sweep: its script, run by bash as Slurm runs it, and a fake sbatch and scontrol on the PATH."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from scarlet_jax.commands import slurm
from scarlet_jax.errors import UserError

# In the place of a run: ends at once when there is a file `done`; else it waits for SIGTERM, saves, and ends with 143.
RUN = """
trap 'echo saved >> {folder}/log; touch {folder}/done; exit 143' TERM
echo "started $@" >> {folder}/log
if [ -e {folder}/done ]; then exit {code}; fi
while :; do sleep 0.05; done
"""


def program(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder whose fake sbatch and scontrol note how they are called."""
    tools = tmp_path / "tools"
    tools.mkdir()
    program(tools, "sbatch", f'echo "$@" >> {tmp_path}/submitted; echo "77;there"')
    program(tools, "scontrol", f'echo "$@" >> {tmp_path}/requeued')
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return tmp_path


def made(folder, code=0, **changes):
    """The script of an array of 3 tasks around `RUN`."""
    command = ["bash", str(program(folder, "run", RUN.format(folder=folder, code=code))), "--a=b c"]
    given = {
        "command": command,
        "numbers": [1, 2, 3],
        "at_once": None,
        "logs": folder / "logs",
        "name": "mine",
        "grace": 90,
    }
    path = folder / "job.sbatch"
    path.write_text(slurm.script(**given | changes))
    return path


def start(path, task=2):
    environment = os.environ | {"SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": str(task)}
    return subprocess.Popen(["bash", str(path)], env=environment)


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def wait_for(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_script_is_one_array_that_requeues_and_is_warned(tmp_path):
    text = made(tmp_path, options="--time=4:00:00 -p gpu --comment 'a b'", at_once=2).read_text()
    directives = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", text, re.MULTILINE))
    assert directives["array"] == "1-3%2" and directives["signal"] == "B:USR1@90" and directives["requeue"] == ""
    assert directives["open-mode"] == "append" and directives["output"] == f"{tmp_path}/logs/%a.log"
    assert directives["time"] == "4:00:00" and directives["job-name"] == "mine"
    assert "#SBATCH -p gpu\n" in text and "#SBATCH --comment 'a b'\n" in text
    last = max(number for number, line in enumerate(text.splitlines()) if line.startswith("#SBATCH"))
    assert not any(line and not line.startswith("#") for line in text.splitlines()[:last]), "sbatch reads no further"


@pytest.mark.parametrize(("numbers", "array"), [
    ([4], "4"), ([1, 3, 4, 5, 9], "1,3-5,9"), ([2, 3], "2-3"),
])  # fmt: skip
def test_the_array_has_the_tasks_that_are_named(tmp_path, numbers, array):
    assert f"#SBATCH --array={array}\n" in made(tmp_path, numbers=numbers).read_text()


def test_before_its_time_ends_a_task_saves_and_requeues_itself_and_then_goes_on(cluster):
    path = made(cluster)
    process = start(path)
    wait_for(lambda: lines(cluster / "log"))
    assert lines(cluster / "log") == ["started --a=b c --only=2"]
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=120) == 143
    assert lines(cluster / "log")[1:] == ["saved"] and lines(cluster / "requeued") == ["requeue 77_2"]
    assert start(path).wait(timeout=120) == 0, "the second start finds what the first one saved"
    assert lines(cluster / "requeued") == ["requeue 77_2"], "what is finished is not requeued"


def test_a_signal_that_comes_as_soon_as_the_run_starts_is_passed_on(cluster):
    path = made(cluster)
    program(cluster, "run", "trap 'exit 143' TERM\nkill -USR1 $PPID\nwhile :; do sleep 0.01; done")
    for number in range(1, 31):  # in some of them before the script knows the number of the process
        assert start(path).wait(timeout=120) == 143
        assert len(lines(cluster / "requeued")) == number


def test_a_task_that_is_cancelled_or_preempted_saves_and_leaves_requeueing_to_slurm(cluster):
    process = start(made(cluster))
    wait_for(lambda: lines(cluster / "log"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 143
    assert lines(cluster / "log")[1:] == ["saved"] and not lines(cluster / "requeued")


def test_a_run_that_fails_is_not_requeued_and_its_exit_code_is_the_tasks(cluster):
    (cluster / "done").touch()
    assert start(made(cluster, code=1)).wait(timeout=120) == 1
    assert not lines(cluster / "requeued")


def test_it_is_submitted_by_sbatch(cluster):
    path = made(cluster)
    assert slurm.submit(path) == "77"
    assert lines(cluster / "submitted") == [f"--parsable {path}"]


def test_without_sbatch_or_refused_by_it_there_is_one_sentence(cluster, monkeypatch):
    path = made(cluster)
    program(cluster / "tools", "sbatch", "echo 'sbatch: error: invalid partition.' >&2; echo more >&2; exit 1")
    with pytest.raises(UserError, match=r"^sbatch refuses .*job\.sbatch: sbatch: error: invalid partition\.$"):
        slurm.submit(path)
    monkeypatch.setenv("PATH", str(cluster))
    with pytest.raises(UserError, match=r"finds no sbatch on the PATH; .*job\.sbatch is written.*\.$"):
        slurm.submit(path)


@pytest.mark.parametrize(("options", "words"), [
    ("gpu", "allowed are options of sbatch"), ("--array=1-9", "sets --array itself"),
    ("--time=1 -a 3", "sets -a itself"), ("--signal=TERM@9", "sets --signal itself"), ("--time='1", "cannot be read"),
])  # fmt: skip
def test_options_that_it_sets_itself_are_refused(tmp_path, options, words):
    with pytest.raises(UserError, match=words):
        made(tmp_path, options=options)


def test_names_with_spaces_and_percent_signs_stay_what_they_are(tmp_path):
    place = tmp_path / "50% of it"
    place.mkdir()
    text = made(place, name="a b").read_text()
    assert f"#SBATCH --output={shlex.quote(str(tmp_path / '50%% of it' / 'logs' / '%a.log'))}\n" in text
    assert "#SBATCH --job-name='a b'\n" in text
    assert sys.executable not in text
