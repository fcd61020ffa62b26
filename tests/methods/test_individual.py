"""Individual training: what remains of a federation whose broadcast is never used."""

import pytest

from tests.support.federations import HALF, federation, same_bits

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_a_broadcast_that_is_never_used_leaves_individual_training():
    alone, data, state = federation("individual", **HALF)
    federated, _, other = federation("dsfl", **HALF, kd_epochs=0)
    for _ in range(2):
        state, report = alone.round(state, data)
        other, _ = federated.round(other, data)
        assert alone.bill(report)["wire"] == (0, 0)
    same_bits(state.clients[0].params, other.clients[0].params)
    evaluation = alone.evaluate(state, data, report.participants)
    assert evaluation.server is None
