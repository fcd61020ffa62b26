"""What a round of three clients reports, by hand."""

import numpy as np

from scarlet_jax.engine.evaluation import Evaluation
from scarlet_jax.engine.scores import Scores
from scarlet_jax.methods.base import RoundReport
from scarlet_jax.protocol.ledger import Counts

IDS = [1, 4, 6]


def scores(top1, top5, loss, samples):
    top1, top5, loss, samples = (np.array(x, np.float32) for x in (top1, top5, loss, samples))
    return Scores({"top1": top1, "top5": top5, "loss": loss}, samples)


def evaluation(**fields):
    """Of three clients, the second of which has no test images, and a server with 20."""
    clients = scores([3, 0, 1], [4, 0, 2], [2.5, 0, 6], [5, 0, 4])
    whole = {"server": scores(8, 16, 5, 20), "clients": clients, "client_val": scores(*[[0] * 3] * 4),
             "public_val": None, "ids": np.array(IDS)}  # fmt: skip
    return Evaluation(**whole | fields)


def report(**fields):
    counts = Counts(requested=6, hit=2, stale=1, sent=np.array([6, 6, 5]), listed=8, fresh=7,
                    caught_up=np.array([2, 0, 1]), updates=np.zeros(3), stale_marks=np.zeros(3))  # fmt: skip
    whole = RoundReport(np.array(IDS), np.array([1.0, 2.0, 6.0]), np.array([0.5, 0.25, 0.0]), counts,
                        kd_loss=np.array([0.0, 1.0, 2.0]), server_kd_loss=np.float32(0.5))  # fmt: skip
    return whole._replace(**fields)
