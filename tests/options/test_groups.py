"""Groups of clients: whole numbers of participants, in proportion to the clients."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scarlet_jax import counts
from scarlet_jax.errors import UserError
from scarlet_jax.options.groups import ModelGroup, model_groups
from tests.support.harness import tiny


def groups(text, clients, participation=1.0):
    return model_groups(tiny(model__client=text, num_clients=clients, participation=participation))


def test_one_name_is_one_group():
    assert groups("mlp", 7, 0.5) == [ModelGroup("mlp", 7, 3)]
    assert groups(" mlp : 3 , cnn : 4 ", 7) == [ModelGroup("mlp", 3, 3), ModelGroup("cnn", 4, 4)]


@given(st.lists(st.integers(1, 60), min_size=2, max_size=4), st.floats(0.05, 1))
def test_shares_add_up_and_are_within_one_of_the_exact_proportion(sizes, participation):
    names = ["mlp", "cnn", "resnet20", "resnet32"]
    text, total = ",".join(f"{name}:{size}" for name, size in zip(names, sizes, strict=False)), sum(sizes)
    try:
        found = groups(text, total, participation)
    except UserError as refused:
        assert "leaves no participant to the group" in str(refused) or "participation" in str(refused)
        return
    participants = counts.participants(total, participation)
    assert sum(group.participants for group in found) == participants
    for group, size in zip(found, sizes, strict=True):
        assert group.clients == size and abs(group.participants - size * participants / total) < 1


def test_of_equal_remainders_the_earlier_group_gets_the_participant():
    assert [group.participants for group in groups("mlp:5,cnn:5", 10, 0.5)] == [3, 2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mlp:3,cnn", "a name, or groups such as"),
        ("mlp:3,mlp:4", "each architecture once"),
        ("mlp:3,cnn:3", "whose groups have 6 clients"),
        ("mlp:6,cnn:1", "leaves no participant to the group cnn:1"),
    ],
)
def test_other_texts_are_refused(text, words):
    with pytest.raises(UserError, match=words):
        groups(text, 7, 0.4)
