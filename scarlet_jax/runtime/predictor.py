"""The server model of a run as a predictor: `load_server(workdir)(images) -> probabilities`.

Reads a workdir and never writes to it, so that a run may be in progress there; the newest good checkpoint counts.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from scarlet_jax.data.augment import normalize
from scarlet_jax.engine.evaluation import server_for
from scarlet_jax.engine.learner import EVALUATION_BATCH
from scarlet_jax.errors import UserError
from scarlet_jax.models import build_model
from scarlet_jax.runtime import checkpoint, checkpoint_record
from scarlet_jax.runtime import workdir as workdirs
from scarlet_jax.types import ModelState, PyTree

_log = logging.getLogger(__name__)


class Predictor:
    """Class probabilities of a server model, with the running statistics of BatchNorm.

    Attributes:
      class_names: of the C classes, in the order of the probabilities.
      image_shape: (H, W, channels) of the images it takes.
      rounds: rounds of training behind the model.
    """

    def __init__(
        self,
        model: Any,
        variables: PyTree,
        class_names: list[str],
        image_shape: list[int],
        rounds: int,
        batch_size: int,
    ):
        self.class_names, self.rounds, self._batch_size = tuple(class_names), rounds, batch_size
        self.image_shape: tuple[int, int, int] = (image_shape[0], image_shape[1], image_shape[2])
        self._variables = jax.device_put(variables)

        def probabilities(variables, images):
            return jax.nn.softmax(model.apply(variables, normalize(images), train=False))

        self._probabilities = jax.jit(probabilities)

    def __call__(self, images: Any) -> np.ndarray:
        """Predict.

        Args:
          images: u8[n, H, W, channels], or u8[n, H, W] where there is one channel; n may be 0.

        Returns:
          f32[n, C], rows that sum to 1.

        Raises:
          UserError: another shape or type.
        """
        try:
            images = np.asarray(images)
        except ValueError as error:
            raise UserError("images have different shapes; allowed are images of one shape.") from error
        if images.dtype != np.uint8:
            raise UserError(f"images are {images.dtype}; allowed is uint8 from 0 to 255, as in the training data.")
        self._check(images.shape)
        images = images.reshape(len(images), *self.image_shape)
        size = self._batch_size  # every batch is full, the last one with black images: one program for any n
        padded = np.concatenate([images, np.zeros((-len(images) % size, *self.image_shape), np.uint8)])
        rows = [self._probabilities(self._variables, padded[i : i + size]) for i in range(0, len(padded), size)]
        return np.concatenate([np.zeros((0, len(self.class_names)), np.float32), *rows])[: len(images)]

    def _check(self, shape: tuple[int, ...]) -> None:
        height, width, channels = self.image_shape
        wanted = [self.image_shape, *([(height, width)] if channels == 1 else [])]
        if shape[1:] in wanted:
            return
        allowed = f"[n, {height}, {width}, {channels}]" + (f" or [n, {height}, {width}]" if channels == 1 else "")
        one = "; of one image, give image[None]" if shape in wanted else ""
        raise UserError(f"images have the shape {list(shape)}; allowed is {allowed}{one}.")


def load_server(workdir: str | Path, batch_size: int = EVALUATION_BATCH, architecture: str | None = None) -> Predictor:
    """The server model of a run, finished or in progress, from its newest good checkpoint.

    Args:
      workdir: of the run; only read.
      batch_size: images that the predictor computes together.
      architecture: of the model, where the server has models of several; None: `model.server` of the run's config.

    Raises:
      UserError: no run's directory, a run without a checkpoint yet, or one that cannot be read, or the server has no
        model of this architecture; one sentence.
    """
    path = Path(workdir)
    config = workdirs.read_config(path) if path.is_dir() else None
    if config is None:
        raise UserError(f"{path} is not the directory of a run: it has no config.json.")
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; allowed is a whole number of at least 1.")
    rounds, models, record = _newest(path)
    name = config["model"]["server"] if architecture is None else architecture
    names = sorted(models) if isinstance(models, dict) else [config["model"]["server"]]
    if name not in names:
        raise UserError(
            f"architecture is {name!r}, and the server of the run in {path} has no such model; "
            f"allowed is {' or '.join(names)}."
        )
    model_state = server_for(models, name)
    variables = {"params": model_state.params, "batch_stats": model_state.batch_stats}
    facts = record["facts"]
    model = build_model(
        name,
        facts["num_classes"],
        config["model"]["conv"],
        config["model"].get("precision"),
    )
    rounds = record.get("rounds", rounds)  # not of its folder, which somebody may have renamed
    return Predictor(model, variables, facts["class_names"], facts["image_shape"], rounds, batch_size)


def _newest(path: Path) -> tuple[int, PyTree, dict[str, Any]]:
    """Rounds, the server's models and the record of the newest good checkpoint."""
    tried: set[int] = set()
    # Looked up anew each time: a run in progress may remove the one being read, and has then written newer ones.
    while steps := set(checkpoint.steps(path)) - tried:
        rounds = max(steps)
        tried.add(rounds)
        directory = path / checkpoint.DIRECTORY / str(rounds)
        try:
            return rounds, *_read(directory)
        except Exception as error:  # whatever a damaged file makes Orbax raise
            damage = checkpoint_record.damage_of(directory, error)
            if directory.exists():
                _log.warning("checkpoint %s is damaged (%s): skipped", directory, damage)
    if tried:
        raise UserError(f"the run in {path} has no checkpoint that can be read; tried {sorted(tried, reverse=True)}.")
    raise UserError(f"the run in {path} has no checkpoint yet; the first is written after checkpoint.every rounds.")


def _read(directory: Path) -> tuple[PyTree, dict[str, Any]]:
    """The server's models and the record of one checkpoint; raises whatever shows that it is damaged."""
    record = checkpoint_record.read(directory)
    if record["server"] is None:
        raise UserError(f"the run in {directory.parents[1]} has no server model: its method has none.")
    server = epath.Path(directory.absolute() / "server")
    handler = ocp.PyTreeCheckpointHandler()
    # As NumPy arrays, because the devices it was saved from need not exist here.
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(server).tree)
    tree = handler.restore(server, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    # The leaves in the order in which they were written.
    single = set(tree) == set(ModelState._fields)  # otherwise one for each architecture
    models = ModelState(**tree) if single else {name: ModelState(**own) for name, own in tree.items()}
    if checkpoint.checksum(models) != record["server"]:
        raise ValueError("its contents are not what was written")
    return models, record
