"""Every method on tiny data, with and without a cache, with all or some clients; and what is refused."""

import collections
import math

import pytest

import scarlet_jax
from configs import digits
from scarlet_jax.data import federation as federation_data
from scarlet_jax.errors import UserError
from scarlet_jax.methods import METHODS
from scarlet_jax.options.rules import validate
from scarlet_jax.preview import checks
from scarlet_jax.runtime import start
from tests.support.compiling import compilations
from tests.support.federations import cacheable
from tests.support.harness import assert_same_run, rows, tiny

DISTILLATION = [name for name, entry in METHODS.items() if entry.distils]
OTHERS = [name for name in METHODS if name not in DISTILLATION]
CACHED = [name for name in DISTILLATION if cacheable(name)]
CASES = [
    *((name, duration, share) for name in CACHED for duration, share in ((0, 1.0), (1, 0.5))),
    *((name, 0, share) for name in DISTILLATION if name not in CACHED for share in (1.0, 0.5)),
    *((name, None, share) for name in OTHERS for share in (1.0, 0.5) if (name, share) != ("centralized", 0.5)),
]
ROUNDS = 3

pytestmark = pytest.mark.usefixtures("shared_programs")


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr(start, "write_partition", lambda federation, path: None)


def of(name, duration, participation, **fields):
    config = tiny(participation=participation, **fields)
    config.method.name, config.cache.duration = name, duration
    # Every second image is drawn, so that a cache is hit, expires, and misses participants.
    config.public_size, config.public_per_round = 40, 20
    return config


@pytest.mark.parametrize(("name", "duration", "participation"), CASES)
def test_a_method_runs_resumes_and_compiles_once(name, duration, participation, tmp_path, monkeypatch):
    case = name, duration, participation
    with compilations(monkeypatch) as compiled:
        summary = scarlet_jax.run(of(*case, rounds=ROUNDS, **{"checkpoint.every": 1}), tmp_path / "through")
    assert not compiled[1] and not compiled[2], "later rounds compile nothing"
    count = collections.Counter(compiled[-1] + compiled[0])
    assert count["_sharded_block"] <= 2, "one trains and one evaluates"
    assert all(n == 1 for phase, n in count.items() if phase.endswith("_phase"))
    scarlet_jax.run(of(*case, rounds=1), tmp_path / "stopped")
    scarlet_jax.run(of(*case, rounds=ROUNDS), tmp_path / "stopped")
    assert_same_run(tmp_path / "through", tmp_path / "stopped")
    history = rows(tmp_path / "through")
    clients = 4 * participation
    for row in history:
        assert row["participants"] == clients
        numbers = [value for value in row.values() if value is not None]
        assert all(math.isfinite(value) for value in numbers)
        assert (row["server_top1"] is None) == (not METHODS[name].server)
    check_bytes(name, duration, history)
    assert summary["rounds"] == ROUNDS and summary["complete"]


