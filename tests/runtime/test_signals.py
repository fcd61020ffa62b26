"""Asking a run to stop, without signals of the system: those are in tests/end_to_end."""

import os
import signal
import threading
import time

import pytest

from scarlet_jax.runtime import interrupts, signals


@pytest.fixture
def told(monkeypatch):
    """What is written without a buffer, as (file descriptor, text)."""
    texts = []
    monkeypatch.setattr(os, "write", lambda stream, text: texts.append((stream, text.decode())))
    return texts


@pytest.mark.parametrize(("training", "words"), [(False, "nothing was trained yet"), (True, "finishing this round")])
def test_the_first_signal_asks_and_the_second_ends(told, monkeypatch, training, words):
    left = []
    monkeypatch.setattr(interrupts, "leave", left.append)
    stop = signals.Stop()
    assert not stop and not stop.ask()
    stop.check()
    stop.training = training
    stop.handle(signal.SIGTERM, None)
    assert stop and stop.signum == signal.SIGTERM and left == []
    [(stream, text)] = told
    assert stream == 2 and text.startswith("\nSIGTERM: ") and words in text and text.endswith("stops at once\n")
    assert stop.ask() and stop.agreed == signal.SIGTERM
    with pytest.raises(signals.Stopped):
        stop.check()
    stop.handle(signal.SIGINT, None)
    assert left == [signal.SIGINT] and stop.signum == signal.SIGTERM


def test_a_terminal_that_closes_may_tell_twice(told, monkeypatch):
    monkeypatch.setattr(interrupts, "leave", lambda signum: pytest.fail("ended"))
    stop = signals.Stop()
    for _ in range(3):
        stop.handle(signal.SIGHUP, None)
    assert stop.signum == signal.SIGHUP


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    stop = signals.Stop()
    with signals.installed(stop):
        assert signal.getsignal(signal.SIGTERM) == stop.handle
    assert signal.getsignal(signal.SIGTERM) is before


def test_off_the_main_thread_nothing_is_installed():
    seen = []

    def body():
        with signals.installed(signals.Stop()):
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [before]


def test_work_is_done_elsewhere_while_this_thread_is_idle():
    idle, release, threads = [], threading.Event(), []

    def work():
        threads.append(threading.current_thread())
        assert release.wait(60)
        return "done"

    def turn():
        idle.append(threading.current_thread())
        release.set()

    assert signals.run_watched(work, turn, signals.Stop()) == "done"
    assert set(idle) == {threading.main_thread()} and threads[0] is not threading.main_thread()


def test_what_work_raises_is_raised_here():
    with pytest.raises(SystemExit, match="7"):
        signals.run_watched(lambda: exit(7), lambda: None, signals.Stop())


def test_an_interruption_of_the_waiting_asks_the_work_to_stop_and_waits_for_it():
    stop, ended = signals.Stop(), []

    def work():
        while not stop:
            time.sleep(0.001)
        ended.append(True)

    def interrupted():
        raise TimeoutError

    with pytest.raises(TimeoutError):
        signals.run_watched(work, interrupted, stop)
    assert ended == [True] and stop.signum == signal.SIGINT
