"""What a run chooses for the fields that its config leaves open, and how the choice is recorded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from jax.sharding import Mesh
from ml_collections import config_dict

from scarlet_jax import build
from scarlet_jax.build import Chosen
from scarlet_jax.errors import UserError
from scarlet_jax.models import conv_choice
from scarlet_jax.models.conv.api import resolve_conv
from scarlet_jax.models.precision import resolved
from scarlet_jax.options import fields
from scarlet_jax.options.groups import model_groups
from scarlet_jax.preview import compiled, memory


def begin(config: config_dict.ConfigDict, mesh: Mesh, before: Mapping[str, Any]) -> Chosen:
    """The choices of an earlier start of the run, unless the user now asks for something else; of a new run, what can
    be chosen without compiling or timing anything.

    Args:
      config: of configs/base.py's fields.
      mesh: of the run's devices.
      before: the record of the earlier start's choices; empty: the run is new.

    Raises:
      UserError: `model.conv` names a convolution that cannot be used on these devices.
    """
    chosen = build.choose(config, mesh)
    conv = conv_of(before, mesh) or chosen.conv
    chunks = build.choose_chunks(config, mesh, chunks_of(before, config))
    return chosen._replace(conv=conv, chunks=chunks, horizon=build.choose_horizon(config, before.get("lr_horizon")))


def fits_chunks(config: config_dict.ConfigDict, mesh: Mesh, before: Mapping[str, Any]) -> bool:
    """Whether the run looks for the largest chunks that fit: on an accelerator, where nothing else says how large."""
    unsaid = not config.clients_per_chunk and not before.get("clients_per_chunk")
    return unsaid and mesh.devices.flat[0].platform != "cpu"


def fitting(
    config: config_dict.ConfigDict,
    chosen: Chosen,
    limit: int | None,
    outline_of: Callable[[Chosen], compiled.Outline],
    size_of: Callable[[compiled.Call], compiled.Size],
) -> Chosen:
    """What was chosen, with the largest chunks that fit into memory: for each group the participants of a device at
    once, or an equal part of them.

    Args:
      config: of configs/base.py's fields.
      chosen: with chunks of all participants of a device.
      limit: bytes of a device; None: it does not tell, and nothing is changed.
      outline_of: lists the phases of the run with other choices.
      size_of: compiles a phase, and tells its memory; called at most twice for a group.
    """
    if limit is None:
        return chosen
    for number, group in enumerate(model_groups(config)):

        def with_chunk(chunk: int, before: Chosen = chosen, number: int = number) -> Chosen:
            return before._replace(chunks=(*before.chunks[:number], chunk, *before.chunks[number + 1 :]))

        def need(chunk: int, made: Callable[[int], Chosen] = with_chunk, name: str = f"train {group.name}") -> int:
            shapes = outline_of(made(chunk))
            sizes = [size_of(call) for call in shapes.calls if call.name == name]
            return compiled.peak(shapes.resident, sizes)[0] if sizes else 0

        clients, resident = chosen.chunks[number], outline_of(chosen).resident
        chosen = with_chunk(largest_part(clients, resident, need, int(memory.USABLE * limit)))
    return chosen


def largest_part(clients: int, resident: int, need: Callable[[int], int], limit: int) -> int:
    """All clients of a device, or the largest equal part of them that fits into its memory; 1 where not even 1 may fit.

    Args:
      clients: of the device.
      resident: bytes that are needed however many clients are trained together.
      need: clients trained together -> bytes in all; a compilation, of which there are at most two.
      limit: bytes.
    """
    most = need(clients)
    if most <= limit or clients == 1:
        return clients
    # Memory is nearly a straight line in the number of clients, above what is resident; where all are one chunk, the
    # compiler leaves out the loop over chunks, and they may take less than the line says.
    guess = _part(clients, clients * max(limit - resident, 0) // max(most - resident, 1))
    needed = need(guess)
    if needed <= limit:
        return guess
    fitting = guess * (limit - resident) / max(needed - resident, 1)
    if needed < most:
        fitting = min(fitting, guess - (needed - limit) * (clients - guess) / (most - needed))
    return _part(clients, int(fitting))


def _part(clients: int, most: int) -> int:
    """The size of the fewest equal parts, rounded up, of at most `most` clients each; at least 1."""
    return next((size for parts in range(2, clients) if (size := math.ceil(clients / parts)) <= most), 1)


def times_convolutions(config: config_dict.ConfigDict, mesh: Mesh, chosen: Chosen, before: Mapping[str, Any]) -> bool:
    """Whether the run times its convolutions: if it was asked to, has any, and has no choice of an earlier start."""
    return conv_of(before, mesh) is None and chosen.conv != "xla" and conv_choice.wanted(config.model.conv)


def conv_of(record: Mapping[str, Any], mesh: Mesh) -> str | None:
    """The recorded convolution; None where none is, or where it cannot be used on these devices."""
    try:
        return resolve_conv(record["conv"], mesh.devices.flat[0].platform) if "conv" in record else None
    except UserError:
        return None


def chunks_of(record: Mapping[str, Any], config: config_dict.ConfigDict) -> tuple[int, ...]:
    """Recorded chunk sizes of the groups; empty where none are. Older records have a single number for all groups."""
    chunks, groups = record.get("clients_per_chunk"), model_groups(config)
    if isinstance(chunks, dict):
        return tuple(chunks[group.name] for group in groups)
    return (chunks,) * len(groups) if chunks else ()


def changes(config: config_dict.ConfigDict, before: Mapping[str, Any], chosen: Chosen) -> list[str]:
    """What an earlier start of the run chose otherwise, in words; such a change changes the bits of its results."""
    chunks, texts = chunks_of(before, config), []
    if chunks and chunks != chosen.chunks:
        was = chunks_text(config, chosen._replace(chunks=chunks))
        texts.append(f"clients_per_chunk was {was} and is now {chunks_text(config, chosen)}")
    if before.get("conv", chosen.conv) != chosen.conv:
        texts.append(f"the convolution was {before['conv']} and is now {chosen.conv}")
    return texts


def beyond(config: config_dict.ConfigDict, chosen: Chosen) -> list[str]:
    """A sentence if the run has rounds beyond the horizon of its schedule."""
    if chosen.horizon is None or config.rounds <= chosen.horizon:
        return []
    return [
        f"config.rounds is {config.rounds}, and the learning rates fall over the first {chosen.horizon} (lr_horizon): "
        "they stay at their last values for the rest"
    ]


def chunks_text(config: config_dict.ConfigDict, chosen: Chosen) -> str:
    """The chunk sizes for a sentence: one number, or one for each group where they differ."""
    if len(set(chosen.chunks)) == 1:
        return str(chosen.chunks[0])
    groups = zip(model_groups(config), chosen.chunks, strict=True)
    return ", ".join(f"{group.name} {chunk}" for group, chunk in groups)


def to_record(config: config_dict.ConfigDict, chosen: Chosen) -> dict[str, Any]:
    """The choices as JSON, for environment.json and the checkpoints."""
    names = [group.name for group in model_groups(config)]
    return {
        "conv": chosen.conv,
        "clients_per_chunk": dict(zip(names, chosen.chunks, strict=True)),
        "cache": fields.durations(config) | {"duration": chosen.duration},
        "precision": resolved(config.model.precision),
    } | ({} if chosen.horizon is None else {"lr_horizon": chosen.horizon})
