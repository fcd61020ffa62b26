"""The models of a federation: groups of clients, and a server.

This is what all algorithms share: starting weights, participants by group, padding for the devices, evaluation. It does
not say how models learn from each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from scarlet_jax.engine import fleet, optimizers
from scarlet_jax.engine.by_class import ClassVectors
from scarlet_jax.engine.evaluation import Evaluation, Evaluator, Part
from scarlet_jax.engine.layout import CLIENTS, REPLICATED, Layout
from scarlet_jax.engine.learner import Learner
from scarlet_jax.engine.phases import Phase, put
from scarlet_jax.keys import Purpose, derive
from scarlet_jax.types import Data, ModelState, Numbers, PyTree

# Makes the learner of an architecture. Phases call it with the numbers that they take as arguments.
MakeLearner = Callable[[Numbers], Learner]


class Group(NamedTuple):
    """Clients of one architecture, with consecutive ids."""

    name: str  # of the architecture
    learner: MakeLearner
    layout: Layout

    @property
    def first(self) -> int:
        """Id of the first client."""
        return self.layout.first


class Evaluated(NamedTuple):
    """A group as the evaluation takes it."""

    name: str
    learner: Learner
    layout: Layout

    @property
    def first(self) -> int:
        """Id of the first client."""
        return self.layout.first


class Population:
    """Clients in groups, and the server's learner. The only arrays it holds are the numbers of the run.

    Args:
      numbers: of the run, NumPy scalars: the field `host_numbers`. The field `start_numbers` has them on the devices,
        for the phase that makes the state; the phases of a round take those of `numbers_at`.
      groups: with consecutive ids.
      server: makes the server's learner; a dictionary of such functions by architecture where the server has a model
        for each, and its state is then such a dictionary, too; None where there is no server model.
      image_shape: [H, W, channels].
      same_init: all models of one architecture start from the same weights.
      mesh: of devices.
      own_models: whether clients keep models of their own; otherwise they are evaluated with the server's for
        their architecture.
      evaluate_all: whether all clients are evaluated, not only the participants.
    """

    def __init__(
        self,
        numbers: Numbers,
        groups: Sequence[Group],
        server: MakeLearner | dict[str, MakeLearner] | None,
        image_shape: tuple[int, ...],
        same_init: bool,
        mesh: Mesh,
        own_models: bool = True,
        evaluate_all: bool = False,
    ):
        self.groups, self.server, self.mesh = tuple(groups), server, mesh
        self.layouts = tuple(group.layout for group in groups)
        self._image_shape, self._same_init, self._own_models = image_shape, same_init, own_models
        self.stacked, self.replicated = (NamedSharding(mesh, spec) for spec in (CLIENTS, REPLICATED))
        self.host_numbers, self.start_numbers = numbers, put(numbers, self.replicated)
        self._at_round = Phase("learning rates", optimizers.at_round, out_shardings=self.replicated)
        # An evaluation does not train, so that its learners may be of any numbers.
        evaluated = [Evaluated(group.name, group.learner(numbers), group.layout) for group in groups]
        self.largest_batch = max(group.learner.largest_batch for group in evaluated)  # of a client's own images
        learners = jax.tree.map(lambda make: make(numbers), server)
        self._evaluator = Evaluator(evaluated, learners, mesh, own_models)
        self._local_ids = Phase("participants", self.local_ids, out_shardings=self.replicated)
        self._evaluate_all = evaluate_all and not all(layout.full for layout in self.layouts)
        self._part_ids = Phase("clients evaluated", self._local_part, out_shardings=self.replicated)

    @property
    def client_ids(self) -> dict[str, range]:
        """Ids of the clients of each architecture."""
        return {g.name: range(g.first, g.first + g.layout.num_clients) for g in self.groups}

    @property
    def server_names(self) -> tuple[str, ...]:
        """Architectures for each of which the server has a model; empty where it has a single one, or none."""
        return tuple(self.server) if isinstance(self.server, dict) else ()

    @property
    def feature_size(self) -> int:
        """d of the features of the clients' models, which must all have as many."""
        (size,) = {group.learner(self.host_numbers).feature_size(self._image_shape) for group in self.groups}
        assert size is not None
        return size

    @property
    def blocks(self) -> int:
        """Number of dispatches of training blocks in a round."""
        return sum(layout.blocks for layout in self.layouts)

    def init(self, start: Callable[..., Any]) -> Callable[[Data], Any]:
        """Make the function Data -> State that gives the state before round 0.

        Args:
          start: makes the State from the starting models: `start(numbers, clients, server, data)`.

        Returns:
          A function that is compiled once. Its State is padded and laid out on the devices.
        """

        def everything(numbers: Numbers, data: Data):
            clients = ()
            if self._own_models:
                clients = tuple(
                    jax.lax.map(
                        lambda i, g=g: self.start(numbers, g.learner, i + 1), g.first + jnp.arange(g.layout.num_clients)
                    )
                    for g in self.groups
                )
            # The server has number 0, and client i has number i + 1. With `same_init` all start from number 0.
            server = jax.tree.map(lambda make: self.start(numbers, make, 0), self.server)
            return self.pad(start(numbers, clients, server, data))

        # The program runs once, for milliseconds. LLVM's full optimisation would take three times as long to compile.
        options = {"xla_backend_optimization_level": 1}
        phase: list[Phase] = []

        def init(data: Data) -> Any:
            if not phase:
                out = self.shardings(jax.eval_shape(everything, self.start_numbers, data))
                phase.append(Phase("init", everything, out_shardings=out, compiler_options=options))
            return phase[0](self.start_numbers, data)

        return init

    def numbers_at(self, round_: jax.Array) -> Numbers:
        """The numbers of the run on the devices, with the learning rates of a round i32[]; dispatched, not waited for.

        A schedule changes the values of these arguments alone, so that the programs that train are the same with it.
        """
        return self.start_numbers if self.host_numbers.schedule is None else self._at_round(self.start_numbers, round_)

    def local_ids(self, participants: jax.Array) -> list[jax.Array]:
        """Divide participants i32[M] by group: ids within the group, padded to i32[capacity]."""
        ids, start = [], 0
        for group in self.groups:
            own = participants[start : start + group.layout.participants] - group.first
            ids.append(fleet.participant_ids(group.layout, own))
            start += group.layout.participants
        return ids

    def in_client_order(self, outputs: Sequence[PyTree]) -> PyTree:
        """Join the groups' outputs [capacity, ...] to [M, ...] on all devices, so that sums have a fixed order."""
        joined = jax.tree.map(lambda *parts: jnp.concatenate(parts), *self._real(outputs))
        return jax.lax.with_sharding_constraint(joined, self.replicated)

    def by_group(self, outputs: Sequence[PyTree]) -> list[PyTree]:
        """The same for outputs that differ between the groups, which are not joined: [M of the group, ...] of each."""
        return jax.lax.with_sharding_constraint(self._real(outputs), self.replicated)

    def _real(self, outputs: Sequence[PyTree]) -> list[PyTree]:
        """Without padding."""
        pairs = zip(self.layouts, outputs, strict=True)
        return [jax.tree.map(lambda a, m=layout.participants: a[:m], output) for layout, output in pairs]

    def evaluate(
        self,
        clients: tuple[ModelState, ...],
        server: PyTree,
        data: Data,
        participants: jax.Array,
        prototypes: ClassVectors | None = None,
    ) -> Evaluation:
        """Evaluate the server on the whole test set; participants i32[M], or all clients, on their own test parts."""
        ids: Any
        if not self._evaluate_all:
            parts, ids = [Part(0, self._local_ids(participants), None)], participants
        else:
            number = max(-(-layout.num_clients // layout.participants) for layout in self.layouts)
            parts = [Part(n, self._part_ids(jnp.int32(n)), self._part(n)) for n in range(number)]
            ids = np.arange(sum(layout.num_clients for layout in self.layouts), dtype=np.int32)
        return self._evaluator(clients, server, parts, data, prototypes)._replace(ids=ids)

    def _part(self, number: int) -> np.ndarray:
        """Ids, ascending, of the clients in part `number` of an evaluation of all."""
        places = [np.arange(number * x.participants, (number + 1) * x.participants) for x in self.layouts]
        pairs = zip(self.layouts, places, strict=True)
        return np.concatenate([layout.first + own[own < layout.num_clients] for layout, own in pairs])

    def _local_part(self, number: jax.Array) -> list[jax.Array]:
        """The same per group, numbered inside the group and padded."""
        ids = []
        for layout in self.layouts:
            own = number * layout.participants + jnp.arange(layout.participants, dtype=jnp.int32)
            ids.append(fleet.participant_ids(layout, jnp.where(own < layout.num_clients, own, layout.stored)))
        return ids

    def shardings(self, state: PyTree) -> PyTree:
        """The shardings of a state: its field `clients` is divided over the devices, everything else is replicated."""
        return jax.tree.map(lambda _: self.replicated, state)._replace(
            clients=jax.tree.map(lambda _: self.stacked, state.clients)
        )

    def pad(self, state: PyTree) -> PyTree:
        """Pad each group from its K clients to the number that is stored on these devices."""
        pairs = zip(state.clients, self.layouts, strict=self._own_models)
        return state._replace(clients=tuple(fleet.pad_clients(c, layout.stored) for c, layout in pairs))

    def strip(self, state: PyTree) -> PyTree:
        """Undo `pad`: each group has its K clients again."""
        pairs = zip(state.clients, self.layouts, strict=self._own_models)
        return state._replace(
            clients=tuple(jax.tree.map(lambda a, k=layout.num_clients: a[:k], c) for c, layout in pairs)
        )

    def start(self, numbers: Numbers, learner: MakeLearner, number: jax.Array | int) -> ModelState:
        """Starting weights of the server (number 0) or of client i (number i + 1); all are equal with `same_init`."""
        number = 0 if self._same_init else number
        return learner(numbers).init(derive(numbers.seed, Purpose.INIT, number), self._image_shape)
