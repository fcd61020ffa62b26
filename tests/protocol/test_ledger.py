"""Both ledgers: the reference's own bills, DESIGN's worked example, and integers that never overflow."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scarlet_jax.methods import METHODS
from scarlet_jax.protocol import ledger
from scarlet_jax.tables import load
from tests.support.golden_files import golden_bytes


def counts(**fields):
    """Counts of a round in which nothing happened, but for the given fields."""
    nothing = dict.fromkeys(("requested", "hit", "stale", "listed", "fresh"), 0)
    nobody = dict.fromkeys(("sent", "caught_up", "updates", "stale_marks"), np.zeros(2, np.int32))
    return ledger.Counts(**nothing | nobody | fields)


def test_worked_example():
    """K = 4, M = 2, P = 6, C = 10: 4 requested and 2 hits in both rounds, one participant one catch-up entry."""
    one = np.array([0, 1])
    c = counts(requested=4, hit=2, sent=np.array([4, 4]), listed=6, fresh=4, caught_up=one, updates=one)
    fmt = soft_format(10, True)
    assert ledger.wire_bytes(c, fmt) == ledger.Bytes(320, 202 + 246)
    assert ledger.reference_bytes(c, fmt, 10) == ledger.Bytes(2 * 4 * 48, 2 * (160 + 48 + 32 + 48) + 48)


def test_vectors_by_class_by_hand():
    """C = 10, d = 3: a client with 2 of the classes and one with none; both are sent 4."""
    billed = ledger.class_bytes(ledger.ClassCounts(np.array([2, 0]), np.array([4, 4])), 10, 3)
    assert billed["reference"] == ledger.Bytes(2 * (12 + 8), 2 * 4 * (12 + 8))
    # Each message that is sent begins with 10 bits, rounded up to whole bytes.
    assert billed["wire"] == ledger.Bytes(2 * 12 + 2, 2 * (4 * 12 + 2))


def soft_format(classes, cached):
    codec = ledger.soft_label(ledger.Channel(classes, 32, full_participation=True))
    return ledger.make_format(codec, codec, cached)


def elements(tensors):
    """What a list of (shape, dtype) says of labels and of indices."""
    return [shape[0] for shape, _ in tensors]


def own_format(name, settings):
    """As the method itself bills, for the reference's experiment of that name."""
    entry = METHODS[{"selectivefd": "selective_fd"}.get(name, name.removesuffix("_partial"))]
    method = load(entry.builder)()
    channel = ledger.Channel(settings["num_classes"], 32, settings["sample_ratio"] == 1)
    return ledger.make_format(method.uplink(channel), method.downlink(channel), name.startswith("scarlet"))


@pytest.mark.parametrize("name", sorted(golden_bytes()))
def test_reference_ledger_matches_the_references_bills(name):
    """Counts are read off the reference's packages; the bytes must be the ones it reported.

    It bills catch-up also to absent clients; those packages are taken off.
    """
    experiment = golden_bytes()[name]
    classes, fmt = experiment["settings"]["num_classes"], own_format(name, experiment["settings"])
    for entry in experiment["rounds"]:
        labels, listed, requested = elements(entry["downlink_common"])[:3]
        packages = entry.get("downlink_catchup_all_clients", {})
        received = [packages.get(str(k), [[[0]], [[0]], [[0]]]) for k in entry["sampled"]]
        unreceived = sum(
            8 * p[0][0][0] + 4 * classes * p[1][0][0] + 8 * p[2][0][0]
            for k, p in packages.items()
            if int(k) not in entry["sampled"]
        )
        c = counts(
            requested=requested,
            sent=np.array([tensors[0][0][0] for tensors in entry["uplink_per_client"]]),
            listed=listed,
            fresh=labels,
            caught_up=np.zeros(len(received), int),
            updates=np.array([p[0][0][0] for p in received]),
            stale_marks=np.array([p[2][0][0] for p in received]),
        )
        billed = ledger.reference_bytes(c, fmt, classes)
        assert billed == ledger.Bytes(entry["uplink_bytes"], entry["downlink_bytes"] - unreceived), entry["round"]


def test_totals_do_not_overflow():
    c = counts(
        requested=10_000, sent=np.full(100_000, 10_000, np.int32), listed=10_000, fresh=10_000,
        caught_up=np.zeros(100_000, np.int32), updates=np.zeros(100_000, np.int32),
        stale_marks=np.zeros(100_000, np.int32),
    )  # fmt: skip
    fmt = soft_format(1000, False)
    assert ledger.wire_bytes(c, fmt).uplink == 100_000 * 10_000 * 4000
    assert ledger.reference_bytes(c, fmt, 1000).uplink == 100_000 * 10_000 * 4008


@given(st.sampled_from([8, 16]), hnp.arrays(np.float32, (3, 10), elements=st.floats(0, 1, width=32)))
def test_quantiser_is_a_plain_loop(bits, raw):
    total = raw.sum(1, keepdims=True)
    probs = np.where(total > 0, raw / np.where(total > 0, total, 1), 0).astype(np.float32)
    decoded = np.asarray(ledger.quantise(jnp.asarray(probs), bits))
    for row, ours in zip(probs, decoded, strict=True):
        q = [round(float(p * np.float32(2**bits - 1))) for p in row]
        expected = [x / sum(q) for x in q] if sum(q) else [0.1] * 10
        np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_full_precision_is_untouched():
    probs = jnp.array([[0.1, 0.9]])
    assert ledger.quantise(probs, 32) is probs
