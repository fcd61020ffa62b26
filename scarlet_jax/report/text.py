"""The table as Markdown, CSV and HTML, and the notes that belong to it."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from scarlet_jax.metric_tables import SCORES
from scarlet_jax.names import in_csv
from scarlet_jax.report import facts
from scarlet_jax.report.groups import Group
from scarlet_jax.report.table import Entry, Options, Reached, Stat, reported
from scarlet_jax.texts import byte_unit

_NONE = "–"  # noqa: RUF001


class Grid(NamedTuple):
    """A titled table of cells."""

    title: str
    header: list[str]
    rows: list[list[str]]
    prose: bool = False  # cells of text, not of numbers


def grids(entries: Sequence[Entry], options: Options) -> list[Grid]:
    """The tables for people: accuracy, bytes, bytes until each target, and what was run."""
    measured = [_measured(entries, name) for name in reported() if name == "top1" or _has(entries, name)]
    unit, size = byte_unit(max((e.total.mean for e in entries if e.total), default=0))
    against = f"ratio to {options.baseline}"
    volume = Grid(
        f"Bytes over all rounds done, {options.ledger} ledger",
        ["run", f"up ({unit})", f"down ({unit})", f"total ({unit})", *([against] if options.baseline else [])],
        [
            [_name(e), _bytes(e.uplink, size), _bytes(e.downlink, size), _bytes(e.total, size)]
            + ([_ratio(e.ratio)] if options.baseline else [])
            for e in entries
        ],
    )
    tables = [*measured, volume]
    for who, title in (("server", "server"), ("client", "mean client")):
        columns = [(who, t) for t in options.targets]
        if columns and any(e.reached[c].of for e in entries for c in columns):
            found = [e.reached[c].bytes for e in entries for c in columns]
            unit, size = byte_unit(max((s.mean for s in found if s), default=0))
            header = [x for _, t in columns for x in ([f"{t:g} ({unit})"] + (["ratio"] if options.baseline else []))]
            rows = [[_name(e), *(x for c in columns for x in _until(e.reached[c], size, options))] for e in entries]
            title = f"Bytes until the {title}'s top-1 reaches a target, {options.ledger} ledger"
            tables.append(Grid(title + (f"; {against}" if options.baseline else ""), ["run", *header], rows))
    rows = facts.compared([(_name(e), e.facts) for e in entries])
    return [*tables, Grid("What was run", ["", "value"], rows, prose=True)]


def _measured(entries: Sequence[Entry], name: str) -> Grid:
    """The table of an evaluation metric."""
    score = SCORES[name]
    return Grid(
        score.label[0].upper() + score.label[1:],
        ["run", "seeds", "rounds", "server, final", "server, last 5", "server, best", "mean client, final",
         "mean client, last 5", "mean client, best", "std over clients", "worst client"],
        [
            [_name(e), str(len(e.seeds)), _rounds(e), *map(_share, e.measured[name].scores.values())]
            + [_share(e.measured[name].client_std), _share(e.measured[name].client_worst)]
            for e in entries
        ],
    )  # fmt: skip


def _has(entries: Sequence[Entry], name: str) -> bool:
    return any(stat is not None for entry in entries for stat in entry.measured[name].scores.values())


def notes(groups: Sequence[Group], entries: Sequence[Entry], options: Options) -> list[str]:
    """What a reader must know to read tables and figures; only what applies to these runs."""

    def listed(test: Callable[[Group], bool]) -> str:
        return ", ".join(g.label for g in groups if test(g))

    found = []
    what = {
        "reference": "as the paper's code bills them: float32 probabilities, int64 indices and signals",
        "wire": "what a careful implementation sends: packed to bits, each message rounded up to whole bytes",
    }
    found.append(f"Bytes are those of the {options.ledger} ledger ({what[options.ledger]}), summed over participants.")
    found.append(
        "Server accuracy is on the whole test set; client accuracy on each participant's own test data, averaged over "
        "the round's participants. Final is the last evaluation, last 5 the mean of the last five (of all, where there "
        "are fewer). The standard deviation over clients and the worst client are of the last evaluation."
    )
    if any(len(g.runs) > 1 for g in groups):
        found.append(
            "± is one standard deviation over seeds (of a sample, n - 1), and so are the bands of the curves, over the "
            "rounds that all seeds have."
        )
    if len(groups) > 1:
        found.append("A curve that others lie on is drawn wider, and is seen on both sides of them.")
    if options.targets:
        found.append(
            "Bytes until a target are cumulative, up and down, with the first evaluated round at or above it; "
            "a group in which only some seeds reach it shows how many instead of a mean."
        )
    if options.baseline:
        found.append("Ratios are of mean bytes to the baseline's mean bytes.")
        if len({r for e in entries for r in e.rounds}) > 1:
            found.append("The ratio of all bytes is given only between runs of equally many rounds.")
    for group in groups:
        if not group.complete:
            left = [f"{r} of {run.config['rounds']} rounds" for r, run in zip(group.rounds, group.runs, strict=True)
                    if not run.complete]  # fmt: skip
            found.append(f"Unfinished: {group.label} ({', '.join(left)}).")
    if early := listed(lambda g: any(run.summary.get("stopped") for run in g.runs)):
        found.append(f"Ended at a bound of config.stop: {early}.")
    if no_server := listed(lambda g: not g.has(lambda run: run.server_top1)):
        found.append(f"No server model, so no server accuracy: {no_server}.")
    if free := listed(lambda g: not sends(g, options.ledger)):
        found.append(
            f"No bytes: {free}; a horizontal line at the final accuracy where others are drawn over bytes or hours."
        )
    if no_cache := listed(lambda g: g.duration == 0) if any(g.duration for g in groups) else "":
        found.append(f"No cache, so not among the cache hits: {no_cache}.")
    if options.speeds:
        found.append(
            f"Hours of transmission: every participant has {options.speeds[0]:g} Mbit/s up and {options.speeds[1]:g} "
            "Mbit/s down of its own, all transmit at once, a round takes as long as its mean message up and then down; "
            "computing is not counted."
        )
    return found


def sends(group: Group, ledger: str) -> bool:
    """Whether the group's runs bill any bytes."""
    return all(bool(np.nanmax(np.append(run.total(ledger), 0.0)) > 0) for run in group.runs)