def check_bytes(name, duration, history):
    """What each method may send at all."""
    volume = [row["uplink_bytes_wire"] for row in history]
    if not METHODS[name].sends:
        assert set(volume) == ({0} if name == "individual" else {None})
        assert history[0]["requested"] is None
        return
    if METHODS[name].by_class:
        clients, vector = history[0]["participants"], 4 * {"fd": 10, "fedproto": 128}[name]
        down = [row["downlink_bytes_wire"] for row in history]
        assert down[0] == 0 and all(down[1:])
        for sent in (*volume, *down[1:]):  # a bit for each of 10 classes, and a vector for those that are there
            vectors, rest = divmod(sent - 2 * clients, vector)
            assert rest == 0 and 5 * clients < vectors <= 10 * clients
        assert all(("client_prototype_top1" in row) == (name == "fedproto") for row in history)
        return
    if name in OTHERS:
        assert len(set(volume)) == 1 and volume == [row["downlink_bytes_reference"] for row in history]
        return
    hits = [row["hit"] for row in history]
    assert hits[0] == 0 and any(hits) == bool(duration)
    for row in history:
        assert row["requested"] + row["hit"] == 20
    bits = {"cfd": 4}.get(name, 320)
    if name != "selective_fd":  # whose clients choose what they answer
        assert volume == [-(-row["requested"] * bits // 8) * row["participants"] for row in history]


def test_groups_of_architectures(tmp_path):
    """Shares of 3 of 4 participants: by the largest remainder, 2 of the first 3 clients and the last one."""
    config = of("comet", 1, 0.75, **{"model.client": "mlp:3,cnn:1"})
    scarlet_jax.run(config, tmp_path / "run")
    for row in rows(tmp_path / "run"):
        assert row["participants"] == 3
        groups = [row["client_top1_mlp"], row["client_top1_cnn"]]
        assert row["client_top1"] == pytest.approx((2 * groups[0] + groups[1]) / 3)
        assert row["client_loss_mlp"] > 0 and row["client_loss_cnn"] > 0
    who = [line.split(",")[:2] for line in (tmp_path / "run" / "clients.csv").read_text().splitlines()[1:]]
    for r in range(4):
        present = [int(client) for round_, client in who if int(round_) == r]
        assert len(present) == 3 and present[2] == 3
    scarlet_jax.load_server(tmp_path / "run")


def test_a_server_model_for_each_architecture(tmp_path):
    """Half of each group in a round; the run that is resumed has its images on the host.

    The predictor has the model of `model.server`, unless another is named.
    """
    fields = {"model.client": "mlp:2,cnn:2", "model.server": "cnn", "checkpoint.every": 1}
    for name, rounds, budget in (("through", 2, 0.0), ("stopped", 1, 0.0), ("stopped", 2, 0.001)):
        own = {"rounds": rounds, "data.device_budget_mb": budget}
        scarlet_jax.run(of("feddf", None, 0.5, **fields, **own), tmp_path / name)
    assert_same_run(tmp_path / "through", tmp_path / "stopped")
    row = rows(tmp_path / "through")[-1]
    assert row["server_top1"] == pytest.approx((row["server_top1_mlp"] + row["server_top1_cnn"]) / 2)
    data = federation_data.load(of("feddf", None, 0.5, **fields)).data
    for name in ("mlp", "cnn", None):
        server = scarlet_jax.load_server(tmp_path / "through", architecture=name)
        right = server(data.test_image).argmax(1) == data.test_label
        assert right.mean() == pytest.approx(row[f"server_top1_{name or 'cnn'}"])
    with pytest.raises(UserError, match=r"architecture is 'mlp2', and the server .* allowed is cnn or mlp\.$"):
        scarlet_jax.load_server(tmp_path / "through", architecture="mlp2")


def test_the_servers_architecture_is_one_of_the_clients():
    sentence = refused("feddf", model__client="mlp:5,cnn:5", model__server="resnet20")
    assert sentence == (
        "config.model.server is 'resnet20', but the server's models of feddf have the architectures of "
        "config.model.client; allowed is mlp or cnn."
    )


def refused(name, **fields):
    config = digits.get_config()
    config.cache.duration = None
    config.update_from_flattened_dict(
        {"method.name": name} | {key.replace("__", "."): value for key, value in fields.items()}
    )
    with pytest.raises(UserError) as error:
        validate(config)
        checks.check(config)
    return str(error.value)


@pytest.mark.parametrize("name", OTHERS)
def test_methods_without_soft_labels_refuse_a_cache(name):
    sentence = refused(name, cache__duration=5)
    assert "cache.duration is 5" in sentence and name in sentence


def test_a_run_without_a_server_has_no_predictor(tmp_path):
    scarlet_jax.run(of("individual", None, 1.0, rounds=1), tmp_path / "run")
    with pytest.raises(UserError, match="has no server model"):
        scarlet_jax.load_server(tmp_path / "run")


@pytest.mark.parametrize("name", [name for name, e in METHODS.items() if not (e.own_models or e.group_servers)])
def test_methods_of_one_model_refuse_several_architectures(name):
    assert "one architecture" in refused(name, model__client="mlp:5,cnn:5")
    assert "one architecture" in refused(name, model__client="mlp")


@pytest.mark.parametrize("name", METHODS)
def test_methods_refuse_fields_of_others(name):
    field, value = ("beta", 1.0) if name != "scarlet" else ("temperature", 0.1)
    sentence = refused(name, **{f"method__{field}": value})
    assert f"method.{field} is {value}" in sentence and name in sentence


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("scarlet", "beta", -1.0), ("dsfl", "temperature", 0.0), ("cfd", "uplink_bits", 33),
        ("cfd", "downlink_bits", 9),
        ("comet", "num_clusters", 256), ("comet", "weight", -0.5), ("selective_fd", "width", 0.0),
        ("selective_fd", "quantile", 1.5), ("selective_fd", "threshold", 0.0),
    ],
)  # fmt: skip
def test_values_out_of_range_are_named(name, field, value):
    assert f"method.{field} is {value}" in refused(name, **{f"method__{field}": value})


def test_centralized_training_has_no_participants():
    assert "participation is 0.5" in refused("centralized", participation=0.5)


def test_cfd_needs_an_epoch_of_distillation():
    assert "kd_epochs is 0" in refused("cfd", kd_epochs=0)


@pytest.mark.parametrize(
    ("groups", "part"),
    [
        ("mlp:5,cnn:4", "9 clients"), ("mlp:5,mlp:5", "once"), ("mlp:5,cnn", "groups such as"),
        ("mlp:0,cnn:10", "groups"),
        ("mlp:9,cnn:1", "no participant"),
    ],
)  # fmt: skip
def test_groups_that_make_no_sense(groups, part):
    assert part in refused("dsfl", model__client=groups, participation=0.3)
