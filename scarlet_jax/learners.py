"""From a config to the learners of its architectures, and the numbers of a run that they take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import config_dict

from scarlet_jax import methods
from scarlet_jax.engine import optimizers
from scarlet_jax.engine.learner import EVALUATION_BATCH, Augmentation, KdLoss, Learner, kl_divergence
from scarlet_jax.engine.population import MakeLearner
from scarlet_jax.engine.training import Training
from scarlet_jax.errors import bad_field
from scarlet_jax.models import build_model
from scarlet_jax.options import fields
from scarlet_jax.options.groups import model_groups
from scarlet_jax.tables import load
from scarlet_jax.training_tables import OPTIMIZERS, resolved
from scarlet_jax.types import Numbers, Rates


def numbers(config: config_dict.ConfigDict, duration: int | jax.Array, horizon: int | None = None) -> Numbers:
    """What the programs of a run take as arguments, as NumPy scalars.

    Args:
      config: validated.
      duration: the cache duration D that was chosen.
      horizon: of the cosine schedule, that was chosen; None: it is another schedule.
    """
    rates = resolved(config)
    return Numbers(
        np.uint32(config.seed),
        _rates(rates["lr"], config.momentum, config.weight_decay),
        _rates(rates["kd_lr"], config.kd_momentum, config.kd_weight_decay),
        np.int32(duration) if duration else None,
        _traced(config),
        _schedule(config, horizon),
    )


def _schedule(config: config_dict.ConfigDict, horizon: int | None) -> optimizers.Cosine | optimizers.Step | None:
    if horizon is not None:
        return optimizers.Cosine(np.int32(horizon))
    if config.lr_schedule == "step":
        return optimizers.Step(np.array(fields.milestones(config.lr_milestones), np.int32), np.float32(config.lr_gamma))
    return None


def _traced(config: config_dict.ConfigDict) -> dict[str, Any]:
    """The method's parameters that the table says a builder can take as tracers."""
    kinds, values = methods.find(config.method.name).parameters, fields.method_parameters(config)
    as_array = {float: np.float32, int: np.int32}
    return {key: as_array[kinds[key].kind](value) for key, value in values.items() if kinds[key].traced}


def _rates(lr: float, *others: float) -> Rates:
    return Rates(np.float32(lr), *(np.float32(other) if other else None for other in others))


def make_learner(
    config: config_dict.ConfigDict,
    conv: str,
    num_classes: int,
    name: str,
    kd_loss: Callable[[Numbers], KdLoss | None] = lambda numbers: None,
    evaluation_batch: int = EVALUATION_BATCH,
) -> MakeLearner:
    """What makes the learner of an architecture from the numbers of a run, which may be tracers.

    Args:
      config: validated.
      conv: the convolution chosen.
      num_classes: C.
      name: of the architecture.
      kd_loss: makes the distillation loss; its None is the default.
      evaluation_batch: images that are scored together.
    """
    augmentation = Augmentation(config.private_augment, config.public_augment, config.data.flip, config.data.crop)
    epochs, batch_size, kd_epochs, kd_batch_size = (
        config[field] for field in ("epochs", "batch_size", "kd_epochs", "kd_batch_size")
    )
    model = build_model(name, num_classes, conv, config.model.precision, config.remat)
    gradient, names = _gradient(config), resolved(config)

    def make(numbers: Numbers) -> Learner:
        fit = Training(epochs, batch_size, _optimizer(names["optimizer"], numbers.fit))
        kd = Training(kd_epochs, kd_batch_size, _optimizer(names["kd_optimizer"], numbers.kd))
        learner = Learner(model, fit, kd, augmentation, kd_loss(numbers) or kl_divergence, evaluation_batch)
        changed = gradient(numbers)
        return learner if changed is None else learner.with_gradient(changed)

    return make


def feature_size(config: config_dict.ConfigDict, shape: Sequence[int]) -> int:
    """d of the features of the clients' models for images of `shape` (H, W, channels).

    Raises:
      UserError: a model gives no features, or not all give as many.
    """
    sizes = {}
    for group in model_groups(config):
        learner = make_learner(config, "xla", 2, group.name)(numbers(config, 0))
        sizes[group.name] = learner.feature_size(tuple(shape))
    name, text = config.method.name, config.model.client
    if None in sizes.values():
        without = next(model for model, size in sizes.items() if size is None)
        raise bad_field("model.client", text, "models that sow their features", f"and {without} does not")
    if len(set(sizes.values())) > 1:
        listed = " and ".join(f"{size} of {model}" for model, size in sizes.items())
        why = f"but {name} averages the features of all clients, and these are {listed}"
        raise bad_field("model.client", text, "models with as many features for these images", why)
    return next(size for size in sizes.values() if size is not None)


def _optimizer(name: str, rates: Rates) -> Any:
    """The optimizer of a name, which takes those numbers that are not switched off."""
    given = {field: value for field, value in rates._asdict().items() if value is not None}
    return load(OPTIMIZERS[name].builder)(**given)


def _gradient(config: config_dict.ConfigDict) -> Callable[[Numbers], Any]:
    """What makes the method's change of the gradient of private training, or None, from the numbers of a run."""
    change, parameters = methods.find(config.method.name).gradient, fields.method_parameters(config)
    if change is None or not parameters[change[0]]:
        return lambda numbers: None
    return lambda numbers: load(change[1])(**parameters | numbers.method)
