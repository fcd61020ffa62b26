"""Windows on images that stay on the host, against indexing the images themselves."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scarlet_jax.engine import windows
from scarlet_jax.engine.layout import CLIENTS, REPLICATED, make_layout, make_mesh
from scarlet_jax.types import Split

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 2, 3, 1), np.uint8)


def mesh():
    return make_mesh(jax.devices()[:1])


def store(images=IMAGES, needs=None, pending=None):
    return windows.HostStore(images, mesh(), pending or windows.PendingReads(), needs)


@given(st.lists(st.integers(0, 11), max_size=6), st.booleans())
def test_a_window_is_indexed_like_its_store(loaded, spread):
    window = windows.window(IMAGES, mesh(), [np.array(loaded, np.int32)], 6, spread=spread)
    assert window.shape == IMAGES.shape and window.image.shape[0] == 7
    expected = [IMAGES[row if row in loaded else 0] for row in range(12)]
    np.testing.assert_array_equal(np.asarray(window[np.arange(12)]), expected)


@pytest.mark.parametrize("spread", [False, True])
def test_the_window_on_a_shape_has_the_shape_of_a_window(spread):
    shape = jax.ShapeDtypeStruct(IMAGES.shape, np.uint8)
    described = windows.window(shape, mesh(), [], 5, spread)
    real = windows.window(IMAGES, mesh(), [np.array([3, 1])], 5, spread)
    for name in ("image", "position"):
        one, other = getattr(described, name), getattr(real, name)
        assert (one.shape, one.dtype, one.sharding) == (other.shape, other.dtype, other.sharding)
    assert described.shape == real.shape == IMAGES.shape


@given(st.lists(st.integers(0, 9), min_size=3, max_size=8), st.integers(1, 3))
def test_the_size_is_that_of_the_largest_clients_of_a_block(sizes, chunk):
    split = Split(np.zeros((len(sizes), 9), np.int32), np.array(sizes, np.int32))
    layout = make_layout(mesh(), len(sizes), len(sizes) - 1, chunk)
    together = min(layout.block, len(sizes))
    largest = max(sum(some) for some in itertools.combinations(sizes, together))
    assert windows.most_rows(split, layout) == largest
    outline = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), split)
    assert windows.most_rows(outline, layout) == layout.block * 9 >= largest


def test_a_block_has_the_rows_of_its_clients():
    rows = np.arange(12).reshape(4, 3).astype(np.int32)
    needs = windows.Needs(Split(rows, np.array([3, 2, 0, 1])), lambda: np.array([0, 1, 3]))
    layout = make_layout(mesh(), 4, 3, 1)
    seen = set()
    for block in range(layout.blocks):
        window = store(needs=needs).block(layout, block)
        there = {row for row in range(12) if np.array_equal(window[jnp.array([row])][0], IMAGES[row])}
        seen |= there
    assert seen == {0, 1, 2, 3, 4, 9}  # of clients 0, 1 and 3
    assert store().block(layout, 0).needs is None


def test_other_clients_may_read_a_store():
    needs = windows.Needs(Split(np.arange(12).reshape(4, 3), np.full(4, 3)), lambda: np.array([0]))
    tree = {"read": store(needs=needs), "unread": store(), "array": jnp.arange(3)}
    for participants, rows in ((np.array([2]), {0, 6, 7, 8}), (None, {0, 1, 2})):
        given_to = windows.reading(tree, participants)
        window = windows.fetch(given_to, make_layout(mesh(), 4, 1, 1), 0)["read"]
        there = {row for row in range(12) if np.array_equal(window[jnp.array([row])][0], IMAGES[row])}
        assert there == rows and given_to["array"] is tree["array"] and given_to["unread"].needs is None


def test_stores_of_one_shape_are_one_argument_of_a_program():
    traced = []

    @jax.jit
    def program(data, x):
        traced.append(data.shape)
        return x

    for images in (IMAGES, IMAGES[::-1], IMAGES[:5]):
        program(store(images), 1)
    assert traced == [IMAGES.shape, IMAGES[:5].shape]
    assert store() == store(IMAGES[::-1]) != store(IMAGES[:5]) and hash(store()) == hash(store())


def test_specs_divide_windows_of_which_each_device_has_its_own():
    tree = {"own": windows.window(IMAGES, mesh(), [np.array([1])], 2, True), "all": jnp.zeros(3),
            "same": windows.window(IMAGES, mesh(), [np.array([1])], 2, False)}  # fmt: skip
    found = windows.specs(tree)
    assert jax.tree.leaves(found["own"]) == [CLIENTS] * 2 and jax.tree.leaves(found["same"]) == [REPLICATED] * 2
    assert found["all"] == REPLICATED


class Work:
    """What a dispatch returns."""

    def __init__(self):
        self.waited = False

    def block_until_ready(self):
        self.waited = True


def test_a_third_window_waits_for_the_first_and_only_readers_are_waited_for():
    pending = windows.PendingReads()
    needs = windows.Needs(Split(np.zeros((1, 1), np.int32), np.ones(1, np.int32)), lambda: np.array([0]))
    read, unread = store(needs=needs, pending=pending), store(pending=pending)
    works = [Work() for _ in range(3)]
    for work in works:
        windows.add_pending({"x": read, "again": read}, work)
        windows.add_pending({"x": unread}, Work())
    pending.wait()
    assert [work.waited for work in works] == [True, True, False]
