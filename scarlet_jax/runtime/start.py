"""From a config and a workdir to a run that can train its first round: data, choices, programs, memory, records."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from jax.sharding import Mesh
from ml_collections import config_dict

from scarlet_jax import build
from scarlet_jax.build import Chosen
from scarlet_jax.data import federation as federation_data
from scarlet_jax.data import participants
from scarlet_jax.data.describe import partition_written, write_partition
from scarlet_jax.data.federation import Federation
from scarlet_jax.engine.feed import Feed, outline
from scarlet_jax.engine.phases import Call
from scarlet_jax.methods.base import Algorithm
from scarlet_jax.models import conv_choice
from scarlet_jax.models.form_timing import Setting, Work
from scarlet_jax.options.groups import model_groups
from scarlet_jax.preview import checks, choices, compiled, memory
from scarlet_jax.runtime import checkpoint, hosts, metrics, opening, signals, writers
from scarlet_jax.runtime.environment import record_environment
from scarlet_jax.runtime.stages import Stages


class Ready(NamedTuple):
    """A run that is set up. Its data are on the devices, and its programs are compiled."""

    algorithm: Algorithm
    feed: Feed
    run_id: str
    choices: dict[str, Any]  # what the run chose, as `preview.choices` records it
    facts: dict[str, Any]  # of the data, which every start of the run must find; JSON
    headline: str  # the metric that stands for a model


def began_with_pool(opened: opening.Opened) -> bool:
    """Whether a run was begun by a program that loaded the public pool for every method: it goes on with the pool."""
    records = [found.record for found in opened.found if found.record is not None]
    return bool(records) and "public" not in records[0]["facts"]


class Start:
    """One start of a run, up to its state.

    Args:
      config: validated.
      path: the workdir.
      mesh: of the run's devices.
      opened: what the workdir holds.
      stop: asked between the steps.
      say: prints a line.
      stages: shows what is under way.
      kept: folder of what is kept beside compiled programs; None: nothing is kept.
    """

    def __init__(
        self,
        config: config_dict.ConfigDict,
        path: Path,
        mesh: Mesh,
        opened: opening.Opened,
        stop: signals.Stop,
        say: Callable[[str], None],
        stages: Stages,
        kept: Path | None,
    ):
        self.config, self.path, self.mesh, self.opened = config, path, mesh, opened
        self.stop, self.say, self.stages, self.kept = stop, say, stages, kept
        self._built: dict[Chosen, tuple[Algorithm, compiled.Outline]] = {}

    def set_up(self) -> Ready:
        """Load the data, choose, compile, describe this start in the workdir, put the data on the devices.

        Raises:
          UserError: the data, or the devices, cannot be used for this config.
          signals.Stopped: a signal came.
        """
        federation, chosen, facts = self._load()
        self.stop.check()
        chosen = self._timed(federation, self._fitting(federation, chosen))
        for change in choices.changes(self.config, self.opened.choices, chosen):
            self.say(f"{change}: from here on, results agree up to rounding with those of the earlier starts")
        for sentence in choices.beyond(self.config, chosen):
            self.say(sentence)
        self.stop.check()
        algorithm = self._compile(federation, chosen)
        self.stop.check()
        record = choices.to_record(self.config, chosen)
        run_id = hosts.from_first(lambda: self._describe(federation, record))
        self.stop.check()
        with self.stages("moving the data to the devices"):
            feed = Feed(federation.data, algorithm.schedule, self.config.data.device_budget_mb, self.mesh)
        if feed.on_host:
            self.say("the images stay on the host (data.device_budget_mb); each block of clients is fed its own")
        return Ready(algorithm, feed, run_id, record, facts, metrics.headline(federation.num_classes))

    def _load(self) -> tuple[Federation, Chosen, dict[str, Any]]:
        """The data, what is chosen before they are known, and the run's facts.

        Choosing may build the native convolution while images are decoded.
        """
        config = self.config
        public = build.uses_public(config) or began_with_pool(self.opened)
        with ThreadPoolExecutor(1) as pool, self.stages("loading the data"):
            choosing = pool.submit(choices.begin, config, self.mesh, self.opened.choices)
            federation = hosts.together(lambda: federation_data.load(config, public))
            hosts.together(lambda: checks.check_images(config, federation.image_shape))
            chosen = Chosen(*hosts.from_first(choosing.result))
            facts = {
                "num_classes": federation.num_classes,
                "image_shape": list(federation.image_shape),
                "class_names": list(federation.class_names),
                "data": checkpoint.checksum(federation.data),  # a run goes on with the data it began with
            }
            facts |= {} if public else {"public": False}
        refusal = "the processes found different participants in config.sampling.file; give all of them the same file."
        hosts.check_same(participants.record(build.draws(config).given), refusal)
        hosts.check_same(facts["data"], "the processes found different data; give all of them the same files.")
        return federation, chosen._replace(chunks=tuple(chosen.chunks)), facts

    def _timed(self, federation: Federation, chosen: Chosen) -> Chosen:
        """What was chosen, with the convolution that is fastest here for the run's models: measured, or kept from an
        earlier run."""
        config = self.config
        if not choices.times_convolutions(config, self.mesh, chosen, self.opened.choices):
            return chosen

        def choose() -> tuple[str, str]:
            works = [
                Work(group.name, chunk, -(-group.participants // (chunk * self.mesh.size)))
                for group, chunk in zip(model_groups(config), chosen.chunks, strict=True)
            ]
            if config.model.conv == "timed":
                works += [Work(name, 1) for name in build.server_models(config)]
            images = tuple(federation.image_shape), federation.num_classes
            setting = Setting(*images, config.batch_size, config.model.precision, config.remat)
            return conv_choice.choose(config.model.conv, works, setting, config.deterministic, self.stages)

        conv, why = hosts.from_first(choose)
        self.say(f"convolution: {conv}{why}")
        return chosen._replace(conv=conv)

    def _fitting(self, federation: Federation, chosen: Chosen) -> Chosen:
        """What was chosen, on accelerators with the largest chunks that fit the device with the least memory."""
        config = self.config
        if not choices.fits_chunks(config, self.mesh, self.opened.choices):
            return chosen

        def size_of(call: Call) -> compiled.Size:
            return compiled.compile_all([call], self.stages, self.kept)[0]

        def outline_of(other: Chosen) -> compiled.Outline:
            return self._build(federation, other)[1]

        with self.stages("choosing clients_per_chunk"):
            limit = hosts.smallest(memory.device_limit(self.mesh))
            fitting = hosts.together(lambda: choices.fitting(config, chosen, limit, outline_of, size_of))
        self.say(f"clients_per_chunk: {choices.chunks_text(config, fitting)}")
        return fitting

    def _build(self, federation: Federation, chosen: Chosen) -> tuple[Algorithm, compiled.Outline]:
        """The run with these choices, and its phases; made once for equal choices."""
        if chosen not in self._built:
            config, data, mesh = self.config, federation.data, self.mesh
            with self.stages("building the programs"):
                algorithm = build.make_algorithm(config, data, federation.num_classes, mesh, chosen)
                feed = Feed(outline(data), algorithm.schedule, config.data.device_budget_mb, mesh)
                self._built = {chosen: (algorithm, compiled.outline(algorithm, feed))}  # the last one is kept
        return self._built[chosen]

    def _compile(self, federation: Federation, chosen: Chosen) -> Algorithm:
        """Build the run, compile its phases, and refuse it if they do not fit into the devices' memory."""

        def need_with(chunk: int) -> int:
            smaller = chosen._replace(chunks=tuple(min(chunk, own) for own in chosen.chunks))
            shapes = self._build(federation, smaller)[1]
            return compiled.peak(shapes.resident, compiled.compile_all(shapes.calls[1:], self.stages, self.kept))[0]

        algorithm, shapes = hosts.together(lambda: self._build(federation, chosen))
        making, *others = shapes.calls
        new = [] if self.opened.found else [making]  # else the state comes from a checkpoint
        sizes = hosts.together(lambda: compiled.compile_all([*new, *others], self.stages, self.kept))
        # The phase that makes the state runs before there is one: it needs no more than the others.
        most, phase = compiled.peak(shapes.resident, sizes[len(new) :])
        limit = memory.device_limit(self.mesh)
        with self.stages("checking the memory"):
            hosts.together(lambda: memory.check(most, phase, limit, max(chosen.chunks), need_with))
        return algorithm

    def _describe(self, federation: Federation, record: dict[str, Any]) -> str:
        """Write what is known before the first round; returns the run's id."""
        writers.check_place(self.path)
        if not self.opened.begun or not partition_written(self.path):
            with self.stages("writing the partition"):
                write_partition(federation, self.path)
        return record_environment(self.path, record, self.opened.run)
