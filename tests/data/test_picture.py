"""partition.png, looked at: what is there can be seen, however many clients and classes there are."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.image import imread

from scarlet_jax.data import describe


def drawn(train, folder, val=None):
    """The picture of i64[K, C] as f32[H, W, 4]."""
    names = tuple(f"class {c}" for c in range(train.shape[1]))
    federation = SimpleNamespace(class_names=names, sources={"private": {"name": "cifar10"}})
    with (folder / "partition.png").open("wb") as file:
        describe.draw(file, train, np.zeros(len(train), int) if val is None else val, federation)
    return imread(folder / "partition.png")


def blue(pixels):
    return pixels[..., 2] > pixels[..., 0] + 0.15


@pytest.mark.parametrize(("clients", "classes"), [(1000, 10), (10, 1000), (1000, 1000), (2500, 100), (100, 100)])
def test_what_is_held_is_seen_of_many(tmp_path, clients, classes):
    """As much of the panel is coloured as there are clients' classes with images, in the part that surely is panel."""
    held = np.random.default_rng(0).random((clients, classes)) < 0.3
    picture = drawn(held * 7, tmp_path)
    rows, columns = picture.shape[:2]
    panel = blue(picture)[int(0.5 * rows) : int(0.9 * rows), int(0.15 * columns) : int(0.8 * columns)]
    together = -(-clients // describe.MOST_CELLS)
    assert panel.mean() == pytest.approx(1 - 0.7**together, abs=0.05)


def test_one_image_among_many_is_seen(tmp_path):
    empty, one = np.zeros((2, 3000, 10), np.int64)
    one[1717, 5] = 1
    differs = (drawn(one, tmp_path) != drawn(empty, tmp_path)).any(-1)
    at = np.argwhere(differs & blue(drawn(one, tmp_path)))
    assert len(at) >= 10  # the cell of one client and class


@pytest.mark.parametrize("clients", [10, 1000])
def test_the_bars_are_the_clients_sizes(tmp_path, clients):
    """Half as many images make half the area; validation images lie on top, in another colour."""
    ten = np.full((clients, 10), 10)
    val = np.full(clients, 50)
    top = drawn(ten, tmp_path)[:, :, :3], drawn(ten, tmp_path, val)[:, :, :3]
    orange = [(p[..., 0] > p[..., 2] + 0.5).sum() for p in top]
    assert orange[0] == 0 and orange[1] > 0.005 * top[1][..., 0].size
