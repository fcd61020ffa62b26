"""When rounds begin and end, and what is left: on a clock that the test sets."""

import threading

import pytest

from scarlet_jax.runtime.progress import Progress, RoundClock


class Result:
    """Results of a round, ready when the test says so."""

    def __init__(self):
        self._ready = threading.Event()

    def block_until_ready(self):
        assert self._ready.wait(60)
        return self

    def is_ready(self):
        return self._ready.is_set()

    def finish(self):
        self._ready.set()


class Clock:
    time = 0.0

    def __call__(self):
        return self.time


@pytest.fixture
def now():
    return Clock()


def finish(now, at, result, times):
    """A round ends at a time; the thread has seen it when this returns."""
    now.time = at
    result.finish()
    return times()


def test_a_round_lasts_from_its_dispatch_or_the_end_before_it_to_its_own_end(now):
    clock, results = RoundClock(now), [Result() for _ in range(4)]
    first = clock.watch(0.0, results[0])  # compiling took until 8
    second = clock.watch(8.5, results[1])  # dispatched while the first is computed
    assert finish(now, 16.0, results[0], first) == (16.0, 16.0)
    third = clock.watch(16.5, results[2])
    assert finish(now, 24.0, results[1], second) == (8.0, 24.0)
    assert finish(now, 31.0, results[2], third) == (7.0, 31.0)
    fourth = clock.watch(40.0, results[3])  # a checkpoint was written in between
    assert finish(now, 45.0, results[3], fourth) == (5.0, 45.0)
    assert [times()[0] for times in (first, second, third, fourth)] == [16.0, 8.0, 7.0, 5.0]


def test_watching_does_not_wait(now):
    clock, results = RoundClock(now), [Result(), Result()]
    seen = [clock.watch(0.0, result) for result in results]  # neither is ready: this returns all the same
    assert not any(result.is_ready() for result in results)
    assert finish(now, 1.0, results[0], seen[0]) == (1.0, 1.0)
    assert finish(now, 3.0, results[1], seen[1]) == (2.0, 3.0)


def test_a_computation_that_failed_ends_its_round(now):
    class Failing:
        def block_until_ready(self):
            raise RuntimeError("out of memory")

    assert RoundClock(now).watch(0.0, Failing())() == (0.0, 0.0)


def shown(capsys):
    return capsys.readouterr().out.split("ETA ")[1].split()[0]


def test_what_is_left_is_right_from_the_second_round_on(now, capsys):
    """Ten rounds: the first compiles and ends after 16 s, each further one takes 8 s; rows arrive one round late."""
    progress = Progress(10, 0, 1, now=now)
    totals = {f"{way}_bytes_reference": None for way in ("uplink", "downlink")}
    for number, (ended, seconds) in enumerate([(16, 16), (24, 8), (32, 8), (40, 8)]):
        now.time = ended + 8
        progress.row({"round": number, "seconds": float(seconds)}, totals, float(ended))
        left = 8 * (10 - number - 1) - 8 if number else 16 * 9 - 8
        assert shown(capsys) == f"{left // 60}:{left % 60:02}"


def test_a_resumed_run_counts_its_own_rounds(now, capsys):
    progress = Progress(10, 6, 1, now=now)
    totals = {f"{way}_bytes_reference": None for way in ("uplink", "downlink")}
    for number, ended in ((6, 20), (7, 25), (8, 30), (9, 35)):
        now.time = ended
        progress.row({"round": number, "seconds": 5.0}, totals, float(ended))
        assert shown(capsys) == f"0:{5 * (9 - number):02}"
