"""Signals before a run is open, and a terminal that is closed."""

import json
import signal
import subprocess
import sys

import pytest

from scarlet_jax.runtime import checkpoint
from tests.support import harness
from tests.support.harness import assert_same_run, command, start, wait_for

# A command that gets a signal in the middle of an import; what follows would take it seconds.
IMPORTING = """
import os, runpy, sys

class Signal:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            os.kill(os.getpid(), number)

wanted, number, script = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sys.meta_path.insert(0, Signal())
sys.argv = sys.argv[3:]
sys.path.insert(0, os.getcwd())
runpy.run_path(script, run_name="__main__")
"""
LAUNCH = ("launch.py", "--config=configs/digits.py")
SWEEP = ("scarlet_jax/sweep.py", "--config=configs/digits.py", "--methods=scarlet,dsfl", "--out=")


@pytest.mark.parametrize(
    ("module", "signum", "arguments"),
    [
        ("absl", signal.SIGINT, LAUNCH),
        ("jax", signal.SIGINT, LAUNCH),
        ("orbax", signal.SIGHUP, LAUNCH),
        ("absl", signal.SIGTERM, SWEEP),
    ],
)
def test_a_command_that_is_still_importing_ends_at_once(tmp_path, module, signum, arguments):
    place = [f"{a}{tmp_path}" if a == "--out=" else a for a in arguments]
    place += [f"--workdir={tmp_path}"] if arguments is LAUNCH else []
    program = [sys.executable, "-c", IMPORTING, module, str(int(signum)), *place]
    done = subprocess.run(program, cwd=harness.ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (128 + signum, "")
    assert list(tmp_path.iterdir()) == []


# The main thread waits for itself: like XLA's compiler it does not return to Python, but for good.
INSIDE_A_CALL = """
import ctypes
from scarlet_jax.runtime import interrupts
interrupts.exit_at_once()
mutex, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
library.pthread_mutex_lock(mutex)
print("waiting", flush=True)
library.pthread_mutex_lock(mutex)
"""


def test_a_main_thread_that_is_inside_a_long_call_ends_at_once():
    process = start([sys.executable, "-c", INSIDE_A_CALL])
    assert process.stdout is not None and process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    try:
        assert process.communicate(timeout=60) == ("", "")
    finally:
        process.kill()
    assert process.returncode == 130


def test_importing_installs_no_handler():
    program = (
        "import signal\nbefore = [signal.getsignal(n) for n in (1, 2, 15)]\n"
        "import launch, scarlet_jax.runtime.run, scarlet_jax.sweep\n"
        "assert before == [signal.getsignal(n) for n in (1, 2, 15)] and signal.set_wakeup_fd(-1) == -1\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=harness.ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_terminal_saves_and_the_same_command_goes_on(tmp_path, request):
    run = tmp_path / "run"
    process = start(command(run, rounds=1_000_000, checkpoint__every=1000))
    request.addfinalizer(process.kill)  # where a parent ignores SIGHUP, it would go on for hours
    wait_for(lambda: (run / "metrics.jsonl").exists(), process)
    for _ in range(3):  # the shell sends one, the terminal another
        process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGHUP
    done = checkpoint.steps(run)[-1]
    assert f"stopped by SIGHUP after {done} rounds; the same command resumes it" in out and done == len(
        harness.rows(run)
    )
    assert "SIGHUP: finishing this round, then saving" in err
    for path in (run, tmp_path / "through"):
        again = subprocess.run(
            command(path, rounds=done + 2, checkpoint__every=1000),
            cwd=harness.ROOT,
            env=harness.environment(),
            capture_output=True,
            timeout=120,
        )
        assert again.returncode == 0
    assert_same_run(run, tmp_path / "through")


def test_nohup_lets_a_run_outlive_its_terminal(tmp_path):
    process = start(["nohup", *command(tmp_path / "run", rounds=300, checkpoint__every=1000)])
    wait_for(lambda: (tmp_path / "run" / "metrics.jsonl").exists(), process)
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, "SIGHUP" in err) == (0, False)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["complete"]
