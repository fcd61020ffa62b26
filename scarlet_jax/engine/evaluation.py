"""Evaluation: the server on the whole test set, clients on their own parts, and both on validation images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from scarlet_jax.engine import fleet, windows
from scarlet_jax.engine.by_class import ClassVectors, held
from scarlet_jax.engine.layout import CLIENTS, REPLICATED
from scarlet_jax.engine.learner import Learner, kl_divergence
from scarlet_jax.engine.phases import Phase
from scarlet_jax.engine.scores import Scores
from scarlet_jax.types import Data, ModelState, PyTree

SERVER_BATCH = 250
PIECE = 4  # batches that are sent to a device together if the test images stay on the host


class PublicValidation(NamedTuple):
    """The server model compared with its clients' mean prediction, on public images held out from distillation."""

    loss: jax.Array  # f32[] KL(mean of the clients evaluated || server), mean over samples
    agreement: jax.Array  # f32[] share of samples for which both have the same arg-max


class Evaluation(NamedTuple):
    """Sums over samples, of which the host makes numbers. None if there is no such model or no such data.

    Where the server has a model for each architecture, `server` and `public_val` are dictionaries by architecture.
    """

    server: Any  # Scores of f32[...], or dict
    clients: Scores  # of f32[E, ...], each client evaluated on its own test part
    client_val: Scores  # of f32[E, ...], each client evaluated on its own validation part
    public_val: Any  # PublicValidation, or dict
    ids: Any = None  # i32[E] the clients evaluated, ascending: the participants, or all

    @property
    def servers(self) -> dict[str, Scores]:
        """Scores of each model of the server by its architecture; of a single model the name is empty."""
        if self.server is None:
            return {}
        return self.server if isinstance(self.server, dict) else {"": self.server}


def server_for(servers: PyTree, architecture: str) -> PyTree:
    """Of a server's models (or their learners, or makers of these) the one for clients of an architecture.

    Args:
      servers: a single model, which is that of all clients; or a dictionary with one for each architecture.
      architecture: of the clients.
    """
    return servers[architecture] if isinstance(servers, dict) else servers


class Part(NamedTuple):
    """Clients that are evaluated together: of each group at most as many as take part in a round.

    One compiled program, and memory for M models, then serve the participants of a round as well as all clients.
    """

    number: int  # part 0 holds clients of all groups, later ones of those whose clients are not done yet
    local_ids: list[jax.Array]  # per group i32[capacity], numbered inside the group and padded
    ids: np.ndarray | None  # i32, ascending; None: the participants of the round


