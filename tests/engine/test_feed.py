"""What lies on the devices of images that stay on the host, against NumPy's own look-up."""

import jax
import numpy as np
import pytest

from scarlet_jax.engine import feed, windows
from scarlet_jax.engine.layout import make_layout, make_mesh
from scarlet_jax.protocol.draws import Draws, GroupSize
from scarlet_jax.types import Data, Split

SEED, PUBLIC, PER_ROUND, TEST = 3, 90, 20, 70
DRAWS = Draws(SEED, (GroupSize(12, 9), GroupSize(4, 4)), PUBLIC, PER_ROUND)
PIXELS = 8 * 8 * 1


@pytest.fixture(scope="module")
def layouts():
    """Two groups; of the first 9 of 12 clients take part, three a block, of the second all 4, two a block."""
    mesh = make_mesh(jax.devices()[:1])
    return make_layout(mesh, 12, 9, 1), make_layout(mesh, 4, 4, 1, first=12)


@pytest.fixture(scope="module")
def schedule(layouts):
    return feed.Schedule(DRAWS, layouts)


@pytest.fixture(scope="module")
def data():
    """16 clients of 0 to 15 private images, and 4 test images each."""
    rng = np.random.default_rng(0)

    def image(n):
        return rng.integers(0, 256, (n, 8, 8, 1), np.uint8)

    def split(n, sizes):
        rows, result = rng.permutation(n), np.zeros((16, max(sizes)), np.int32)
        for client, (end, size) in enumerate(zip(np.cumsum(sizes), sizes, strict=True)):
            result[client, :size] = rows[end - size : end]
        return Split(result, np.array(sizes, np.int32))

    train, test = split(120, list(range(16))), split(TEST, [4] * 16)
    val = Split(np.zeros((16, 1), np.int32), np.zeros(16, np.int32))
    label = np.zeros(120, np.int32)
    return Data(image(120), label, image(TEST), label[:TEST], image(PUBLIC), image(5), train, val, test)


def fed(data, schedule, budget=1e-3):
    return feed.Feed(data, schedule, budget, schedule.layouts[0].mesh)


def check_window(window, images, rows):
    """It reads as the store on these rows, and as row 0 on all others."""
    expected = np.broadcast_to(images[0], images.shape).copy()
    for row in rows:
        expected[row] = images[row]
    np.testing.assert_array_equal(np.asarray(window[np.arange(len(images))]), expected)


@pytest.mark.parametrize("round_", [0, 1, 70])
def test_a_block_is_given_its_clients_rows_and_no_others(data, schedule, layouts, round_):
    ids = np.asarray(jax.jit(DRAWS.participants)(round_))
    training, evaluation = fed(data, schedule).training(round_), fed(data, schedule).evaluation(round_)
    seen, shapes = [], {}
    for group, own in zip(layouts, (ids[:9], ids[9:]), strict=True):
        padded = np.append(own, [-1] * (group.capacity - own.size))
        for block in range(group.blocks):
            clients = [int(k) for k in padded[block * group.block : (block + 1) * group.block] if k >= 0]
            seen += clients
            given, judged = windows.fetch((training, evaluation), group, block)
            shapes.setdefault(group, set()).add((given.private_image.image.shape, judged.test_image.image.shape))
            for window, images, split in (
                (given.private_image, data.private_image, data.train),
                (judged.private_image, data.private_image, data.val),
                (judged.test_image, data.test_image, data.test),
            ):
                rows = [row for k in clients for row in split.rows[k, : split.size[k]]]
                check_window(window, images, rows)
    assert seen == ids.tolist() and all(group.blocks > 1 for group in layouts)
    assert all(len(own) == 1 for own in shapes.values()), "one program a group"


def test_a_round_is_given_the_samples_of_its_draw_and_of_the_last(data, schedule):
    own = [np.asarray(jax.jit(DRAWS.public)(r)) for r in range(3)]
    check_window(fed(data, schedule).training(0).public_image, data.public_image, own[0])
    check_window(fed(data, schedule).training(2).public_image, data.public_image, np.concatenate(own[1:]))


def sent(data):
    """No client has validation images, so that their rows are not sent."""
    assert not np.any(data.val.size)
    return data._replace(val=data.val.size)


def test_images_within_the_budget_all_lie_on_the_devices(data, schedule):
    size = feed.image_bytes(data)
    assert size == (120 + TEST + PUBLIC + 5) * PIXELS
    for budget, on_host in ((0, False), (size / 1e6, False), ((size - 1) / 1e6, True)):
        own = fed(data, schedule, budget)
        assert own.on_host == on_host
        for given in (own.training(1), own.evaluation(1)):
            arrays = [isinstance(image, jax.Array) for image in (given.private_image, given.test_image)]
            assert arrays == [not on_host] * 2 and isinstance(given.public_val_image, jax.Array)
    assert fed(data, schedule, 0).device_bytes == sum(a.nbytes for a in jax.tree.leaves(sent(data)))


def test_what_lies_on_a_device_is_counted(data, schedule, layouts):
    integers = sum(a.nbytes for a in jax.tree.leaves(sent(data)) if a.dtype == np.int32)
    assert [group.block for group in layouts] == [3, 2]
    training = (1 + 11 + 10 + 9) * PIXELS + 4 * 120  # row 0, the largest clients of a block; where each image lies
    evaluation = (1 + 1 + 3 * 4) * PIXELS + 4 * (120 + TEST)
    piece = (1 + TEST) * PIXELS + 4 * TEST
    public = (1 + 2 * PER_ROUND) * PIXELS + 4 * PUBLIC
    expected = integers + 5 * PIXELS + 2 * max(training, evaluation, piece) + 2 * public
    assert fed(data, schedule).device_bytes == expected
    assert fed(feed.outline(data), schedule).device_bytes == expected


class Work:
    """What a dispatch returns."""

    def __init__(self):
        self.waited = False

    def block_until_ready(self):
        self.waited = True


def test_no_more_than_two_windows_are_in_flight(data, schedule, layouts):
    training, works = fed(data, schedule).training(0), []
    for block in range(layouts[0].blocks):
        windows.fetch(training, layouts[0], block)
        assert [work.waited for work in works] == [True] * (block - 1) + [False] * min(block, 1)
        works.append(Work())
        windows.add_pending(training, works[-1])
