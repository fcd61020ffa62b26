"""Groups of architectures and their shares of the participants."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import digits
from scarlet_jax import UserError, build
from scarlet_jax.methods import METHODS
from scarlet_jax.options.groups import model_groups
from scarlet_jax.options.rules import validate
from tests.support.harness import tiny

KINDS = ("mlp", "cnn", "resnet20", "resnet18")


def config_of(sizes, participation):
    config = digits.get_config()
    config.num_clients, config.participation = sum(sizes), participation
    config.model.client = ",".join(f"{kind}:{size}" for kind, size in zip(KINDS, sizes, strict=False))
    return config


@given(st.lists(st.integers(1, 60), min_size=2, max_size=4), st.integers(1, 100))
def test_shares_are_those_of_the_largest_remainder(sizes, percent):
    config = config_of(sizes, percent / 100)
    total = sum(sizes) * percent // 100
    quotas = [Fraction(size * total, sum(sizes)) for size in sizes]
    rank = sorted(range(len(sizes)), key=lambda i: (-(quotas[i] - quotas[i].__floor__()), i))
    shares = [quota.__floor__() for quota in quotas]
    for i in rank[: total - sum(shares)]:
        shares[i] += 1
    if 0 in shares:
        with pytest.raises(UserError, match=r"^config\.participation is .*, which leaves no participant to the group"):
            model_groups(config)
        return
    groups = model_groups(config)
    assert [(g.name, g.clients, g.participants) for g in groups] == list(zip(KINDS, sizes, shares, strict=False))
    assert sum(shares) == build.num_participants(config)
    drawn = build.draws(config)
    assert [tuple(group) for group in drawn.groups] == list(zip(sizes, shares, strict=True))


def test_one_name_is_one_group():
    config = digits.get_config()
    config.model.client, config.participation = "mlp", 0.5
    assert model_groups(config) == [("mlp", 10, 5)]
    assert build.model_names(config) == {"mlp", config.model.server}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mlp:3,cnn", "allowed is a name, or groups such as"),
        ("mlp:3:4", "allowed is a name, or groups such as"),
        ("mlp:5,mlp:5", "each architecture once"),
        ("mlp:3,cnn:4", r"whose groups have 7 clients; allowed is groups of config\.num_clients = 10 together"),
    ],
)
def test_groups_that_cannot_be_are_refused(text, words):
    config = digits.get_config()
    config.model.client = text
    with pytest.raises(UserError, match=rf"^config\.model\.client is '{text}'.*{words}"):
        model_groups(config)


def test_the_validation_part_is_not_drawn_from():
    config = digits.get_config()
    config.public_size, config.public_val_ratio = 100, 0.2
    assert build.draws(config).public_size == 80


def test_a_method_without_public_images_asks_for_none_and_draws_none():
    without = {name for name in METHODS if not build.uses_public(tiny(method__name=name))}
    assert without == {"fedavg", "individual", "centralized", "fd", "fedproto"}
    # More than the pool has, which is refused where the pool is used.
    config = tiny(method__name="fd", cache__duration=None, public_per_round=100)
    validate(config)
    drawn = build.draws(config)
    assert (drawn.public_size, drawn.public_per_round) == (0, 0)
    config.method.name = "feddf"
    with pytest.raises(UserError, match=r"public_per_round is 100, but config\.public_size = 60"):
        validate(config)