class Evaluator:
    """The compiled evaluation of a federation.

    Args:
      groups: of clients, each with `name`, `learner`, `layout` and `first`.
      server: the server's learner; a dictionary of learners by architecture where the server has a model for each; None
        where there is no server model.
      mesh: server evaluation is spread over its devices by sample.
      own_models: whether clients are evaluated with their own models; otherwise with the server's for their
        architecture.
    """

    def __init__(self, groups, server: Learner | dict[str, Learner] | None, mesh: Mesh, own_models: bool = True):
        self.groups, self.server, self.mesh, self._own_models = groups, server, mesh, own_models
        self._fleets = [fleet.Fleet(self._one_client(g), g.layout, f"evaluate {g.name}", updates=False) for g in groups]
        self._piece = Phase("evaluate server: piece", self._piece_phase, out_shardings=NamedSharding(mesh, CLIENTS))
        self._finish = Phase("evaluate server", self._finish_phase, out_shardings=NamedSharding(mesh, REPLICATED))

    def __call__(
        self,
        clients: tuple[ModelState, ...],
        server: PyTree,
        parts: Sequence[Part],
        data: Data,
        prototypes: ClassVectors | None = None,
    ) -> Evaluation:
        """Scores of the server, and of the clients in `parts`, each group's one after another.

        With prototypes, clients are scored on test images by the nearest prototype, too: among those of the classes
        that the client has training images of.
        """
        stacked = clients if self._own_models else ((),) * len(self._fleets)
        servers = [None if self._own_models else server_for(server, group.name) for group in self.groups]
        shared = [(own, prototypes) for own in servers]
        outputs: list[list[PyTree]] = [[] for _ in self._fleets]
        for part in parts:
            read = windows.reading(data, part.ids)
            for number, run in enumerate(self._fleets):
                if part.number * run.layout.participants < run.layout.num_clients:
                    outputs[number].append(run(stacked[number], part.local_ids[number], shared[number], read)[1])
        return self._finish(server, outputs, data, self._pieces(server, data))

    def _one_client(self, group):
        learner = group.learner

        def client(own, local_id, active, shared, data: Data):
            server, near = shared
            model = own if self._own_models else server
            client_id = group.layout.client_id(local_id)
            if near is not None:
                classes = held(data.private_label, data.train, client_id, near.known.size)
                near = near._replace(known=near.known & classes)

            def score(image, label, split, who, prototypes=None):
                size = jnp.where(active, split.size[client_id], 0)
                return learner.evaluate(model, image, label, split.rows[client_id], size, who, prototypes)

            test = score(data.test_image, data.test_label, data.test, "client", near)
            val = score(data.private_image, data.private_label, data.val, "private_val")
            everything = jnp.arange(data.public_val_image.shape[0])
            probs = learner.predict(model, data.public_val_image, everything) if everything.size else None
            return own, (test, val, probs)

        return client

    def _pieces(self, server: PyTree, data: Data) -> list[PyTree] | None:
        """Scores of the server's batches, computed piece by piece; None if the test images are on the devices."""
        store, devices = data.test_image, self.mesh.size
        if self.server is None or not isinstance(store, windows.HostStore):
            return None
        size, own, scores = store.shape[0], piece_size(store.shape[0], devices), []
        for start in range(0, size, devices * own):
            parts = [np.arange(first, first + own) % size for first in range(start, start + devices * own, own)]
            images = store.window(parts, own)
            scores.append(self._piece(server, images, data.test_label, jnp.int32(start)))
            store.pending.add(scores[-1])
        return scores

    def _piece_phase(self, server, images, labels, start) -> PyTree:
        """Scores [batches] of the batches of a piece, which begins with image `start`."""
        size = labels.shape[0]
        rows = jnp.arange(self.mesh.size * piece_size(size, self.mesh.size)).reshape(-1, min(SERVER_BATCH, size))
        return self._batch_scores(server, images, labels, start + rows)

    def _finish_phase(self, server, outputs, data: Data, pieces: list[PyTree] | None) -> Evaluation:
        real = [_joined(g.layout, parts) for g, parts in zip(self.groups, outputs, strict=True)]
        test, val, probs = jax.tree.map(lambda *parts: jnp.concatenate(parts), *real)
        validation = None
        if probs is not None and self.server is not None:
            probs = jax.lax.with_sharding_constraint(probs, NamedSharding(self.mesh, REPLICATED))
            validation = jax.tree.map(lambda own, model: _validated(own, model, data, probs), self.server, server)
        scores = None if self.server is None else self._server_scores(server, data, pieces)
        return Evaluation(scores, test, val, validation)

    def _server_scores(self, server: PyTree, data: Data, pieces: list[PyTree] | None) -> PyTree:
        """Scores of each model on the whole test set.

        Batches are divided over the devices; their sums are added in a fixed order.
        """
        size, batch = data.test_label.shape[0], min(SERVER_BATCH, data.test_label.shape[0])
        batches = -(-size // batch)
        if pieces is None:
            rows = jnp.arange(-(-batches // self.mesh.size) * self.mesh.size * batch).reshape(-1, batch)
            scores = self._batch_scores(server, data.test_image, data.test_label, rows)
        else:
            scores = jax.tree.map(lambda *parts: jnp.concatenate(parts), *pieces)
        scores = jax.lax.with_sharding_constraint(scores, NamedSharding(self.mesh, REPLICATED))
        return jax.tree.map(lambda a: jnp.sum(a[:batches], 0), scores)

    def _batch_scores(self, server: PyTree, images, labels, rows) -> PyTree:
        """Scores [batches] of each model on the test images' rows i32[batches, B]; rows beyond the end count 0."""
        size = labels.shape[0]

        def local(server, images, labels, rows):
            def of_model(learner, model):
                return jax.lax.map(lambda r: learner.score(model, images, labels, r % size, r < size, "server"), rows)

            return jax.tree.map(of_model, self.server, server)

        specs = (*windows.specs((server, images, labels)), CLIENTS)
        spread = jax.shard_map(local, mesh=self.mesh, in_specs=specs, out_specs=CLIENTS, check_vma=False)
        return spread(server, images, labels, rows)


def _validated(learner: Learner, model: ModelState, data: Data, probs: jax.Array) -> PublicValidation:
    """A model of the server on the held-out public images, against the soft labels f32[E, V, C] of the clients."""
    own = learner.predict(model, data.public_val_image, jnp.arange(probs.shape[1]))
    mean = jnp.mean(probs, 0)
    agree = jnp.argmax(mean, -1) == jnp.argmax(own, -1)
    # Log-probabilities serve as logits. A zero probability is replaced by the smallest float to stay finite.
    logits = jnp.log(jnp.maximum(own, jnp.finfo(own.dtype).tiny))
    return PublicValidation(jnp.mean(kl_divergence(logits, mean)), jnp.mean(agree.astype(jnp.float32)))


def _joined(layout: fleet.Layout, parts: Sequence[PyTree]) -> PyTree:
    """Outputs [capacity, ...] of the parts of a group, without padding, one after another."""
    real = [jax.tree.map(lambda a: a[: layout.participants], part) for part in parts]
    return jax.tree.map(lambda *a: jnp.concatenate(a)[: layout.num_clients], *real)


def piece_size(size: int, devices: int) -> int:
    """Images of a device in one piece of a test set of `size` images: `PIECE` full batches, or fewer if that is all."""
    batch = min(SERVER_BATCH, size)
    return batch * min(PIECE, -(-size // (batch * devices)))
