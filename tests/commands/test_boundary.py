"""What a command shows of an error, in processes of their own, without jax."""

import os
import subprocess
import sys

import pytest

from tests.support.harness import ROOT

PROGRAM = r"""
import concurrent.futures, errno, json, os, sys, threading, warnings
from scarlet_jax.commands import boundary
from scarlet_jax.errors import UserError

def in_a_library(value):
    json.loads(value)

def bug():
    in_a_library("no json")

def bug_in_a_thread_of_a_pool():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(bug).result()

def chained():
    try:
        bug()
    except ValueError as error:
        raise KeyError("round") from error

def full():
    try:
        raise OSError(errno.ENOSPC, "No space left on device", "/r/metrics.csv")
    except OSError as error:
        raise RuntimeError("wrapped by a library") from error

def refusal():
    raise UserError("rounds is 0.")

def interrupt():
    raise KeyboardInterrupt

def leave():
    sys.exit(143)

def echo():
    "After a right warning: a thread and a destructor of libraries that fail."
    print("warning", file=sys.stderr)
    thread = threading.Thread(target=json.loads, args=("no json",))
    thread.start()
    thread.join()
    import ast
    space = {}
    exec(compile("class Echo:\n  def __del__(self):\n    raise ValueError", "<library>", "exec"), space)
    space["Echo"]()
    exec(compile("async def forgotten(): pass", "<library>", "exec"), space)
    space["forgotten"]()

def own_thread():
    thread = threading.Thread(target=bug)
    thread.start()
    thread.join()

sys.exit(boundary.guarded(globals()[sys.argv[1]]))
"""
REPORT = "This is a bug of scarlet_jax: please report it, with the lines above and the command."


@pytest.fixture
def shown(tmp_path):
    """Exit code and standard error of PROGRAM, as a file: its frames count as the command's own."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def run(name):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        arguments = [sys.executable, str(program), name]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr

    return run


@pytest.mark.parametrize(
    ("name", "code", "stderr"),
    [
        ("full", 1, "/r/metrics.csv: the disk is full, while running this command; make room.\n"),
        ("refusal", 1, "rounds is 0.\n"),
        ("interrupt", 130, ""),
        ("leave", 143, ""),
        ("echo", 0, "warning\n"),
    ],
)
def test_what_is_no_bug_has_no_traceback(shown, name, code, stderr):
    assert shown(name) == (code, stderr)


@pytest.mark.parametrize(
    ("name", "code"), [("bug", 1), ("bug_in_a_thread_of_a_pool", 1), ("own_thread", 0), ("chained", 1)]
)
def test_a_bug_shows_its_traceback_once_and_asks_for_a_report(shown, name, code):
    found, stderr = shown(name)
    assert found == code
    assert stderr.count("json.decoder.JSONDecodeError: Expecting value") == 1
    assert 'in_a_library("no json")' in stderr and ", in bug" in stderr
    assert f"{os.sep}json{os.sep}" not in stderr and f"{os.sep}concurrent{os.sep}" not in stderr
    assert f"{os.sep}threading.py" not in stderr
    assert stderr.endswith(REPORT + "\n") and stderr.count(REPORT) == 1