def markdown(entries: Sequence[Entry], options: Options, lines: Sequence[str]) -> str:
    """The tables and notes as Markdown."""

    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    parts = ["# Report"]
    for grid in grids(entries, options):
        rule = row(["---", *["---" if grid.prose else "---:"] * (len(grid.header) - 1)])
        parts.append("\n".join([f"## {grid.title}", "", row(grid.header), rule, *map(row, grid.rows)]))
    parts.append("\n".join(["## Notes", "", *(f"- {line}" for line in lines)]))
    return "\n\n".join(parts) + "\n"


def html_tables(entries: Sequence[Entry], options: Options) -> str:
    """The tables as HTML."""
    parts = []
    for grid in grids(entries, options):
        head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in grid.header)
        body = "\n".join(
            f'<tr><th scope="row">{html.escape(first)}</th>'
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in rest)
            + "</tr>"
            for first, *rest in grid.rows
        )
        parts.append(
            f'<h2>{html.escape(grid.title)}</h2>\n<div class="scroll"><table{" class=prose" * grid.prose}>\n'
            f"<thead><tr>{head}</tr></thead>\n"
            f"<tbody>\n{body}\n</tbody></table></div>"
        )
    return "\n".join(parts)


def csv_text(entries: Sequence[Entry], options: Options) -> str:
    """One row per group, plain numbers: shares, bytes, ratios; empty where there is none. Lists are split by spaces."""

    def columns(entry: Entry) -> dict[str, Any]:
        row: dict[str, Any] = {
            "label": in_csv(entry.label),
            "method": in_csv(entry.method),
            "runs": in_csv(" ".join(entry.names)),
            "seeds": " ".join(map(str, entry.seeds)),
            "rounds": " ".join(map(str, entry.rounds)),
            "rounds_planned": entry.planned,
            "complete": str(entry.complete).lower(),
        }

        def add(name: str, stat: Stat | None) -> None:
            row[f"{name}_mean"] = None if stat is None else stat.mean
            row[f"{name}_std"] = None if stat is None else stat.std

        for name, measured in entry.measured.items():
            for (who, what), stat in measured.scores.items():
                add(f"{who}_{name}_{what}", stat)
            add(f"client_{name}_std_over_clients", measured.client_std)
            add(f"client_{name}_worst", measured.client_worst)
        row |= entry.columns
        row["ledger"] = options.ledger
        for name, stat in (("uplink", entry.uplink), ("downlink", entry.downlink), ("total", entry.total)):
            add(f"{name}_bytes", stat)
        row["baseline"] = options.baseline and in_csv(options.baseline)
        row["total_bytes_ratio"] = entry.ratio
        for (who, target), reached in entry.reached.items():
            name = f"{who}_{target:g}"
            add(f"bytes_to_{name}", reached.bytes)
            row[f"runs_at_{name}"] = reached.runs
            row[f"bytes_to_{name}_ratio"] = reached.ratio
        return row

    rows = [columns(entry) for entry in entries]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _name(entry: Entry) -> str:
    return entry.label if entry.complete else f"{entry.label} (unfinished)"


def _rounds(entry: Entry) -> str:
    done = sorted(set(entry.rounds))
    text = str(done[0]) if len(done) == 1 else f"{done[0]} to {done[-1]}"
    return text if entry.complete else f"{text} of {entry.planned}"


def _share(stat: Stat | None) -> str:
    if stat is None:
        return _NONE
    return f"{stat.mean:.4f}" + ("" if stat.std is None else f" ± {stat.std:.4f}")


def _bytes(stat: Stat | None, size: float) -> str:
    if stat is None:
        return _NONE
    return _number(stat.mean / size) + ("" if stat.std is None else f" ± {_number(stat.std / size)}")


def _number(value: float) -> str:
    """Three places, or as many as show it."""
    return f"{value:,.3f}" if value >= 0.1 else f"{value:.3g}"


def _ratio(ratio: float | None) -> str:
    return _NONE if ratio is None else f"{ratio:.3f}"


def _until(reached: Reached, size: float, options: Options) -> list[str]:
    if reached.bytes is not None:
        text = _bytes(reached.bytes, size)
    elif not reached.of:
        text = _NONE
    elif not reached.runs:
        text = "not reached"
    else:
        text = "reached" if reached.runs == reached.of else f"{reached.runs} of {reached.of} seeds"
    return [text, *([_ratio(reached.ratio)] if options.baseline else [])]
