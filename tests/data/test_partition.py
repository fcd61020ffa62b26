"""Partitioners: draw-for-draw agreement with the reference, and laws that hold for all of them."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scarlet_jax.data import federation, partition
from scarlet_jax.errors import UserError

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "partition.npz")


class Settings(SimpleNamespace):
    """The fields that `divide` reads, by attribute and by name."""

    def __getitem__(self, key: str):
        return getattr(self, key)


def settings_for(name: str, **fields) -> Settings:
    base = {"private_val_ratio": 0.0, "public_val_ratio": 0.0, "public_size": 1, "num_clients": 1}
    own = {key: fields.pop(key) for key in ("alpha", "classes_per_client") if key in fields}
    return Settings(**(base | fields), partition=Settings(name=name, **own))


@pytest.mark.parametrize("j", range(int(GOLDEN["num_configs"])))
def test_client_dirichlet_equals_the_reference_draw_for_draw(j):
    rng = np.random.default_rng(int(GOLDEN[f"p{j}_seed"]))
    parts = partition.client_dirichlet(
        rng,
        GOLDEN["train_targets"],
        GOLDEN["test_targets"],
        int(GOLDEN[f"p{j}_num_clients"]),
        10,
        float(GOLDEN[f"p{j}_alpha"]),
    )
    np.testing.assert_array_equal(np.stack(parts.train), GOLDEN[f"p{j}_train_indices"])
    np.testing.assert_array_equal(np.stack(parts.test), GOLDEN[f"p{j}_test_indices"])
    assert rng.uniform() == GOLDEN[f"p{j}_next_uniform"]


@pytest.mark.parametrize("j", range(int(GOLDEN["num_configs"])))
def test_class_priors_equal_the_reference(j):
    rng = np.random.default_rng(int(GOLDEN[f"p{j}_seed"]))
    rows = partition.dirichlet_rows(rng, float(GOLDEN[f"p{j}_alpha"]), int(GOLDEN[f"p{j}_num_clients"]), 10)
    np.testing.assert_array_equal(rows, GOLDEN[f"p{j}_class_priors"])


@pytest.mark.parametrize("name,ratio", [("seq", 0.0), ("seqval", float(GOLDEN["seqval_ratio"]))])
def test_the_whole_preparation_equals_the_reference_draw_for_draw(name, ratio):
    rng = np.random.default_rng(int(GOLDEN["p0_seed"]))
    config = settings_for(
        "dirichlet",
        num_clients=int(GOLDEN["p0_num_clients"]),
        alpha=float(GOLDEN["p0_alpha"]),
        private_val_ratio=ratio,
        public_val_ratio=ratio,
        public_size=int(GOLDEN["seq_public_size"]),
    )
    pool_size = int(GOLDEN["seq_public_pool"])
    division = federation.divide(config, rng, GOLDEN["train_targets"], GOLDEN["test_targets"], 10, pool_size)
    np.testing.assert_array_equal(np.stack(division.train), GOLDEN[f"{name}_private_train"])
    np.testing.assert_array_equal(np.stack(division.test), GOLDEN[f"{name}_private_test"])
    np.testing.assert_array_equal(division.public, GOLDEN[f"{name}_public_train"])
    assert rng.uniform() == GOLDEN[f"{name}_next_uniform"]
    for train, val, whole in zip(division.train, division.val, GOLDEN["p0_train_indices"], strict=True):
        np.testing.assert_array_equal(np.sort(np.concatenate([train, val])), np.sort(whole))
    assert len(division.public_val) == len(GOLDEN["seq_public_train"]) - len(division.public)
    assert not set(division.public) & set(division.public_val)


ALPHAS = [1e-300, 1e-6, 0.05, 0.5, 1.0, 1e6, 1e300]


@st.composite
def cases(draw):
    classes = draw(st.integers(1, 7))
    train = draw(st.lists(st.integers(0, classes - 1), min_size=1, max_size=120))
    test = draw(st.lists(st.integers(0, classes - 1), max_size=40))
    clients = draw(st.integers(1, min(len(train), 12)))
    return np.array(train), np.array(test, int), clients, classes, draw(st.integers(0, 2**32))


def check_disjoint(parts, size: int, complete: bool) -> None:
    rows = np.concatenate(parts)
    assert len(np.unique(rows)) == len(rows)
    assert np.isin(rows, np.arange(size)).all()
    if complete:
        assert len(rows) == size


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from(ALPHAS))
def test_client_dirichlet_gives_equal_sizes_and_no_row_twice(case, alpha):
    train, test, clients, classes, seed = case
    parts = partition.client_dirichlet(np.random.default_rng(seed), train, test, clients, classes, alpha)
    for rows, label in ((parts.train, train), (parts.test, test)):
        assert [len(part) for part in rows] == [len(label) // clients] * clients
        check_disjoint(rows, len(label), complete=False)


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from(ALPHAS))
def test_label_dirichlet_loses_no_row(case, alpha):
    train, test, clients, classes, seed = case
    parts = partition.label_dirichlet(np.random.default_rng(seed), train, test, clients, classes, alpha)
    assert len(parts.train) == len(parts.test) == clients
    check_disjoint(parts.train, len(train), complete=True)
    check_disjoint(parts.test, len(test), complete=True)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_iid_loses_no_row_and_sizes_differ_by_one_at_most(case):
    train, test, clients, classes, seed = case
    parts = partition.iid(np.random.default_rng(seed), train, test, clients, classes)
    check_disjoint(parts.train, len(train), complete=True)
    check_disjoint(parts.test, len(test), complete=True)
    assert np.ptp([len(part) for part in parts.train]) <= 1


@settings(max_examples=100, deadline=None)
@given(cases(), st.data())
def test_shards_lose_no_row_and_hold_their_classes(case, data):
    train, test, clients, classes, seed = case
    present = len(np.union1d(train, test))
    held = data.draw(st.integers(-(-present // clients), present))
    parts = partition.shards(np.random.default_rng(seed), train, test, clients, classes, held)
    check_disjoint(parts.train, len(train), complete=True)
    check_disjoint(parts.test, len(test), complete=True)
    for mine, tested in zip(parts.train, parts.test, strict=True):
        assert len(np.union1d(train[mine], test[tested])) <= held


def test_shards_with_ample_images_give_exactly_the_classes_and_the_same_ones_for_the_test():
    train, test = np.repeat(np.arange(10), 100), np.repeat(np.arange(10), 40)
    parts = partition.shards(np.random.default_rng(3), train, test, 15, 10, 2)
    holders = np.zeros(10, int)
    for mine, tested in zip(parts.train, parts.test, strict=True):
        assert len(np.unique(train[mine])) == 2
        np.testing.assert_array_equal(np.unique(train[mine]), np.unique(test[tested]))
        holders[np.unique(train[mine])] += 1
    assert (holders == 3).all()


@pytest.mark.parametrize("name", ["client_dirichlet", "label_dirichlet"])
def test_alpha_orders_the_skew(name):
    """Mean share of a client's largest class: near one for tiny alpha, near 1/C for huge alpha."""
    label = np.repeat(np.arange(10), 200)

    def skew(alpha: float) -> float:
        parts = getattr(partition, name)(np.random.default_rng(0), label, label, 10, 10, alpha).train
        return float(np.mean([np.bincount(label[part]).max() / len(part) for part in parts if len(part)]))

    tiny, middle, huge = skew(1e-6), skew(0.5), skew(1e6)
    assert tiny > middle > huge
    assert huge < 0.2


