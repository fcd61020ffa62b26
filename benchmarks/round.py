"""(b) A whole round: 10 clients x 500 CIFAR-10 images, batch 50, one local epoch, 200 of 1,000 public images, one epoch
of distillation, evaluation of clients and server on 1,000 test images.

Against PyTorch eager, which is asked for the same number of batches, forward and backward, and nothing else of a round:
no data, no protocol, no processes to start. Then once more with a wait after each phase, for the share of each.
"""

from __future__ import annotations

import collections
import functools
import os
import time

import jax
from jax.sharding import NamedSharding

from benchmarks import sides
from benchmarks.common import alternate, seconds, write
from scarlet_jax import build
from scarlet_jax.configs import cifar10_small
from scarlet_jax.data import federation as federation_data
from scarlet_jax.engine import phases
from scarlet_jax.engine.layout import REPLICATED
from scarlet_jax.models.conv.api import resolve_conv
from scarlet_jax.runtime import backend

CLIENTS, IMAGES, BATCH, PUBLIC, TEST = 10, 500, 50, 200, 1_000


def make(conv: str):
    """The algorithm, its data and mesh. Without a cache: every label is requested, so that all rounds are alike."""
    config = cifar10_small.get_config()
    config.batch_size = config.kd_batch_size = BATCH
    config.cache.duration = 0
    config.model.conv = resolve_conv(conv)
    federation = federation_data.load(config)
    assert config.num_clients == CLIENTS and federation.data.private_image.shape[0] == CLIENTS * IMAGES
    mesh = build.make_mesh(config)
    algorithm = build.make_algorithm(config, federation.data, federation.num_classes, mesh)
    return algorithm, federation.data, mesh


class Rounds:
    """Rounds of one program, each with its evaluation."""

    def __init__(self, conv: str):
        self.algorithm, data, mesh = make(conv)
        self.data = jax.device_put(data, NamedSharding(mesh, REPLICATED))
        self.state = self.algorithm.init(self.data)
        for _ in range(2):  # the first has no list to distil from
            self()

    def __call__(self) -> None:
        """One of them."""
        self.state, report = self.algorithm.round(self.state, self.data)
        jax.block_until_ready(self.algorithm.evaluate(self.state, self.data, report.participants))

    def shares(self) -> dict[str, float]:
        """Seconds of each phase of one round, every one waited for."""
        taken: dict[str, float] = collections.defaultdict(float)

        def clock(name: str, elapsed: float) -> None:
            taken[name] += elapsed

        with phases.timed(clock):
            self()
        return dict(taken)


def torch_round(side: sides.Side) -> float:
    """Seconds of the same batches, shared by two processes of one thread."""
    train = (CLIENTS * (IMAGES + PUBLIC) + PUBLIC) // BATCH // side.processes
    infer = (CLIENTS * PUBLIC + 2 * TEST) // BATCH // side.processes
    start = time.perf_counter()
    side(f"resnet20 train {train}")
    side(f"resnet20 infer {infer}")
    return time.perf_counter() - start


def main() -> None:
    """Measure and write."""
    backend.prepare(os.environ, False)  # as launch.py does
    programs = {conv: Rounds(conv) for conv in dict.fromkeys((resolve_conv("auto"), "cpu"))}
    peer = sides.torch(2, 1, BATCH)
    measured = {name: functools.partial(seconds, rounds) for name, rounds in programs.items()}
    torch_round(peer)
    taken = alternate(measured | {"torch_batches": functools.partial(torch_round, peer)})
    peer.close()
    best = next(iter(programs))
    shares = programs[best].shares()
    print({name: round(t["median"], 1) for name, t in taken.items()}, flush=True)
    write("round", {"seconds": taken, "phases": shares, "torch": peer.greeting})


if __name__ == "__main__":
    main()
