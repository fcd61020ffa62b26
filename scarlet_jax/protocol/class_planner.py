"""The byte planner of methods that exchange knowledge by class: what each round sends, without data and models.

Which classes a client holds depends on the data. Their number is assumed; all C, which is the default, are the most.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from scarlet_jax.protocol import ledger


class ClassBudget(NamedTuple):
    """What a federation sends in R rounds. Bytes are summed over the participants of a round."""

    participants: int  # M
    uplink_bytes: dict[str, np.ndarray]  # ledger -> i64[R]
    downlink_bytes: dict[str, np.ndarray]  # ledger -> i64[R]

    def total(self, name: str) -> ledger.Bytes:
        """Bytes of all rounds in a ledger, in Python integers."""
        return ledger.Bytes(sum(self.uplink_bytes[name].tolist()), sum(self.downlink_bytes[name].tolist()))


class ClassPlanner(NamedTuple):
    """Computes the bytes of a federation.

    Each participant sends a vector for each class that it holds. From round 1 on it receives one for each of all C
    classes, which is the most: a class that no client holds, or for `fd` no other client, is not sent.
    """

    rounds: int  # R
    clients: int  # K
    participants: int  # M
    num_classes: int  # C
    vector: int  # d, the length of a vector
    held: int  # classes of a client

    def run(self, participants: int | None = None) -> ClassBudget:
        """The federation, or one with another M."""
        m = self.participants if participants is None else participants
        rounds = []
        for r in range(self.rounds):
            received = self.num_classes if r else 0
            counts = ledger.ClassCounts(np.full(m, self.held), np.full(m, received))
            rounds.append(ledger.class_bytes(counts, self.num_classes, self.vector))

        def column(direction: str) -> dict[str, np.ndarray]:
            return {
                name: np.array([getattr(billed[name], direction) for billed in rounds], np.int64)
                for name in ledger.LEDGERS
            }

        return ClassBudget(m, column("uplink"), column("downlink"))
