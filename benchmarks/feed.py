"""(f) A round whose images stay on the host, against the same round with all images on the devices.

At the size of configs/cifar10_small.py, as the host loop runs it: rounds are dispatched without waiting, so that rows
are gathered while the devices work. What is left of gathering and sending is what the ratio shows.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import jax

from benchmarks import round as whole_round
from benchmarks.common import alternate, seconds, write
from scarlet_jax.engine.feed import Feed, image_bytes
from scarlet_jax.methods.base import Algorithm
from scarlet_jax.runtime import backend

ROUNDS = 2  # of one measurement


class Rounds:
    """Rounds of one algorithm on one feed, each with its evaluation."""

    def __init__(self, algorithm: Algorithm, feed: Feed):
        self.algorithm, self.feed, self.round = algorithm, feed, 0
        self.state = algorithm.init(feed.evaluation(0))
        self()  # compiles; and the first round has no list to distil from

    def __call__(self) -> None:
        """Some rounds, waited for at the end."""
        evaluation: Any = None
        for _ in range(ROUNDS):
            self.state, report = self.algorithm.round(self.state, self.feed.training(self.round))
            data = self.feed.evaluation(self.round)
            evaluation = self.algorithm.evaluate(self.state, data, report.participants)
            self.round += 1
        jax.block_until_ready(evaluation)


def main() -> None:
    """Measure and write."""
    backend.prepare(os.environ, False)  # as launch.py does
    algorithm, data, mesh = whole_round.make("auto")
    # A byte less than the images take sends all of them to the host.
    budgets = {"on_device": 0.0, "host_fed": (image_bytes(data) - 1) / 1e6}
    feeds = {name: Feed(data, algorithm.schedule, budget, mesh) for name, budget in budgets.items()}
    sides = {name: functools.partial(seconds, Rounds(algorithm, feed)) for name, feed in feeds.items()}
    taken = {name: {k: v / ROUNDS for k, v in values.items()} for name, values in alternate(sides).items()}
    size = {name: feed.device_bytes / 1e6 for name, feed in feeds.items()}
    print({name: round(values["median"], 2) for name, values in taken.items()}, flush=True)
    write("feed", {"seconds": taken, "mb_on_a_device": size})


if __name__ == "__main__":
    main()
