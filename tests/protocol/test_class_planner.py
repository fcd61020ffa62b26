"""The byte planner of knowledge by class: the closed form, and the bytes of a run that holds all classes."""

from scarlet_jax import build
from scarlet_jax.protocol.class_planner import ClassPlanner
from tests.support.harness import tiny


def test_a_plan_is_the_closed_form():
    """K = 8, M = 3, C = 10, d = 64: up 4 classes of each client, down all from round 1 on."""
    rounds, m, c, d, n = 5, 3, 10, 64, 4
    result = ClassPlanner(rounds, 8, m, c, d, n).run()
    down = [0, *[m * c] * (rounds - 1)]
    assert result.uplink_bytes["reference"].tolist() == [m * n * (4 * d + 8)] * rounds
    assert result.downlink_bytes["reference"].tolist() == [k * (4 * d + 8) for k in down]
    assert result.uplink_bytes["wire"].tolist() == [m * (4 * d * n + 2)] * rounds  # 2 bytes have a bit for each class
    assert result.downlink_bytes["wire"].tolist() == [0, *[m * (4 * d * c + 2)] * (rounds - 1)]
    assert result.total("reference") == (rounds * m * n * 264, (rounds - 1) * m * c * 264)
    assert ClassPlanner(rounds, 8, m, c, d, n).run(6).total("wire").uplink == 2 * result.total("wire").uplink


def test_a_planner_takes_the_length_of_a_vector_from_method_and_models():
    def planner(name, shape=(8, 8, 1), **fields):
        return build.make_class_planner(tiny(method__name=name, cache__duration=None), 10, shape, **fields)

    assert planner("fd", None)[-2:] == (10, 10)
    assert planner("fedproto", held=3)[-2:] == (128, 3)
    assert planner("fedproto", None, vector=7)[-2:] == (7, 10)
