"""The least image of every model: stated once, exact, and checked before anything is compiled."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scarlet_jax
from configs import digits
from scarlet_jax import build
from scarlet_jax.commands import data as look
from scarlet_jax.errors import UserError
from scarlet_jax.models import MODELS, build_model
from scarlet_jax.preview import checks, dry_run

DEEPER = ("resnet32", "resnet44", "resnet56", "resnet110")


def gradient_shapes(name: str, height: int, width: int):
    model, images = build_model(name, 3, "xla"), jnp.ones((2, height, width, 1))

    def loss(params, rest):
        logits = model.apply({**rest, "params": params}, images, True, mutable=["batch_stats"])[0]
        return jnp.sum(logits)

    def everything():
        variables = model.init(jax.random.key(0), images, True)
        return jax.grad(loss)(variables["params"], {k: v for k, v in variables.items() if k != "params"})

    return jax.eval_shape(everything)


def usable(name: str, height: int, width: int) -> bool:
    """Whether every weight has a gradient. Of no features, JAX 0.10 makes an error, JAX 0.12 empty arrays."""
    try:
        leaves = jax.tree.leaves(gradient_shapes(name, height, width))
    except (ValueError, ZeroDivisionError):
        return False
    return bool(leaves) and all(leaf.size for leaf in leaves)


# resnet32 to resnet110 are resnet20 with more of the same blocks, and slow to trace.
@pytest.mark.parametrize("name", [name for name in MODELS if name not in DEEPER])
def test_the_least_image_is_exact(name):
    least = MODELS[name].least
    assert all(usable(name, *size) for size in ((least, least), (least, least + 5), (least + 5, least)))
    assert least == 1 or not usable(name, least - 1, least)


def config_of(tmp_path, shape, **fields):
    rng = np.random.default_rng(0)
    path = tmp_path / "small.npz"
    np.savez(path, image=rng.integers(0, 256, (60, *shape), dtype=np.uint8), label=np.arange(60) % 3)
    config = digits.get_config()
    config.data.private, config.data.public, config.num_clients = str(path), "digits", 3
    config.update_from_flattened_dict({"model.conv": "xla"} | fields)
    return config


@pytest.mark.parametrize(
    "shape,fields,words",
    [
        ((3, 3), {}, "config.model.client is 'cnn', but cnn needs images of at least 4x4 pixels"),
        ((20, 3), {}, "have 20x3; allowed is one of resnet20"),
        ((3, 3), {"model.client": "mlp"}, "config.model.server is 'cnn', but cnn needs"),
        (
            (3, 3),
            {"model.client": "mlp:2,cnn:1", "model.server": "mlp"},
            "config.model.client is 'mlp:2,cnn:1', but cnn",
        ),
    ],
)
def test_too_small_images_are_refused_before_anything_is_compiled(tmp_path, monkeypatch, shape, fields, words):
    config = config_of(tmp_path, shape, **fields)

    def never(*_, **__):
        raise AssertionError("an algorithm was built")

    monkeypatch.setattr(build, "make_algorithm", never)

    class Flags:
        out = None

    ways = (
        lambda: scarlet_jax.run(config, tmp_path / "run"),
        lambda: dry_run.prepare(config),
        lambda: look.main(config, "configs/digits.py", Flags()),  # type: ignore[arg-type]
    )
    for way in ways:
        with pytest.raises(UserError) as error:
            way()
        assert words in str(error.value) and str(error.value).endswith("."), error.value


def test_a_server_model_that_a_method_does_not_have_is_not_checked(tmp_path):
    config = config_of(tmp_path, (3, 3), **{"method.name": "individual", "model.client": "mlp"})
    config.cache.duration = None
    checks.check_images(config, (3, 3, 1))
