"""The byte planner against the protocol written sample by sample, and against published figures."""

import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from scarlet_jax.build import make_planner
from scarlet_jax.protocol.draws import Draws, GroupSize
from scarlet_jax.protocol.planner import Shares
from tests.support.planning import planned

pytestmark = pytest.mark.usefixtures("quick_compilation")


def loop(draws, participants, num_clients, duration, on_expiry, classes, bits):
    """The protocol, sample by sample, for a given history: per round (requested, {ledger: (up, down)})."""
    cache, copies, previous, history = {}, [{} for _ in range(num_clients)], None, []
    for r, (draw, ids) in enumerate(zip(draws, participants, strict=True)):
        requested = [i for i in draw if i not in cache or r - cache[i] > duration]
        row = {"reference": 4 * classes, "wire": classes * bits}
        down = {"reference": 0, "wire": 0}
        for k in ids:
            reference, wire = 8 * len(requested), 32 * len(requested)
            # The list of round r - 1: pre-commit stamp, whether it was a hit, and the stamp after its commit.
            for i, (before, hit, after) in (previous or {}).items():
                signals = bool(duration)
                reference += 8 + 8 * signals + (0 if hit else row["reference"])
                wire += 32 + 2 * signals + (0 if hit else row["wire"])
                held = copies[k].get(i)
                if held != before:
                    reference += 8 if before is None else 8 + row["reference"]
                    wire += 32 + row["wire"] if hit else 0
                if after is None:
                    copies[k].pop(i, None)
                else:
                    copies[k][i] = after
            down["reference"] += reference
            down["wire"] += -(-wire // 8)
        up = {
            "reference": len(ids) * len(requested) * (row["reference"] + 8),
            "wire": len(ids) * -(-len(requested) * row["wire"] // 8),
        }
        history.append((len(requested), up, down))
        previous = {}
        for i in draw:
            before, hit = cache.get(i), i not in requested
            if not hit and before is None and duration:
                cache[i] = r
            elif not hit and before is not None:
                if on_expiry == "drop":
                    del cache[i]
                else:
                    cache[i] = r
            previous[i] = (before, hit, cache.get(i))
    return history


@pytest.mark.parametrize("on_expiry, seed, bits", [("drop", 1, 8), ("refresh", 2, 32)])
def test_counts_are_those_of_a_plain_loop(on_expiry, seed, bits):
    rounds, size, per_round, clients, classes = 30, 36, 18, 5, 3
    planner = make_planner(planned(seed=seed, rounds=rounds, **{"cache.ratio": 1.0, "comm.label_bits": bits}), classes)
    participants = [1, 3, clients]
    own = [Draws(seed, (GroupSize(clients, m),), size, per_round) for m in participants]
    draws = [np.asarray(own[0].public(jnp.int32(r))).tolist() for r in range(rounds)]
    ids = [[np.asarray(each.participants(jnp.int32(r))).tolist() for r in range(rounds)] for each in own]
    for duration in (0, 1, 2, 3, 7, 100):
        for result, own in zip(planner.variants(duration, on_expiry, participants), ids, strict=True):
            expected = loop(draws, own, clients, duration, on_expiry, classes, bits)
            assert result.requested.tolist() == [requested for requested, _, _ in expected]
            for ledger in ("reference", "wire"):
                assert result.uplink_bytes[ledger].tolist() == [up[ledger] for _, up, _ in expected]
                assert result.downlink_bytes[ledger].tolist() == [down[ledger] for _, _, down in expected]


@pytest.mark.parametrize("on_expiry, requested, ratio", [("drop", 0.285, 0.417), ("refresh", 0.168, 0.309)])
def test_published_figures_at_a_tenth_of_the_size(on_expiry, requested, ratio):
    # N and P a tenth of the paper's: the same share P / N, so the same expectations with a little more noise.
    config = base.get_config()
    config.rounds, config.public_size, config.public_per_round, config.num_clients = 2000, 1000, 100, 3
    planner = make_planner(config, 10)
    result, no_cache = (planner.variants(d, on_expiry, [3])[0] for d in (50, 0))
    assert result.requested_share == pytest.approx(requested, abs=0.003)
    assert sum(result.total("reference")) / sum(no_cache.total("reference")) == pytest.approx(ratio, abs=0.003)


def test_variants_are_the_plans_of_their_own_configs():
    result = make_planner(planned(), 10).variants(4, "refresh", [2, 5])[0]
    config = planned(participation=0.4, **{"cache.duration": 4, "cache.on_expiry": "refresh"})
    alone = make_planner(config, 10).run()
    assert alone.total("wire") == result.total("wire")
    assert alone.total("reference") == result.total("reference")


def selective(**fields):
    return planned(participation=1.0, **{"method.name": "selective_fd", "cache.ratio": 1.0} | fields)


def test_what_a_selecting_method_would_find_in_the_data_is_assumed():
    config = selective(**{"cache.duration": 0})
    everything, half = (make_planner(config, 10, Shares(share, 1.0)).run() for share in (1.0, 0.5))
    # 18 requests of 5 clients: 320 bits an answer, and a bit per request that says which are answered.
    assert set(everything.uplink_bytes["wire"].tolist()) == {5 * -(-(18 * 320 + 18) // 8)}
    assert set(half.uplink_bytes["wire"].tolist()) == {5 * -(-(9 * 320 + 18) // 8)}
    assert half.downlink_bytes["wire"].tolist() == everything.downlink_bytes["wire"].tolist()
    none = make_planner(config, 10, Shares(1.0, 0.0)).run()
    assert set(none.downlink_bytes["reference"].tolist()) == {5 * 8 * 18}, "requests alone"


def test_samples_that_are_not_kept_are_requested_again():
    config = selective(rounds=200, **{"cache.duration": 10})
    kept = {share: make_planner(config, 10, Shares(1.0, share)).run().requested_share for share in (1.0, 0.7, 0.0)}
    assert kept[1.0] < kept[0.7] < kept[0.0] == 1
