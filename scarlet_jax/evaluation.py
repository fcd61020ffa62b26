"""The evaluation phase: server on the test set, participants on their own parts, both on validation images."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from scarlet_jax import fleet
from scarlet_jax.learner import Learner, Scores, kl_divergence
from scarlet_jax.phases import Phase
from scarlet_jax.types import Data, Evaluation, ModelState, PublicValidation

SERVER_BATCH = 250


class Evaluator:
    """The compiled evaluation of a federation.

    Args:
      groups: of clients, each with `learner`, `layout` and `first`.
      server: the server's learner, or None where there is no server model.
      mesh: server evaluation is spread over its devices by sample.
      own_models: whether clients are evaluated with models of their own, or with the server's.
    """

    def __init__(self, groups, server: Learner | None, mesh: Mesh, own_models: bool = True):
        self.groups, self.server, self.mesh, self._own_models = groups, server, mesh, own_models
        self._fleets = [fleet.Fleet(self._one_client(g), g.layout, f"evaluate {g.name}", updates=False) for g in groups]
        self._finish = Phase("evaluate server", self._finish_phase, out_shardings=NamedSharding(mesh, fleet.REPLICATED))

    def __call__(
        self, clients: tuple[ModelState, ...], server: ModelState | None, ids: list[jax.Array], data: Data
    ) -> Evaluation:
        """Scores of the participants `ids` (per group, i32[capacity]) and of the server."""
        stacked = clients if self._own_models else ((),) * len(self._fleets)
        shared = None if self._own_models else server
        runs = zip(self._fleets, stacked, ids, strict=True)
        outputs = [run(models, own, shared, data)[1] for run, models, own in runs]
        return self._finish(server, outputs, data)

    def _one_client(self, group):
        learner = group.learner

        def client(own, local_id, active, shared, data: Data):
            model = own if self._own_models else shared
            client_id = jnp.minimum(local_id, group.layout.num_clients - 1) + group.first

            def score(image, label, split):
                size = jnp.where(active, split.size[client_id], 0)
                return learner.evaluate(model, image, label, split.rows[client_id], size)

            test = score(data.test_image, data.test_label, data.test)
            val = score(data.private_image, data.private_label, data.val)
            everything = jnp.arange(data.public_val_image.shape[0])
            probs = learner.predict(model, data.public_val_image, everything) if everything.size else None
            return own, (test, val, probs)

        return client

    def _finish_phase(self, server, outputs, data: Data) -> Evaluation:
        real = [
            jax.tree.map(lambda a, m=g.layout.participants: a[:m], output)
            for g, output in zip(self.groups, outputs, strict=True)
        ]
        test, val, probs = jax.tree.map(lambda *parts: jnp.concatenate(parts), *real)
        validation = None
        if probs is not None and self.server is not None:
            probs = jax.lax.with_sharding_constraint(probs, NamedSharding(self.mesh, fleet.REPLICATED))
            own = self.server.predict(server, data.public_val_image, jnp.arange(probs.shape[1]))
            mean = jnp.mean(probs, 0)
            agree = jnp.argmax(mean, -1) == jnp.argmax(own, -1)
            # log-probabilities are logits; zero probabilities stay finite at the smallest float.
            logits = jnp.log(jnp.maximum(own, jnp.finfo(own.dtype).tiny))
            validation = PublicValidation(jnp.mean(kl_divergence(logits, mean)), jnp.mean(agree.astype(jnp.float32)))
        scores = None if self.server is None else self._server_scores(self.server, server, data)
        return Evaluation(scores, test, val, validation)

    def _server_scores(self, learner: Learner, server: ModelState, data: Data) -> Scores:
        """The whole test set, by batches over the devices; batch sums are added in one fixed order."""
        size, batch = data.test_label.shape[0], min(SERVER_BATCH, data.test_label.shape[0])
        batches = -(-size // batch)
        rows = jnp.arange(-(-batches // self.mesh.size) * self.mesh.size * batch).reshape(-1, batch)

        def local(server, image, label, rows):
            return jax.lax.map(lambda r: learner.score(server, image, label, r % size, r < size), rows)

        specs = (fleet.REPLICATED, fleet.REPLICATED, fleet.REPLICATED, fleet.CLIENTS)
        spread = jax.shard_map(local, mesh=self.mesh, in_specs=specs, out_specs=fleet.CLIENTS, check_vma=False)
        scores = spread(server, data.test_image, data.test_label, rows)
        scores = jax.lax.with_sharding_constraint(scores, NamedSharding(self.mesh, fleet.REPLICATED))
        return jax.tree.map(lambda a: jnp.sum(a[:batches]), scores)
