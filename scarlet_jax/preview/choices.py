"""What a run chooses for the fields that its config leaves open, and how the choice is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jax.sharding import Mesh
from ml_collections import config_dict

from scarlet_jax import build
from scarlet_jax.build import Chosen
from scarlet_jax.models import conv_choice
from scarlet_jax.models.precision import resolved
from scarlet_jax.options import fields


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
    return chosen._replace(
        conv=before.get("conv") or chosen.conv, chunks=build.choose_chunks(config, mesh, chunks_of(before, config))
    )


def times_convolutions(config: config_dict.ConfigDict, chosen: Chosen, before: Mapping[str, Any]) -> bool:
    """Whether the run times its convolutions: if it was asked to, has any, and has not done so at an earlier start."""
    return "conv" not in before and chosen.conv != "xla" and conv_choice.wanted(config.model.conv)


def chunks_of(record: Mapping[str, Any], config: config_dict.ConfigDict) -> tuple[int, ...]:
    """Recorded chunk sizes of the groups; empty where none are. Older records have a single number for all groups."""
    chunks, groups = record.get("clients_per_chunk"), build.model_groups(config)
    if isinstance(chunks, dict):
        return tuple(chunks[group.name] for group in groups)
    return (chunks,) * len(groups) if chunks else ()


def to_record(config: config_dict.ConfigDict, chosen: Chosen) -> dict[str, Any]:
    """The choices as JSON, for environment.json and the checkpoints."""
    names = [group.name for group in build.model_groups(config)]
    return {
        "conv": chosen.conv,
        "clients_per_chunk": dict(zip(names, chosen.chunks, strict=True)),
        "cache": fields.durations(config) | {"duration": chosen.duration},
        "precision": resolved(config.model.precision),
    }
