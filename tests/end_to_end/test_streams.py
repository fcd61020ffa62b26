"""Output that cannot be written: the run goes on, and its exit code says how it ended."""

import json
import os
import subprocess
import sys

import pytest

from tests.end_to_end import harness
from tests.end_to_end.harness import assert_same_run, command, start

FULL = "standard output: the disk is full, while writing to it; make room.\n"


def reader_gone() -> int:
    """The writing end of a pipe that nobody reads any more, as behind `| head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


def terminal_gone() -> int:
    """A terminal whose window was closed: writing fails with EIO."""
    window, inside = harness.terminal()
    os.close(window)
    return inside


@pytest.mark.parametrize(("stream", "stderr"), [(reader_gone, ""), (full, FULL), (terminal_gone, "")])
def test_a_run_outlives_its_output(tmp_path, finished, stream, stderr):
    out = stream()
    process = start(command(tmp_path, model__conv="grouped"), stdout=out)
    os.close(out)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, stderr)
    assert_same_run(tmp_path, finished)


def test_a_run_without_any_stream_keeps_its_files_clean(tmp_path, finished):
    def close_all() -> None:
        for number in (0, 1, 2):
            os.close(number)

    streams = {"stdin": None, "stdout": None, "stderr": None}
    process = start(command(tmp_path, model__conv="grouped"), preexec_fn=close_all, **streams)
    assert process.wait(timeout=120) == 0
    assert_same_run(tmp_path, finished)
    assert (tmp_path / ".lock").read_text() == str(process.pid)  # it would have had the number of standard output


@pytest.mark.parametrize(("stream", "expected"), [(reader_gone, (0, "")), (full, (1, FULL)), (terminal_gone, (0, ""))])
def test_a_command_whose_result_is_its_output(stream, expected):
    """A reader that has seen enough is no failure; a disk without the result is one."""
    out = stream()
    process = start([sys.executable, "-m", "scarlet_jax.plan", "--config=configs/digits.py", "--notable"], stdout=out)
    os.close(out)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == expected


# A stream of another kind than a command's own: what a notebook or a script put there.
IN_PYTHON = """
import sys
import scarlet_jax
from tests.end_to_end.harness import tiny

class Broken:
    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")
    flush = isatty = lambda self: False

sys.stdout = {stream}
sys.exit(not scarlet_jax.run(tiny(), sys.argv[1])["complete"])
"""


@pytest.mark.parametrize("stream", ["None", "Broken()"])
def test_a_run_in_python_outlives_its_output_too(tmp_path, stream):
    program = [sys.executable, "-c", IN_PYTHON.format(stream=stream), str(tmp_path)]
    options = {"cwd": harness.ROOT, "env": harness.environment(), "capture_output": True, "text": True}
    done = subprocess.run(program, timeout=120, **options)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "summary.json").read_text())["complete"]
