"""The figures: each is one or more panels side by side, under one title, over one legend."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from scarlet_jax.report.groups import Group
from scarlet_jax.report.overlap import widen_hidden
from scarlet_jax.report.runs import Run
from scarlet_jax.report.style import BLACK, from_zero, line, looks, marks, plain_log
from scarlet_jax.report.table import WHO, Options
from scarlet_jax.report.text import sends
from scarlet_jax.texts import byte_unit

Values = Callable[[Run], np.ndarray]
Panel = Callable[[Any], None]  # draws on a matplotlib Axes

_PANEL_TITLES = {"server": "server model, whole test set", "client": "mean client, own test data"}
_VOLUME_TITLES = {
    "uplink": "clients to server", "downlink": "server to clients", "both": "bytes per round, both directions"
}  # fmt: skip
_MARKS = 8  # markers along a curve

# What helps to choose beta: column of metrics.jsonl -> title and label of its panel.
LABEL_METRICS = {
    "target_entropy": ("entropy of the teacher", "nats (uniform: log C)"),
    "disagreement": ("disagreement among clients", "Jensen-Shannon divergence (nats)"),
}


class Drawn(NamedTuple):
    """A figure, and what its name says in words."""

    name: str
    title: str
    figure: Figure


def draw(groups: Sequence[Group], options: Options) -> list[Drawn]:
    """All figures that these runs have numbers for, the overview of all first. Call it within `style.applied()`."""
    return _Drawing(groups, options).all()


class _Drawing:
    def __init__(self, groups: Sequence[Group], options: Options):
        self.groups, self.options, self.ledger = groups, options, options.ledger
        self.looks = looks(groups)
        self.who = [who for who in WHO if any(group.has(WHO[who]) for group in groups)]
        self.curves: dict[Any, list[Line2D]] = {}  # of each panel of the figure in the making, the lowest first

    def all(self) -> list[Drawn]:
        over = {"rounds": "rounds"}
        anything = any(sends(group, self.ledger) for group in self.groups)
        if anything:
            over["bytes"] = f"communicated bytes ({self.ledger} ledger)"
            if self.options.speeds:
                over["hours"] = "hours of transmission ({:g} Mbit/s up, {:g} Mbit/s down)".format(*self.options.speeds)
        everyone = range(len(self.groups))
        senders = [i for i in everyone if sends(self.groups[i], self.ledger)]
        cached = [i for i in everyone if self.groups[i].duration]
        known = [i for i in everyone if all(len(run.evaluated) for run in self.groups[i].runs)]
        found: list[Drawn] = []

        def add(name: str, title: str, panels: Sequence[Panel], shown: Sequence[int], height: float = 2.6) -> None:
            found.append(Drawn(name, title, self.figure(title, [panels], shown, height)))

        for axis, words in over.items():
            add(f"accuracy_{axis}", f"Accuracy over {words}", [self.accuracy(who, axis) for who in self.who], everyone)
        if senders:
            title = f"Bytes per round, all participants together ({self.ledger} ledger)"
            add("bytes_rounds", title, [self.volume("uplink"), self.volume("downlink")], senders)
        if cached:
            add("cache_hits", "Public samples answered from the cache", [self.hits], cached)
        for_beta = {name: [i for i in everyone if self.groups[i].has(_metric(name))] for name in LABEL_METRICS}
        if any(for_beta.values()):
            panels = [self.metric(name) for name, shown in for_beta.items() if shown]
            title = "Soft labels: how sure the teacher is, and how far clients disagree"
            add("soft_labels", title, panels, sorted(set().union(*for_beta.values())))
        if known:
            height = max(2.6, 0.9 + 0.15 * sum(_wrapped(self.groups[i].shown).count("\n") + 1.3 for i in known))
            panels = [self.boxes(known, named=True), self.spread]
            add("client_spread", "Spread of accuracy over the clients", panels, known, height)

        rows: list[list[Panel]] = [[self.accuracy(who, axis) for axis in over] for who in self.who]
        rest = ([self.volume("both")] if senders else []) + ([self.hits] if cached else [])
        rest += [self.boxes(known, named=False), self.spread] if known else []
        for i, panel in enumerate(rest):
            rows[i * len(rows) // len(rest)].append(panel)
        everything = self.figure("", rows, everyone, 2.6)
        return [Drawn("overview", "Overview", everything), *found]

    def figure(self, title: str, rows: Sequence[Sequence[Panel]], shown: Sequence[int], height: float) -> Figure:
        """Rows of panels, the title above them and one legend of the groups in `shown` below."""
        self.curves = {}
        width = max(len(row) for row in rows)
        size = {1: 4.2, 2: 7.2}.get(width, 3.0 * width)
        groups = [self.groups[i] for i in shown]
        fitting = int(size / (0.75 + 0.065 * max(len(group.shown) for group in groups)))
        columns = min(max(1, fitting), len(groups))
        columns = -(-len(groups) // -(-len(groups) // columns))  # as few as make no more lines: columns of one length
        bands = any(len(group.runs) > 1 for group in groups)
        lines = -(-len(groups) // columns) + bands
        figure = Figure(figsize=(size, height * len(rows) + 0.17 * lines + 0.45), dpi=200, layout="constrained")
        for axes, row in zip(figure.subplots(len(rows), width, squeeze=False), rows, strict=True):
            for axis, panel in zip(axes, row, strict=False):
                panel(axis)
            for axis in axes[len(row) :]:
                axis.remove()
        if title:
            figure.suptitle("\n".join(textwrap.wrap(title, int(size * 13))), fontweight="bold")
        figure.legend(
            handles=[Line2D([], [], label=self.groups[i].shown, **line(self.looks[i])) for i in shown],
            loc="outside lower center",
            title="bands: ± one standard deviation over seeds" if bands else None,
            title_fontsize=7,
            ncols=columns,
            frameon=False,
            handlelength=3.4,
        )
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # the layout is found: not once more for each format
        for curves in self.curves.values():
            widen_hidden(curves, figure.dpi)
        return figure

    def accuracy(self, who: str, over: str) -> Panel:
        """Top-1 of the server or the mean client over rounds, cumulative bytes or hours."""
        speeds = self.options.speeds

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
                if not group.has(WHO[who]):
                    continue
                if over != "rounds" and not sends(group, self.ledger):
                    level = group.curve(WHO[who]).mean[-1:]
                    if len(level):
                        style = line(look) | {"marker": "none"}
                        self.curves.setdefault(axis, []).append(axis.axhline(level[0], **style))
                        axis.plot([0.03], level, transform=axis.get_yaxis_transform(), **marks(look))
                    continue
                self.plot(axis, i, lambda run: x(run) / size, WHO[who])  # noqa: B023 - called at once
            axis.set_title(_PANEL_TITLES[who])
            axis.set_ylabel("top-1 accuracy")
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
        """A column of metrics.jsonl over rounds."""
        title, label = LABEL_METRICS[name]

        def panel(axis: Any) -> None:
            for i, group in enumerate(self.groups):
                if group.has(_metric(name)):
                    self.plot(axis, i, lambda run: run.round + 1.0, _metric(name))
            axis.set_title(title)
            axis.set_ylabel(label)
            axis.set_xlabel("communication rounds")
            from_zero(axis)
            axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))

        return panel

    def boxes(self, known: Sequence[int], named: bool) -> Panel:
        """Each client's top-1 in the last evaluation: quartiles, extremes, and the mean as the group's marker."""

        def panel(axis: Any) -> None:
            for place, i in enumerate(known):
                look = self.looks[i]
                values = np.concatenate([run.per_client["top1"][-1] for run in self.groups[i].runs])
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
            labels = [_wrapped(self.groups[i].shown) for i in known] if named else []
            axis.set_yticks(range(len(labels)), labels)
            axis.set_title("clients in the last evaluation")
            axis.set_xlabel(
                "top-1 accuracy, own test data\n(box: quartiles, whiskers: all, line: median, marker: mean)"
            )
            axis.xaxis.label.set_fontsize(7)

        return panel

    def spread(self, axis: Any) -> None:
        """Standard deviation over the clients, over rounds."""
        for i, group in enumerate(self.groups):
            if all(len(run.evaluated) for run in group.runs):
                self.plot(axis, i, lambda run: run.round + 1.0, _spread_by_round)
        axis.set_title("spread over the clients")
        axis.set_ylabel("std of top-1 over clients")
        axis.set_xlabel("communication rounds")
        from_zero(axis)
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _metric(name: str) -> Values:
    """A column of metrics.jsonl; NaN where a run does not have it."""
    return lambda run: run.metrics.get(name, np.full(len(run.round), np.nan))


def hit_share(run: Run) -> np.ndarray:
    """f64[R]: hits / drawn; NaN where nothing was drawn."""
    drawn = run.requested + run.hit
    return np.divide(run.hit, drawn, out=np.full(len(drawn), np.nan), where=drawn > 0)


def _spread_by_round(run: Run) -> np.ndarray:
    """The spread over clients at the rounds of metrics.jsonl; [R], NaN where not evaluated."""
    values = np.full(len(run.round), np.nan)
    values[np.searchsorted(run.round, run.evaluated)] = run.spread()
    return values


def _wrapped(label: str) -> str:
    return "\n".join(textwrap.wrap(label, 24))


def _largest(values: np.ndarray) -> float:
    return float(values[np.isfinite(values)].max(initial=0))


def _median(values: np.ndarray) -> float:
    kept = values[np.isfinite(values)]
    return float(np.median(kept)) if len(kept) else 0.0