def test_label_dirichlet_uses_the_same_proportions_for_the_test():
    label = np.repeat(np.arange(5), 1000)
    parts = partition.label_dirichlet(np.random.default_rng(0), label, label, 8, 5, 0.3)
    for mine, tested in zip(parts.train, parts.test, strict=True):
        np.testing.assert_array_equal(np.bincount(label[mine], minlength=5), np.bincount(label[tested], minlength=5))


class BrokenSampler:
    """A generator whose Dirichlet sampler returns rows that are not a number, as some NumPy versions do."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.integers = self.rng.integers

    def dirichlet(self, alpha, size):
        return np.full((size, len(alpha)), np.nan)


def test_rows_that_are_not_numbers_are_replaced_by_their_limit():
    small = partition.dirichlet_rows(BrokenSampler(), 1e-9, 20, 4)
    assert ((small == 1).sum(axis=1) == 1).all() and (small.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(partition.dirichlet_rows(BrokenSampler(), 1e9, 3, 4), np.full((3, 4), 0.25))


def test_fifty_thousand_images_take_seconds():
    label = np.random.default_rng(0).integers(10, size=50_000)
    start = time.perf_counter()
    partition.client_dirichlet(np.random.default_rng(0), label, label[:10_000], 100, 10, 0.05)
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize("count,ratio,kept", [(0, 0.5, 0), (1, 0.9, 1), (2, 0.5, 1), (500, 0.1, 450), (7, 0.0, 7)])
def test_hold_out_keeps_an_image_to_train_on(count, ratio, kept):
    mine, held = partition.hold_out(np.random.default_rng(0), np.arange(100, 100 + count), ratio)
    assert len(mine) == kept
    np.testing.assert_array_equal(np.sort(np.concatenate([mine, held])), np.arange(100, 100 + count))


LABEL = np.arange(20) % 5


@pytest.mark.parametrize(
    "config,words",
    [
        (settings_for("dirichlet", num_clients=21, alpha=1.0), ["config.num_clients is 21", "1 to 20"]),
        (settings_for("iid", num_clients=0), ["config.num_clients is 0", "1 to 20"]),
        (settings_for("label_dirichlet", num_clients=21, alpha=1.0), ["config.num_clients is 21"]),
        (settings_for("dirichlet", num_clients=2, alpha=0.0), ["config.partition.alpha is 0.0", "above 0"]),
        (settings_for("label_dirichlet", num_clients=2, alpha=float("nan")), ["config.partition.alpha is nan"]),
        (settings_for("shards", num_clients=2, classes_per_client=2), ["classes_per_client is 2", "3 to 5"]),
        (settings_for("shards", num_clients=4, classes_per_client=6), ["classes_per_client is 6", "2 to 5"]),
    ],
)
def test_the_impossible_is_refused_by_name(config, words):
    with pytest.raises(UserError) as error:
        federation.divide(config, np.random.default_rng(0), LABEL, LABEL, 5, 10)
    assert all(word in str(error.value) for word in words) and str(error.value).endswith("."), error.value
