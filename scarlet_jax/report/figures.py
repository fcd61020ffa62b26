"""The figures: each is one or more panels side by side, under one title, over one legend."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scarlet_jax.metric_tables import ROUND, SCORES
from scarlet_jax.report.groups import Group
from scarlet_jax.report.overlap import widen_hidden
from scarlet_jax.report.panels import Panel, Panels, column, wrapped
from scarlet_jax.report.style import line
from scarlet_jax.report.table import WHO, Options, reported
from scarlet_jax.report.text import sends


class Drawn(NamedTuple):
    """A figure, and what its name says in words."""

    name: str
    title: str
    figure: Figure


def draw(groups: Sequence[Group], options: Options) -> list[Drawn]:
    """All figures that these runs have numbers for, the overview of all first. Call it within `style.applied()`."""
    panels, ledger = Panels(groups, options), options.ledger
    everyone = range(len(groups))
    senders = [i for i in everyone if sends(groups[i], ledger)]
    cached = [i for i in everyone if groups[i].duration]
    over = {"rounds": "rounds"}
    if senders:
        over["bytes"] = f"communicated bytes ({ledger} ledger)"
        if options.speeds:
            over["hours"] = "hours of transmission ({:g} Mbit/s up, {:g} Mbit/s down)".format(*options.speeds)
    found: list[Drawn] = []

    def having(name: str) -> list[int]:
        return [i for i in everyone if groups[i].has(column(name))]

    def add(name: str, title: str, row: Sequence[Panel], shown: Sequence[int], height: float = 2.6) -> None:
        found.append(Drawn(name, title, _figure(panels, title, [row], shown, height)))

    who = {name: [one for one in WHO if having(f"{one}_{name}")] for name in reported()}
    for name in who:
        for axis, words in over.items() if who[name] else ():
            short, title = _titles(name)
            add(f"{short}_{axis}", f"{title} over {words}", [panels.score(name, w, axis) for w in who[name]], everyone)
    if senders:
        title = f"Bytes per round, all participants together ({ledger} ledger)"
        add("bytes_rounds", title, [panels.volume("uplink"), panels.volume("downlink")], senders)
    if cached:
        add("cache_hits", "Public samples answered from the cache", [panels.hits], cached)
    labels = {name: shown for name in ROUND if (shown := having(name))}
    if labels:
        title = "Soft labels: how sure the teacher is, and how far clients disagree"
        add("soft_labels", title, [*map(panels.metric, labels)], sorted(set().union(*labels.values())))
    known = {name: [i for i in everyone if all(_scored(run, name) for run in groups[i].runs)] for name in reported()}
    for name, shown in known.items():
        if shown:
            short, title = _titles(name)
            height = max(2.6, 0.9 + 0.15 * sum(wrapped(groups[i].shown).count("\n") + 1.3 for i in shown))
            row = [panels.boxes(name, shown, named=True), panels.spread(name)]
            place = "client_spread" if name == "top1" else f"{name}_client_spread"
            add(place, f"Spread of {title.lower()} over the clients", row, shown, height)

    rows: list[list[Panel]] = [[panels.score("top1", w, axis) for axis in over] for w in who["top1"]]
    rest = ([panels.volume("both")] if senders else []) + ([panels.hits] if cached else [])
    rest += [panels.boxes("top1", known["top1"], named=False), panels.spread("top1")] if known["top1"] else []
    for i, panel in enumerate(rest):
        rows[i * len(rows) // len(rest)].append(panel)
    return [Drawn("overview", "Overview", _figure(panels, "", rows, everyone, 2.6)), *found]


def _titles(name: str) -> tuple[str, str]:
    """How the names and the titles of a metric's figures begin; top-1 is what a report means by accuracy."""
    title = SCORES[name].title
    return ("accuracy", "Accuracy") if name == "top1" else (name, title[0].upper() + title[1:])


def _scored(run, name: str) -> bool:
    """Whether a run has the metric of single clients."""
    return len(run.evaluated) > 0 and name in run.per_client


def _figure(panels: Panels, title: str, rows: Sequence[Sequence[Panel]], shown: Sequence[int], height: float) -> Figure:
    """Rows of panels, the title above them and one legend of the groups in `shown` below."""
    panels.curves = {}
    width = max(len(row) for row in rows)
    size = {1: 4.2, 2: 7.2}.get(width, 3.0 * width)
    groups = [panels.groups[i] for i in shown]
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
        handles=[Line2D([], [], label=panels.groups[i].shown, **line(panels.looks[i])) for i in shown],
        loc="outside lower center",
        title="bands: ± one standard deviation over seeds" if bands else None,
        title_fontsize=7,
        ncols=columns,
        frameon=False,
        handlelength=3.4,
    )
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # the layout is found: not once more for each format
    for curves in panels.curves.values():
        widen_hidden(curves, figure.dpi)
    return figure
