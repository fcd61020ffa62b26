"""A run looked at before it is begun: shapes, parameters, memory, division of the work, bytes. Nothing is trained.

`python launch.py --config=... --dry_run`, for this machine's devices; `--cards=H100x8` for others (`cards`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import config_dict

from scarlet_jax import build, counts, methods, texts
from scarlet_jax.data import federation
from scarlet_jax.engine.evaluation import server_for
from scarlet_jax.engine.feed import Feed, image_bytes, outline
from scarlet_jax.engine.layout import device_bytes
from scarlet_jax.methods.base import Algorithm, RoundReport
from scarlet_jax.options import fields
from scarlet_jax.options.rules import validate
from scarlet_jax.preview import cards, checks, choices
from scarlet_jax.preview import compiled as programs
from scarlet_jax.types import Data, Split


class Known(NamedTuple):
    """What must be known of a data set instead of reading it."""

    train: int  # images
    test: int
    image_shape: tuple[int, int, int]  # H, W, channels
    classes: int


KNOWN = {"cifar10": Known(50_000, 10_000, (32, 32, 3), 10), "cifar100": Known(50_000, 10_000, (32, 32, 3), 100)}


class Prepared(NamedTuple):
    """A run before anything is computed. Trees are of shapes with shardings."""

    config: config_dict.ConfigDict
    chosen: build.Chosen
    mesh: Mesh
    num_classes: int
    algorithm: Algorithm
    data: Data  # all images, wherever they will lie
    feed: Feed
    shapes: programs.Outline


def prepare(config: config_dict.ConfigDict, described: str | None = None) -> Prepared:
    """Everything short of compiling.

    Args:
      config: of configs/base.py's fields; it is not changed.
      described: cards as in `cards.described_mesh`; None: the devices that are here.

    Raises:
      UserError: the config cannot be run, the data set is unknown or missing, no such card; one sentence.
    """
    config = fields.plain(config)
    validate(config)
    checks.check(config)
    config = config_dict.FrozenConfigDict(config)
    mesh = cards.described_mesh(described) if described else build.make_mesh(config)
    data, num_classes = data_shapes(config)
    checks.check_images(config, data.private_image.shape[1:])
    chosen = build.choose(config, mesh)
    algorithm = build.make_algorithm(config, data, num_classes, mesh, chosen)
    feed = Feed(data, algorithm.schedule, config.data.device_budget_mb, mesh)
    return Prepared(config, chosen, mesh, num_classes, algorithm, data, feed, programs.outline(algorithm, feed))


def data_shapes(config: config_dict.ConfigDict) -> tuple[Data, int]:
    """`Data` with shapes instead of images, and C.

    What is not in `KNOWN` is read; what is, is all shapes, and its clients are taken to be of equal size.
    """
    known = KNOWN.get(config.data.private)
    used = build.uses_public(config)
    if known is None or config.data.public == config.data.private or config.partition.name == "given":
        loaded = federation.load(config, used)
        return outline(loaded.data), loaded.num_classes
    train, test = config.data.train_size or known.train, config.data.test_size or known.test
    own, pool = -(-train // config.num_clients), config.public_size if used else 0
    public = counts.kept(pool, config.public_val_ratio)
    kept = counts.kept(own, config.private_val_ratio)

    def images(count: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((count, *known.image_shape), np.uint8)

    def integers(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, np.int32)

    def split(count: int) -> Split:
        return Split(integers(config.num_clients, count), integers(config.num_clients))

    return Data(
        private_image=images(train),
        private_label=integers(train),
        test_image=images(test),
        test_label=integers(test),
        public_image=images(public),
        public_val_image=images(pool - public),
        train=split(max(kept, 1)),
        val=split(own - kept),
        test=split(-(-test // config.num_clients)),
    ), known.classes


def run(config: config_dict.ConfigDict, described: str | None = None) -> None:
    """Print it; phases one by one as they are compiled, which takes some seconds each.

    Raises:
      UserError: as `prepare`.
    """
    prepared = prepare(config, described)
    print("\n".join([*_head(prepared, described), "", *work(prepared), "", *traffic(prepared), ""]), flush=True)
    print(_line("MB per device, by phase", "arguments", "results", "temporary"), flush=True)
    compiled = []
    for call in prepared.shapes.calls:
        program = programs.compile_phase(call, cards.OPTIONS if described else None)
        compiled.append(program)
        cells = (program.arguments, program.results, program.temporary)
        print(_line(call.name, *(f"{cell / 1e6:,.1f}" for cell in cells)), flush=True)
    print("\n" + _verdict(prepared, described, compiled), flush=True)


def _head(prepared: Prepared, described: str | None) -> list[str]:
    config, data = prepared.config, prepared.data
    public = len(data.public_image)
    pool = f"{public:,} public ({config.public_per_round:,} in a round)" if public else "none public"
    where = described or f"{prepared.mesh.size} x {prepared.mesh.devices.flat[0].device_kind} (here)"
    return [
        f"{config.method.name}, {config.rounds:,} rounds, on {where}; nothing is trained",
        f"K = {config.num_clients:,} clients, M = {build.num_participants(config):,} in a round; "
        f"C = {prepared.num_classes} classes",
        f"images {'x'.join(map(str, data.private_image.shape[1:]))}: {len(data.private_image):,} private, {pool}, "
        f"{len(data.test_image):,} of test",
    ]


def work(prepared: Prepared) -> list[str]:
    """Models with their sizes, and how their training is divided."""
    config, state = prepared.config, prepared.shapes.state
    lines = [_line("model", "clients", "parameters", "stored", "MB / device")]
    for group, models in zip(prepared.algorithm.population.groups, state.clients, strict=False):
        stored = jax.tree.leaves(models)[0].shape[0]
        count = sum(a.size for a in jax.tree.leaves(models.params)) // stored
        lines.append(_row(group.name, group.layout.num_clients, count, stored, device_bytes(models)))
    for name in build.server_models(config):
        model = server_for(state.server, name)
        count = sum(a.size for a in jax.tree.leaves(model.params))
        lines.append(_row(f"server, {name}", 1, count, 1, device_bytes(model)))
    state_size, data_size = device_bytes(state), prepared.feed.device_bytes
    lines.append(f"on each device {state_size / 1e6:,.1f} MB of state in all, and {data_size / 1e6:,.1f} MB of data")
    if prepared.feed.on_host:
        lines.append(
            f"{image_bytes(prepared.data) / 1e6:,.1f} MB of images stay on the host (data.device_budget_mb is "
            f"{config.data.device_budget_mb:g}); each block of clients is fed its own"
        )
    lines.append(
        f"{choices.chunks_text(config, prepared.chosen)} clients are trained together on a device (clients_per_chunk); "
        f"{prepared.algorithm.population.blocks} dispatches a round; convolution {prepared.chosen.conv}"
    )
    return lines


def _row(name: str, clients: int, parameters: int, stored: int, size: int) -> str:
    return _line(name, f"{clients:,}", f"{parameters:,}", f"{stored:,}", f"{size / 1e6:,.1f}")


def _line(name: str, *cells: str) -> str:
    """A line of a table whose lines are printed one by one, so that its columns have fixed widths."""
    return texts.line([name, *cells], [28, *[12] * len(cells)], between="")


def traffic(prepared: Prepared) -> list[str]:
    """Bytes of a mean round, from the protocol alone; the most, of methods that select or exchange by class."""
    config = prepared.config
    entry = methods.find(config.method.name)
    if entry.distils or entry.by_class:
        result: Any = (
            build.make_planner(config, prepared.num_classes)
            if entry.distils
            else build.make_class_planner(config, prepared.num_classes, prepared.data.private_image.shape[1:])
        ).run()
        mean = {
            ledger: (result.uplink_bytes[ledger].mean(), result.downlink_bytes[ledger].mean())
            for ledger in result.uplink_bytes
        }
    else:
        layouts = prepared.algorithm.population.layouts
        who = np.concatenate([layout.first + np.arange(layout.participants) for layout in layouts])
        none = np.zeros(len(who))
        mean = {
            name: (billed.uplink, billed.downlink)
            for name, billed in prepared.algorithm.bill(RoundReport(who, none, none)).items()
        }
    lines = [_line("MB of a mean round", "up", "down")] if mean else ["nothing is sent"]
    return lines + [_line(ledger, f"{up / 1e6:,.3f}", f"{down / 1e6:,.3f}") for ledger, (up, down) in mean.items()]


def _verdict(prepared: Prepared, described: str | None, compiled: Sequence[programs.Program]) -> str:
    most, name = programs.peak(prepared.shapes.resident, compiled)
    sentence = f"most at once on a device: {most / 1e9:,.2f} GB, in phase {name!r}"
    if described is None:
        return sentence
    card = cards.parse(described)[0]
    memory = cards.CARDS[card].memory
    smaller = (
        "choose a smaller clients_per_chunk"
        if prepared.config.clients_per_chunk
        else "a run would train an equal part of these clients together"
    )
    verdict = "it fits" if most < cards.USABLE * memory else f"it does not fit: {smaller}"
    return f"{sentence}; the memory of {card} is {memory / 1e9:.1f} GB: {verdict}"
