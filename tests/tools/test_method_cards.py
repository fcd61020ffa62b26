"""The cards of the methods: one for each, with facts that are there, and formulas that are what a run is billed."""

import numpy as np
import pytest

from scarlet_jax import build
from scarlet_jax.methods import METHODS
from scarlet_jax.methods.base import RoundReport
from scarlet_jax.protocol import ledger
from scarlet_jax.tables import load
from tests.support.federations import HALF, made
from tests.support.harness import tiny
from tools import method_cards

CARDS = method_cards.read()
NAMES = [name for name in METHODS if CARDS[name].bytes]
M, K, P, C = 2, 4, 20, 10  # of `tiny` at half of the clients


def selects(name):
    return METHODS[name].distils and load(METHODS[name].builder)().answers is not None


def participants(name, bits, seed):
    """Values of the symbols for each participant of a round: those that a round of the method can have."""
    rng = np.random.default_rng(seed)
    own = {"M": M, "K": K, "P": P, "C": C, "b": bits} | method_cards.defaults(name)
    same, counts = {"R": P, "L": P, "F": P}, dict.fromkeys("cux", 0)
    if METHODS[name].duration:
        same = {"R": 9, "L": 17, "F": 8}
    if selects(name):
        same = {"R": P, "L": 13, "F": 13}
    for _ in range(M):
        if METHODS[name].duration:
            counts = dict(zip("cux", rng.integers(1, 9, 3).tolist(), strict=True))
        sent = int(rng.integers(1, P)) if selects(name) else same["R"]
        held, received = rng.integers(0, C + 1, 2).tolist()
        yield own | same | counts | {"s": sent, "h": held, "g": received}


def test_the_page_is_made_of_the_cards():
    assert method_cards.PAGE.read_text() == method_cards.render(CARDS), "run python -m tools.method_cards"


def test_every_method_has_a_card_and_every_card_a_method():
    assert set(CARDS) == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_a_card_is_complete(name):
    card, entry = CARDS[name], METHODS[name]
    assert set(card.values) == set(entry.parameters), "a published value for each parameter, or why there is none"
    assert card.checked and all((method_cards.ROOT / path).is_file() for path in card.checked)
    assert f"tests/methods/test_{name}.py" in card.checked
    assert card.sends and card.receives and card.what and card.formula
    assert card.ours, "nothing is copied: something is ours"
    alone = name in ("individual", "centralized")
    assert alone or (card.paper and card.link.startswith("https://") and card.published)
    wanted = {f"{ledger}_{way}" for ledger in method_cards.LEDGERS for way in method_cards.DIRECTIONS}
    assert set(card.bytes) - {"note"} in (wanted, set())


def test_a_card_that_lacks_something_is_noticed(tmp_path):
    text = (method_cards.CARDS / "dsfl.toml").read_text()
    (tmp_path / "dsfl.toml").write_text(text.replace("formula =", "formulae ="))
    with pytest.raises(TypeError, match="formula"):
        method_cards.read(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_formula_is_what_a_run_is_billed(name):
    """By the algorithm of each method, for counts that are given."""
    bits = 32 if METHODS[name].distils and load(METHODS[name].builder)().logits else 8
    algorithm, _ = made(name, comm__label_bits=bits, cache__duration=METHODS[name].duration or None, **HALF)
    size = method_cards.model_bytes("mlp", C, (8, 8, 1))
    features = algorithm.population.feature_size if METHODS[name].by_class else 0
    values = [row | {"W": size, "d": features} for row in participants(name, bits, 0)]
    first = values[0]
    counts = ledger.Counts(
        first["R"], P - first["R"], 0, [row["s"] for row in values], first["L"], first["F"],
        [row["c"] for row in values], [row["u"] for row in values], [row["x"] for row in values],
    )  # fmt: skip
    classes = ledger.ClassCounts([row["h"] for row in values], [row["g"] for row in values])
    report = RoundReport(np.arange(M), None, None, counts=counts, classes=classes)
    found = [method_cards.evaluated(CARDS[name], row) for row in values]
    total = {kind: tuple(sum(own[kind][way] for own in found) for way in (0, 1)) for kind in method_cards.LEDGERS}
    assert algorithm.bill(report) == total


@pytest.mark.parametrize("name", ["scarlet", "cfd", "comet"])
def test_a_formula_is_what_is_planned(name):
    """In the second round of a plan, whose first one requests all samples."""
    own = METHODS[name].duration
    config = tiny(method__name=name, cache__duration=own, participation=1.0 if own else 0.5, rounds=2)
    plan = build.make_planner(config, C).run()
    requested = {"R": int(plan.requested[1]), "s": int(plan.requested[1]), "F": P, "L": P, "c": 0, "u": 0, "x": 0}
    row = {"M": plan.participants, "K": K, "P": P, "C": C, "b": 32} | requested | method_cards.defaults(name)
    for kind, (up, down) in method_cards.evaluated(CARDS[name], row).items():
        assert plan.uplink_bytes[kind][1] == plan.participants * up
        assert plan.downlink_bytes[kind][1] == plan.participants * down
    assert not own or 0 < requested["R"] < P
