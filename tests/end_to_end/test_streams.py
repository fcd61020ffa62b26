"""Output that cannot be written: the run goes on, and its exit code says how it ended."""

import os
import sys

import pytest

import scarlet_jax
from tests.support import harness
from tests.support.harness import assert_same_run, command, start, tiny

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
    process = start(command(tmp_path), stdout=out)
    os.close(out)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, harness.without_native(err)) == (0, stderr)
    assert_same_run(tmp_path, finished)


def test_a_run_without_any_stream_keeps_its_files_clean(tmp_path, finished):
    closing = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    process = start([*closing, *command(tmp_path)])
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


class Broken:
    """What a notebook whose browser has gone, or a script, may have put there."""

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")

    flush = write
    isatty = staticmethod(lambda: False)


@pytest.mark.parametrize("stream", [None, Broken()])
def test_a_run_in_python_outlives_its_output_too(tmp_path, monkeypatch, shared_programs, stream):
    monkeypatch.setattr(sys, "stdout", stream)
    assert scarlet_jax.run(tiny(), tmp_path)["complete"]
