"""On an accelerator no convolution is compiled for evaluating clients, and none twice."""

import pytest

from benchmarks.hlo_bytes import convolutions
from configs import cifar10
from scarlet_jax.preview import cards, compiled, dry_run

pytestmark = pytest.mark.skipif(cards.problem() is not None, reason=f"{cards.problem()}")


def test_clients_are_evaluated_with_the_convolutions_of_their_training():
    config = cifar10.get_config()
    config.update_from_flattened_dict(
        {
            "model.client": "cnn",
            "model.server": "cnn",
            "num_clients": 8,
            "clients_per_chunk": 4,
            "model.conv": "grouped",
        }
    )
    calls = {call.name: call for call in dry_run.prepare(config, "H100").shapes.calls}
    found = {name: convolutions(compiled.compile_phase(calls[name]).text) for name in ("train cnn", "evaluate cnn")}
    assert found["evaluate cnn"] and set(found["evaluate cnn"]) <= set(found["train cnn"])
