"""Keys against Threefry-2x32 written out, and their independence of whatever else is drawn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scarlet_jax.keys import Purpose, derive

words = st.integers(0, 2**31 - 1)


def threefry(key, data):
    """The block cipher of Salmon et al. (2011), 20 rounds, on a pair of words."""
    ks = [*key, key[0] ^ key[1] ^ 0x1BD11BDA]
    x = [(data[i] + ks[i]) % 2**32 for i in range(2)]
    for block in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[block % 2]:
            x[0] = (x[0] + x[1]) % 2**32
            x[1] = ((x[1] << turn | x[1] >> 32 - turn) % 2**32) ^ x[0]
        x[0] = (x[0] + ks[(block + 1) % 3]) % 2**32
        x[1] = (x[1] + ks[(block + 2) % 3] + block + 1) % 2**32
    return tuple(x)


@given(words, st.sampled_from(Purpose), st.lists(words, max_size=2))
def test_a_key_is_the_seed_folded_by_purpose_round_and_client(seed, purpose, numbers):
    expected = (0, seed)
    for number in (int(purpose), *numbers):
        expected = threefry(expected, (0, number))
    assert jax.random.key_data(derive(seed, purpose, *numbers)).tolist() == list(expected)


def test_a_key_is_the_same_inside_a_compiled_function():
    compiled = jax.jit(lambda r, k: jax.random.key_data(derive(7, Purpose.FIT, r, k)))
    for r, k in ((0, 0), (3, 11)):
        plain = jax.random.key_data(derive(7, Purpose.FIT, r, k))
        np.testing.assert_array_equal(compiled(jnp.int32(r), jnp.int32(k)), plain)


def test_no_two_purposes_rounds_or_clients_share_a_key():
    one = jax.jit(jax.vmap(lambda p, r, k: jax.random.key_data(derive(3, p, r, k))))
    cases = np.array(list(itertools.product(range(len(Purpose)), range(20), range(20))), np.int32)
    assert len({tuple(key) for key in np.asarray(one(*cases.T)).tolist()}) == len(cases)


def test_purposes_keep_their_numbers():
    """They are part of every result: a run that is resumed with others would not repeat its draws."""
    assert [purpose.name for purpose in sorted(Purpose)] == [
        "INIT", "PARTICIPANTS", "DRAW", "DISTIL", "FIT", "PREDICT", "AGGREGATE", "CACHE", "SERVER_DISTIL", "DECODE",
        "ASSUMED", "WARM_UP",
    ]  # fmt: skip
    assert [int(purpose) for purpose in sorted(Purpose)] == list(range(12))


@pytest.mark.parametrize("seed", [0, 1])
def test_seeds_differ(seed):
    assert (
        jax.random.key_data(derive(seed, Purpose.DRAW, 0)).tolist()
        != jax.random.key_data(derive(2, Purpose.DRAW, 0)).tolist()
    )
