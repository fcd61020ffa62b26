"""Runs that differ only in their seed, under one label; and what sets the labels apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from scarlet_jax import methods
from scarlet_jax.errors import UserError
from scarlet_jax.report.runs import Run
from scarlet_jax.row_files import flat

# Where and how a run was executed and what was kept of it, not what it computes.
EXECUTION_FIELDS = (
    "clients_per_chunk", "data.dir", "data.cache_dir", "checkpoint.every", "checkpoint.keep", "wandb.mode",
    "wandb.project",
    "profile_rounds", "remat", "deterministic", "data.device_budget_mb", "compilation_cache",
)  # fmt: skip

_SHORT = {"cache.duration": "D", "partition.name": "partition", "partition.alpha": "alpha"}


class Curve(NamedTuple):
    """A number over rounds: mean and standard deviation over the runs of a group. All [R']."""

    rounds: np.ndarray  # i64, rounds done: 1 after the first
    mean: np.ndarray
    std: np.ndarray  # of a sample (n - 1); 0 for one run


@dataclass(frozen=True, eq=False)
class Group:
    """Runs of one config, each with its own seed.

    Attributes:
      label: for legends and tables; unique among the groups made together.
      runs: one or more, by seed.
    """

    label: str
    runs: tuple[Run, ...]

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.runs[0].method

    @property
    def duration(self) -> int:
        """The cache's D; 0 without a cache."""
        return self.runs[0].duration

    @property
    def own_duration(self) -> int:
        """The D that the method has where the config leaves it open."""
        return self.runs[0].own_duration

    @property
    def rounds(self) -> tuple[int, ...]:
        """Rounds that each run has done."""
        return tuple(int(run.round[-1]) + 1 for run in self.runs)

    @property
    def complete(self) -> bool:
        """Every run has done all its rounds."""
        return all(run.complete for run in self.runs)

    @property
    def shown(self) -> str:
        """The label, marked where a run of the group is not finished."""
        return self.label if self.complete else f"{self.label} (unfinished)"

    def has(self, values: Callable[[Run], np.ndarray]) -> bool:
        """Whether every run has any such number."""
        return all(bool(np.isfinite(values(run)).any()) for run in self.runs)

    def curve(
        self, values: Callable[[Run], np.ndarray], rounds: Callable[[Run], np.ndarray] = lambda run: run.round
    ) -> Curve:
        """`values` at the rounds where every run of the group has them; `rounds` says which rounds they are of."""
        shared, columns = self.aligned(values, rounds)
        kept = np.isfinite(columns).all(0)
        columns = columns[:, kept]
        std = columns.std(0, ddof=1) if len(columns) > 1 else np.zeros(columns.shape[1])
        return Curve(shared[kept] + 1, columns.mean(0), std)

    def aligned(
        self, values: Callable[[Run], np.ndarray], rounds: Callable[[Run], np.ndarray] = lambda run: run.round
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rounds that all runs have, i64[R'] from 0, and `values` there, f64[S, R'] for S runs."""
        shared = rounds(self.runs[0])
        for run in self.runs[1:]:
            shared = np.intersect1d(shared, rounds(run))
        return shared, np.stack([values(run)[np.searchsorted(rounds(run), shared)] for run in self.runs])


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Group runs that differ only in their seed, in the order of their first, and label the groups.

    A label is the method's name; "+ cache" for a method whose own default is to have none, "without cache" the other
    way round; and the config's fields that differ: a method's own fields among the runs of that method, the cache's
    among those that have one, all others among all.

    Raises:
      UserError: two runs have the same config and the same seed.
    """
    by_config: list[tuple[dict[str, Any], list[Run]]] = []
    for run in {run.path.resolve(): run for run in runs}.values():
        fields = _fields(run)
        members = next((members for other, members in by_config if other == fields), None)
        if members is None:
            by_config.append((fields, [run]))
            continue
        twin = next((member for member in members if member.seed == run.seed), None)
        if twin is not None:
            raise UserError(f"{twin.path} and {run.path} have the same config and the same seed: give one of them.")
        members.append(run)

    groups = []
    for fields, members in by_config:
        differing = [
            f for f in sorted(set().union(*(other for other, _ in by_config))) if _differs(f, fields, by_config)
        ]
        label = ", ".join([_title(members[0]), *(_setting(f, fields.get(f)) for f in differing)])
        groups.append(Group(label, tuple(sorted(members, key=lambda run: run.seed))))
    return groups


def find_baseline(groups: Sequence[Group], wanted: str) -> Group:
    """The group that `wanted` names: its label, a run of it, its method, or METHOD+cache; case does not matter.

    Raises:
      UserError: there is none, or more than one.
    """
    name = wanted.strip().casefold()

    def names(group: Group) -> tuple[str, str]:
        return group.method.casefold(), methods.title(group.method).casefold()

    matches = [
        lambda group: group.label.casefold() == name,
        lambda group: any(run.name.casefold() == name for run in group.runs),
        lambda group: name == f"{names(group)[0]}+cache" and group.duration > 0,
        # A method's name means the method as it is by itself where it is shown with a cache too.
        lambda group: name in names(group) and group.duration == group.own_duration,
        lambda group: name in names(group),
    ]
    for match in matches:
        found = [group for group in groups if match(group)]
        if len(found) == 1:
            return found[0]
        if found:
            listing = ", ".join(repr(group.label) for group in found)
            raise UserError(f"The baseline {wanted!r} may be any of {listing}: give one of these labels.")
    listing = ", ".join(repr(group.label) for group in groups)
    raise UserError(
        f"The baseline {wanted!r} is not among the runs: give METHOD, METHOD+cache, a run's name, or one of {listing}."
    )


def _title(run: Run) -> str:
    title, own = methods.title(run.method), run.own_duration
    if run.duration > 0 and own == 0:
        return f"{title} + cache"
    return f"{title} without cache" if run.duration == 0 and own > 0 else title


def _fields(run: Run) -> dict[str, Any]:
    """The fields of a run's config that decide what it computes, its seed aside."""
    # A run of a program that evaluated participants alone has no such field.
    own = {"eval_clients": "participants"} | flat(run.config) | {"cache.duration": run.duration}
    if run.duration == 0:
        own = {f: v for f, v in own.items() if not f.startswith("cache.") or f == "cache.duration"}
    # An open field and one that an older program did not have are the same.
    return {f: v for f, v in own.items() if f != "seed" and f not in EXECUTION_FIELDS and v is not None}


def _differs(field: str, fields: dict[str, Any], by_config: list[tuple[dict[str, Any], list[Run]]]) -> bool:
    """Whether a label needs `field`."""
    others = [other for other, _ in by_config]
    if field == "method.name":
        return False
    if field.startswith("method."):
        others = [other for other in others if other["method.name"] == fields["method.name"]]
    elif field.startswith("cache."):
        if fields["cache.duration"] == 0:
            return False
        others = [other for other in others if other["cache.duration"] > 0]
    return any(other.get(field) != fields.get(field) for other in others)


def _setting(field: str, value: Any) -> str:
    text = "default" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return f"{_SHORT.get(field, field.removeprefix('method.').removeprefix('cache.'))}={text}"
