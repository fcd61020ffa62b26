"""Processes side by side: what each gets of the machine, what is shown of them, and how they are stopped."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from scarlet_jax.commands import side_by_side
from scarlet_jax.commands.side_by_side import shares, usable_gpus

CORES = list(range(10, 18))


def child(code):
    return [sys.executable, "-c", code]


@pytest.mark.parametrize("jobs", [1, 2, 3, 8])
def test_every_core_belongs_to_one_process(jobs):
    found = shares(jobs, {}, CORES, [])
    assert sorted(core for share in found for core in share.cores) == CORES
    assert max(len(share.cores) for share in found) - min(len(share.cores) for share in found) <= 1
    for share in found:
        assert share.environment == {"NPROC": str(len(share.cores)), "OMP_NUM_THREADS": str(len(share.cores))}


def test_more_processes_than_cores_or_gpus_share_them():
    found = shares(5, {}, [3, 4], ["0", "1"])
    assert [share.cores for share in found] == [(3,), (4,), (3,), (4,), (3,)]
    assert [share.environment["CUDA_VISIBLE_DEVICES"] for share in found] == ["0", "1", "0", "1", "0"]
    memory = [float(share.environment["XLA_PYTHON_CLIENT_MEM_FRACTION"]) for share in found]
    assert memory == [0.3, 0.45, 0.3, 0.45, 0.3], "together below the memory of a GPU"


def test_gpus_are_divided_and_what_the_user_chose_is_kept():
    found = shares(2, {"NPROC": "3"}, CORES, ["4", "GPU-5", "6"])
    assert [share.environment["CUDA_VISIBLE_DEVICES"] for share in found] == ["4", "GPU-5,6"]
    assert all("NPROC" not in share.environment for share in found)
    assert all("XLA_PYTHON_CLIENT_MEM_FRACTION" not in share.environment for share in found), "none is shared"
    kept = shares(2, {"XLA_PYTHON_CLIENT_MEM_FRACTION": ".2"}, CORES, ["0"])
    assert all("XLA_PYTHON_CLIENT_MEM_FRACTION" not in share.environment for share in kept)


def test_gpus_are_those_of_the_environment_or_of_the_driver(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert usable_gpus({}) == []
    assert usable_gpus({"CUDA_VISIBLE_DEVICES": "2, 3"}) == ["2", "3"]
    assert usable_gpus({"CUDA_VISIBLE_DEVICES": ""}) == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 0\necho 1\n")
    program.chmod(0o755)
    assert usable_gpus({}) == ["0", "1"] and usable_gpus({"JAX_PLATFORMS": "cpu"}) == []
    program.write_text("#!/bin/sh\necho no driver\nexit 9\n")
    assert usable_gpus({}) == []


def test_all_run_in_their_places_and_every_line_has_a_name(capfd):
    """At most as many at once as there are places; one that fails does not keep the others."""
    code = "import os, sys; print('cores', sorted(os.sched_getaffinity(0)), os.environ['NPROC'])"
    code += "; print(); print('trouble', file=sys.stderr)"
    mine = side_by_side.usable_cores()[:1]
    commands = [("a", child(code)), ("b", child("import sys; sys.exit(3)")), ("c", child("print('\\xff one')"))]
    assert side_by_side.run(commands, shares(2, {}, mine, [])) == ["b"]
    out, err = capfd.readouterr()
    assert [line for line in out.splitlines() if line.startswith("a: ")] == [f"a: cores {mine} 1"]
    assert err == "a: trouble\n" and "c: ÿ one" in out.splitlines()
    assert [line for line in out.splitlines() if line.startswith("[")] == ["[1/3] a", "[2/3] b", "[3/3] c"]


def test_a_signal_is_passed_on_and_nothing_more_starts(tmp_path):
    """To this process alone, as a batch system or `kill` sends it. What was running ends in its own way."""
    saving = (
        "import signal, sys, time, pathlib\n"
        "def stop(*_): pathlib.Path(sys.argv[1]).write_text('saved'); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop); print('ready', flush=True)\n"
        "while True: time.sleep(0.05)\n"
    )
    program = (
        "import sys; from scarlet_jax.commands import side_by_side as s\n"
        "own = [sys.executable, '-c', sys.argv[1]]\n"
        "commands = [(name, [*own, sys.argv[2] + name]) for name in 'abc']\n"
        "s.run(commands, s.shares(2, {}, [0], []))\n"
    )
    process = subprocess.Popen(
        [*child(program), saving, f"{tmp_path}/"], stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    assert process.stdout is not None
    ready = 0
    while ready < 2:
        ready += "ready" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 143 and out.endswith("stopped by SIGTERM; the same command goes on\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"], "both saved, and the third never began"


def test_off_the_main_thread_no_handler_is_installed():
    result = []
    thread = threading.Thread(
        target=lambda: result.append(side_by_side.run([("a", child("1"))], shares(1, {}, [0], [])))
    )
    before = signal.getsignal(signal.SIGTERM)
    thread.start()
    while thread.is_alive():
        assert signal.getsignal(signal.SIGTERM) is before
        time.sleep(0.01)
    assert result == [[]]
