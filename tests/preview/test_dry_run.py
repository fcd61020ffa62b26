"""A run looked at before it is begun: what is printed is checked against the arrays of a real start."""

import jax
import numpy as np
import pytest

from scarlet_jax import build
from scarlet_jax.data import federation
from scarlet_jax.engine import windows
from scarlet_jax.engine.feed import Feed
from scarlet_jax.engine.layout import device_bytes
from scarlet_jax.preview import compiled, dry_run
from tests.support.harness import tiny

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def plan():
    return dry_run.prepare(tiny(participation=0.5))


def test_shapes_and_bytes_are_those_of_the_real_thing(plan):
    loaded = federation.load(plan.config)
    algorithm = build.make_algorithm(plan.config, loaded.data, loaded.num_classes, plan.mesh, plan.chosen)
    state = algorithm.init(loaded.data)
    for shape, array in zip(jax.tree.leaves(plan.shapes.state), jax.tree.leaves(state), strict=True):
        assert (shape.shape, shape.dtype, shape.sharding) == (array.shape, array.dtype, array.sharding)
    # No client has validation images, so that their rows are not sent.
    arrays = jax.tree.leaves((state, loaded.data._replace(val=loaded.data.val.size)))
    assert plan.shapes.resident == sum(np.asarray(a).nbytes for a in arrays)


def test_the_moments_of_adam_are_counted(plan):
    """Two float32 a weight and a number of steps, for each model and kind of training."""
    adam = dry_run.prepare(tiny(participation=0.5, optimizer="adam"))
    weights = [
        a for models in (*plan.shapes.state.clients, plan.shapes.state.server) for a in jax.tree.leaves(models.params)
    ]
    models = 4 + 1  # clients and server
    added = adam.shapes.resident - plan.shapes.resident
    assert added == 2 * 2 * sum(4 * a.size for a in weights) + 2 * 4 * models
    assert adam.chosen == plan.chosen


def test_a_round_on_shapes_runs_the_phases_of_a_round_on_arrays(plan):
    names = [call.name for call in plan.shapes.calls]
    assert names == [
        "init", "plan", "gather clients", "train mlp: outputs", "train mlp", "scatter clients", "server",
        "participants", "evaluate mlp: outputs", "evaluate mlp", "evaluate server",
    ]  # fmt: skip


def test_of_images_that_stay_on_the_host_it_counts_what_is_sent(plan):
    fed = dry_run.prepare(tiny(participation=0.5, data__device_budget_mb=0.001))
    names = [call.name for call in plan.shapes.calls]
    assert [call.name for call in fed.shapes.calls] == [*names[:-1], "evaluate server: piece", names[-1]]
    data = federation.load(fed.config).data
    real = Feed(data, fed.algorithm.schedule, 0.001, fed.mesh)
    assert fed.shapes.resident == device_bytes(fed.shapes.state) + real.device_bytes != plan.shapes.resident
    (shapes,) = (call.args[-1] for call in fed.shapes.calls if call.name == "train mlp")
    given = windows.fetch(real.training(1), fed.algorithm.schedule.layouts[0], 0)
    for shape, array in zip(jax.tree.leaves(shapes), jax.tree.leaves(given), strict=True):
        assert (shape.shape, shape.dtype, shape.sharding) == (array.shape, array.dtype, array.sharding)


def test_the_peak_is_what_stays_and_the_largest_phase(plan):
    small, large = (compiled.Size(n, 10, 1, t) for n, t in (("small", 5), ("large", 90)))
    assert compiled.peak(1000, [small, large]) == (1091, "large")
    hungry = small._replace(name="hungry", arguments=2000)
    assert compiled.peak(1000, [hungry, large]) == (2006, "hungry"), "arguments that do not stay count too"


def test_what_it_prints(capsys):
    dry_run.run(tiny(**{"num_clients": 6}))
    text = capsys.readouterr().out
    parameters = 64 * 128 + 128 + 128 * 10 + 10  # of the MLP: two layers with biases, 8x8 images, 10 classes
    assert f"{parameters:,}" in text and "K = 6 clients" in text
    for expected in ("reference", "wire", "train mlp", "evaluate server", "most at once on a device"):
        assert expected in text


def test_a_server_model_for_each_architecture_is_a_line_and_costs_its_own_bytes():
    """Of 4 clients the 2 that take part are one of each group."""
    fields = {"method__name": "feddf", "cache__duration": None, "participation": 0.5, "model__client": "mlp:2,cnn:2"}
    plan = dry_run.prepare(tiny(**fields))
    head, *lines = dry_run.work(plan)[:3]
    assert head.startswith("model") and [line.split()[1] for line in lines] == ["mlp", "cnn"]
    parameters = [int(line.split()[3].replace(",", "")) for line in lines]
    statistics = sum(a.size for a in jax.tree.leaves(plan.shapes.state.server["cnn"].batch_stats))
    megabytes = 4 * (sum(parameters) + statistics) / 1e6
    assert [line.split()[1:] for line in dry_run.traffic(plan)[1:]] == [[f"{megabytes:.3f}"] * 2] * 2


@pytest.mark.parametrize("method", ["fedavg", "individual", "centralized", "fd"])
def test_methods_without_labels_print_what_they_send(method, capsys):
    config = tiny(**{"method.name": method})
    config.cache.duration = None
    plan = dry_run.prepare(config)
    lines = dry_run.traffic(plan)
    assert len(lines) == {"fedavg": 3, "individual": 3, "centralized": 1, "fd": 3}[method]
    if method == "fd":  # 4 clients send 10 classes of 10 float32, and receive as many in 3 of 4 rounds
        sent = 4 * 10 * (4 * 10 + 8)
        assert lines[1].split() == ["reference", f"{sent / 1e6:.3f}", f"{0.75 * sent / 1e6:.3f}"]
    assert len(plan.data.public_image) == 0, "none of them uses the pool"
    assert capsys.readouterr().out == ""


def test_a_known_data_set_is_not_read(monkeypatch):
    from configs import cifar10

    monkeypatch.setattr(federation, "load", lambda *how: pytest.fail("read"))
    config = cifar10.get_config()
    config.private_val_ratio, config.public_val_ratio, config.data.train_size = 0.2, 0.1, 20_000
    data, classes = dry_run.data_shapes(config)
    assert classes == 10 and data.private_image.shape == (20_000, 32, 32, 3)
    assert (data.train.rows.shape, data.val.rows.shape, data.test.rows.shape) == ((100, 160), (100, 40), (100, 100))
    assert (len(data.public_image), len(data.public_val_image)) == (9_000, 1_000)
    config.method.name = "fedproto"
    data, _ = dry_run.data_shapes(config)
    assert (len(data.public_image), len(data.public_val_image)) == (0, 0)
