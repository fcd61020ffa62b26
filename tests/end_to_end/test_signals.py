"""Processes that are stopped, killed, refused; and a terminal."""

import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

import scarlet_jax
from scarlet_jax.runtime import checkpoint, workdir
from tests.support import harness
from tests.support.harness import assert_same_run, command, start, tiny, wait_for

# launch.py, telling when the first block of a round is under way.
TELLING = """
import runpy, sys
from scarlet_jax.runtime import progress
dispatched, path = progress.Progress.dispatched, sys.argv[1]
def tell(self, done):
    dispatched(self, done)
    open(path, "w").close()
progress.Progress.dispatched = tell
sys.argv = ["launch.py", *sys.argv[2:]]
runpy.run_path("launch.py", run_name="__main__")
"""
KILLS = int(os.environ.get("SCARLET_KILLS", "2"))


def test_sigterm_saves_and_the_same_command_goes_on(tmp_path, shared_programs):
    run = tmp_path / "run"
    process = start(command(run, rounds=1_000_000, checkpoint__every=1000))
    wait_for(lambda: (run / "metrics.jsonl").exists(), process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "SIGTERM: finishing this round, then saving; once more stops at once" in err
    found = re.search(r"stopped by SIGTERM after (\d+) rounds; the same command resumes it\n$", out)
    assert found is not None, out
    done = int(found[1])
    assert checkpoint.steps(run)[-1] == done == len(harness.rows(run))
    assert [
        line for line in harness.without_native(err).splitlines() if line and not line.startswith("SIGTERM")
    ] == []  # no library's noise
    for path in (run, tmp_path / "through"):
        scarlet_jax.run(tiny(rounds=done + 2, checkpoint__every=1000), path)
    assert_same_run(run, tmp_path / "through")


def test_a_second_signal_stops_at_once_and_leaves_the_terminal_as_it_was(tmp_path):
    under_way = tmp_path / "under_way"
    arguments = [sys.executable, "-c", TELLING, str(under_way), *command(tmp_path / "run", epochs=10_000_000)[2:]]
    mine, its = harness.terminal()
    process = start(arguments, stdout=its)
    os.close(its)
    assert process.stderr is not None
    try:
        wait_for(under_way.exists, process)
    except AssertionError:
        process.kill()  # it would train for days
        raise
    process.send_signal(signal.SIGINT)
    lines = iter(process.stderr.readline, "")
    assert any("SIGINT: finishing this round" in line for line in lines)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 130
    assert time.monotonic() - began < 5
    assert re.findall(r"\x1b\[\?25[hl]", _everything(mine))[-1] == "\x1b[?25h"  # the cursor is visible
    assert checkpoint.steps(tmp_path / "run") == []


def test_a_terminal_shows_one_live_line_and_is_left_as_it_was(tmp_path):
    mine, its = harness.terminal()
    process = start(command(tmp_path / "run", rounds=3), stdout=its)
    os.close(its)
    text = _everything(mine)
    assert process.wait(timeout=60) == 0, process.stderr.read() if process.stderr else ""
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") >= 1
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text)
    assert max(len(line) for line in re.split("[\r\n]+", plain) if line.startswith("round")) <= 80  # one line
    assert "round 3/3" in plain and "ETA 0:00" in plain and "3 rounds: server top-1" in plain


def _everything(terminal: int) -> str:
    """What is written to a terminal until its other end closes."""
    parts = []
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    os.close(terminal)
    return b"".join(parts).decode(errors="replace")


def test_kills_at_random_moments_change_nothing(tmp_path, shared_programs):
    """SCARLET_KILLS=20 for more of them."""
    fields = {"rounds": 60 + 40 * KILLS, "checkpoint.every": 3}
    scarlet_jax.run(tiny(**fields), tmp_path / "through")
    run, moments = tmp_path / "run", random.Random(KILLS)
    for kill in range(KILLS):
        process = start(command(run, **fields), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if kill % 2 == 0:  # half of them in training, which is short beside the set-up
            rows = (run / "metrics.jsonl").stat().st_size if (run / "metrics.jsonl").exists() else 0
            wait_for(lambda rows=rows: _size(run / "metrics.jsonl") not in (0, rows), process)
            delay = moments.uniform(0, 0.5)
        else:
            delay = moments.uniform(0, 8)
        try:
            process.wait(timeout=delay)
        except subprocess.TimeoutExpired:
            process.kill()
        assert process.wait() in (0, -signal.SIGKILL)
    scarlet_jax.run(tiny(**fields), run)
    assert_same_run(run, tmp_path / "through")
    assert not (tmp_path / "run" / "checkpoints_damaged").exists()


def _size(path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_a_workdir_in_use_is_refused(tmp_path):
    with workdir.lock(tmp_path):
        refused = subprocess.run(command(tmp_path), cwd=harness.ROOT, capture_output=True, text=True, timeout=60)
        with pytest.raises(scarlet_jax.UserError, match="in use"):
            scarlet_jax.run(tiny(), tmp_path)
    assert refused.returncode == 1
    assert refused.stderr == (
        f"workdir {tmp_path} is in use by another run (process {os.getpid()}); "
        "wait for it, or give --workdir another.\n"
    )
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]
