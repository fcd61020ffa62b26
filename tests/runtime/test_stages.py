"""What a start shows while it is under way: lines in a log, one live line on a terminal."""

import io
import re
import sys
import threading

import pytest

from scarlet_jax.runtime import hosts
from scarlet_jax.runtime.stages import Stages


class Clock:
    time = 0.0

    def __call__(self):
        return self.time


def test_a_log_has_a_line_at_the_start_of_a_stage_and_one_at_its_end(capsys):
    now = Clock()
    stages = Stages(now=now)
    with stages("loading the data"):
        assert capsys.readouterr().out == "loading the data ...\n"
        now.time = 12.34
    assert capsys.readouterr().out == "loading the data (12.3 s)\n"


def test_stages_may_overlap_and_each_has_its_own_seconds(capsys):
    now, inner = Clock(), threading.Event()
    stages = Stages(now=now)

    def other():
        with stages("compiling server (2 of 2)"):
            assert inner.wait(60)

    thread = threading.Thread(target=other)
    with stages("compiling plan (1 of 2)"):
        now.time = 1.0
        thread.start()
        while "server" not in (out := capsys.readouterr().out):
            assert thread.is_alive(), out
        now.time = 3.0
    inner.set()
    thread.join()
    assert capsys.readouterr().out == "compiling plan (1 of 2) (3.0 s)\ncompiling server (2 of 2) (2.0 s)\n"


def test_a_stage_that_fails_does_not_end(capsys):
    with pytest.raises(ZeroDivisionError), Stages()("loading the data"):
        raise ZeroDivisionError
    assert capsys.readouterr().out == "loading the data ...\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("fails", [False, True])
def test_a_terminal_shows_one_live_line_of_what_is_under_way_and_nothing_of_it_stays(monkeypatch, fails):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    stages = Stages()
    try:
        with stages("compiling plan (1 of 2)"):
            with stages("compiling server (2 of 2)"):
                pass
            print("a line of a library")
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    text = terminal.getvalue()
    assert "compiling plan (1 of 2)" in text and "a line of a library\n" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1, "the cursor is hidden, and shown again"
    last = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text.rsplit("\x1b[2K", 1)[-1])
    assert last.strip() == "", "the line is erased"


def test_a_quiet_start_shows_nothing(capsys):
    with Stages(quiet=True)("loading the data"):
        pass
    assert capsys.readouterr() == ("", "")


def test_only_the_first_of_several_processes_shows_stages():
    cluster = hosts.Cluster("node:1234", 2, 0)
    assert hosts.will_be_first(cluster, {}) and not hosts.will_be_first(cluster._replace(process_id=1), {})
    assert hosts.will_be_first(None, {}) and not hosts.will_be_first(None, {"SLURM_PROCID": "3"})
