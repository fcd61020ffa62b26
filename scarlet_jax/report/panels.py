"""The panels of a report's figures: each draws one quantity of all groups on the axes that it is given."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from scarlet_jax.metric_tables import ROUND, SCORES
from scarlet_jax.report.groups import Group
from scarlet_jax.report.runs import Run
from scarlet_jax.report.style import BLACK, from_zero, line, looks, marks, plain_log
from scarlet_jax.report.table import Options
from scarlet_jax.report.text import sends
from scarlet_jax.texts import byte_unit

Values = Callable[[Run], np.ndarray]
Panel = Callable[[Any], None]  # draws on a matplotlib Axes

_PANEL_TITLES = {"server": "server model, whole test set", "client": "mean client, own test data"}
_VOLUME_TITLES = {
    "uplink": "clients to server", "downlink": "server to clients", "both": "bytes per round, both directions"
}  # fmt: skip
_MARKS = 8  # markers along a curve


class Panels:
    """The panels of some groups, and what all of them share: colours and markers.

    Args:
      groups: that are drawn.
      options: of the report.
    """

    def __init__(self, groups: Sequence[Group], options: Options):
        self.groups, self.options, self.ledger = groups, options, options.ledger
        self.looks = looks(groups)
        self.curves: dict[Any, list[Line2D]] = {}  # of each panel of the figure in the making, the lowest first

    def score(self, name: str, who: str, over: str) -> Panel:
        """An evaluation metric of the server or the mean client over rounds, cumulative bytes or hours."""
        speeds, values = self.options.speeds, column(f"{who}_{name}")

        def x(run: Run) -> np.ndarray:
            if over == "rounds":
                return run.round + 1.0
            if over == "bytes":
                return run.total(self.ledger)
            assert speeds is not None
            return run.hours(self.ledger, *speeds)

        def panel(axis: Any) -> None:
            ends = [_largest(x(run)) for group in self.groups for run in group.runs if sends(group, self.ledger)]
            unit, size = byte_unit(max(ends)) if over == "bytes" else ("", 1.0)
            log = over == "bytes" or (over == "hours" and max(ends) > 20 * min(ends))
            if log:
                axis.set_xscale("log")
            for i, (group, look) in enumerate(zip(self.groups, self.looks, strict=True)):
                if not group.has(values):
                    continue
                if over != "rounds" and not sends(group, self.ledger):
                    level = group.curve(values).mean[-1:]
                    if len(level):
                        style = line(look) | {"marker": "none"}
                        self.curves.setdefault(axis, []).append(axis.axhline(level[0], **style))
                        axis.plot([0.03], level, transform=axis.get_yaxis_transform(), **marks(look))
                    continue
                self.plot(axis, i, lambda run: x(run) / size, values)  # noqa: B023 - called at once
            axis.set_title(_PANEL_TITLES[who])
            axis.set_ylabel(SCORES[name].label)
            axis.set_xlabel(
                {
                    "rounds": "communication rounds",
                    "bytes": f"bytes up and down, cumulative ({unit})",
                    "hours": "hours of transmission",
                }[over]
            )
            if log:
                plain_log(axis.xaxis)
            else:
                axis.xaxis.set_major_locator(MaxNLocator(6, integer=over == "rounds"))

        return panel

    def plot(self, axis: Any, index: int, x: Values, y: Values) -> None:
        """A group's mean curve and band; markers of different curves do not fall on each other."""
        group, look = self.groups[index], self.looks[index]
        curve, at = group.curve(y), group.curve(x)
        kept = np.isin(curve.rounds, at.rounds)
        rounds, mean, std = (values[kept] for values in curve)
        position = at.mean[np.searchsorted(at.rounds, rounds)]
        # At least one place for each group between two markers of a curve, as far as there are so many points.
        step = max(1, min(max(len(rounds) // _MARKS, len(self.groups)), len(rounds)))
        # Neighbours in the legend are far apart: their fractions of the golden ratio are.
        order = np.argsort(np.argsort(np.arange(len(self.groups)) * 0.618 % 1))
        first = int(order[index]) * step // len(self.groups)
        self.curves.setdefault(axis, []).extend(axis.plot(position, mean, **line(look) | {"marker": "none"}))
        axis.plot(position, mean, markevery=(first, step), **marks(look))
        if len(group.runs) > 1:
            alpha = (
                0.18 if len(self.groups) <= 4 else 0.7 / len(self.groups)
            )  # many bands together stay paler than lines
            axis.fill_between(position, mean - std, mean + std, color=look.colour, alpha=alpha, linewidth=0)

    def volume(self, direction: str) -> Panel:
        """Bytes of each round, in one direction or both."""

        def values(run: Run) -> np.ndarray:
            up, down = run.uplink[self.ledger], run.downlink[self.ledger]
            return {"uplink": up, "downlink": down, "both": up + down}[direction]

        def panel(axis: Any) -> None:
            shown = [i for i, group in enumerate(self.groups) if sends(group, self.ledger)]
            typical = [_median(values(run)) for i in shown for run in self.groups[i].runs]
            unit, size = byte_unit(max(typical, default=0))
            for i in shown:
                self.plot(axis, i, lambda run: run.round + 1.0, lambda run: values(run) / size)
            if min(typical) > 0 and max(typical) > 20 * min(typical):
                axis.set_yscale("log")  # weights beside labels: on a linear axis the labels would lie on the floor
                plain_log(axis.yaxis)
            else:
                from_zero(axis)
            axis.set_title(_VOLUME_TITLES[direction])
            axis.set_ylabel(f"bytes per round ({unit})")
            axis.set_xlabel("communication rounds")
            axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))

        return panel

    def hits(self, axis: Any) -> None:
        """Share of the drawn public samples that were cache hits."""
        for i, group in enumerate(self.groups):
            if group.duration:
                self.plot(axis, i, lambda run: run.round + 1.0, hit_share)
        axis.set_title("cache hits")
        axis.set_ylabel("hits / samples drawn")
        axis.set_xlabel("communication rounds")
        axis.set_ylim(-0.02, 1.02)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))

    def metric(self, name: str) -> Panel:
        """A metric of the round's soft labels over rounds."""

        def panel(axis: Any) -> None:
            for i, group in enumerate(self.groups):
                if group.has(column(name)):
                    self.plot(axis, i, lambda run: run.round + 1.0, column(name))
            axis.set_title(ROUND[name].title)
            axis.set_ylabel(ROUND[name].unit)
            axis.set_xlabel("communication rounds")
            from_zero(axis)
            axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))

        return panel

    def boxes(self, name: str, known: Sequence[int], named: bool) -> Panel:
        """Each client's metric in the last evaluation: quartiles, extremes, and the mean as the group's marker."""

        def panel(axis: Any) -> None:
            for place, i in enumerate(known):
                look = self.looks[i]
                values = np.concatenate([run.of_clients(name)[-1] for run in self.groups[i].runs])
                axis.boxplot(
                    [values[np.isfinite(values)]],
                    positions=[place],
                    orientation="horizontal",
                    widths=0.6,
                    whis=(0, 100),
                    showmeans=True,
                    boxprops={"color": look.colour},
                    whiskerprops={"color": look.colour, "linestyle": look.line},
                    capprops={"color": look.colour},
                    medianprops={"color": BLACK, "linewidth": 1.0},
                    meanprops={key: value for key, value in line(look).items() if key.startswith("marker")},
                )
            axis.set_ylim(len(known) - 0.4, -0.6)
            axis.grid(axis="y", visible=False)
            labels = [wrapped(self.groups[i].shown) for i in known] if named else []
            axis.set_yticks(range(len(labels)), labels)
            axis.set_title("clients in the last evaluation")
            axis.set_xlabel(
                f"{SCORES[name].label}, own test data\n(box: quartiles, whiskers: all, line: median, marker: mean)"
            )
            axis.xaxis.label.set_fontsize(7)

        return panel

    def spread(self, name: str) -> Panel:
        """Standard deviation of a metric over the clients, over rounds."""

        def panel(axis: Any) -> None:
            for i, group in enumerate(self.groups):
                if all(len(run.evaluated) for run in group.runs):
                    self.plot(axis, i, lambda run: run.round + 1.0, lambda run: _spread_by_round(run, name))
            axis.set_title("spread over the clients")
            axis.set_ylabel(f"std of {SCORES[name].title.removesuffix(' accuracy')} over clients")
            axis.set_xlabel("communication rounds")
            from_zero(axis)
            axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))

        return panel


def column(name: str) -> Values:
    """A column of metrics.jsonl; NaN where a run does not have it."""
    return lambda run: run.column(name)


def hit_share(run: Run) -> np.ndarray:
    """f64[R]: hits / drawn; NaN where nothing was drawn."""
    drawn = run.requested + run.hit
    return np.divide(run.hit, drawn, out=np.full(len(drawn), np.nan), where=drawn > 0)


def _spread_by_round(run: Run, name: str) -> np.ndarray:
    """The spread over clients at the rounds of metrics.jsonl; [R], NaN where not evaluated."""
    values = np.full(len(run.round), np.nan)
    values[np.searchsorted(run.round, run.evaluated)] = run.spread(name)
    return values


def wrapped(label: str) -> str:
    """A label on lines that fit beside an axis."""
    return "\n".join(textwrap.wrap(label, 24))


def _largest(values: np.ndarray) -> float:
    return float(values[np.isfinite(values)].max(initial=0))


def _median(values: np.ndarray) -> float:
    kept = values[np.isfinite(values)]
    return float(np.median(kept)) if len(kept) else 0.0
