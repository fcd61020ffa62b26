"""The figures of the page: smoothed over rounds, bands over seeds, told apart in black and white."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from scarlet_jax.report import style
from tools.evidence import claims, runs
from tools.evidence.intervals import interval
from tools.evidence.leaderboard import TITLES, balanced, smooth
from tools.evidence.records import LEDGERS, NEAREST, WHO, Record, Results

PANELS = {"server": "server model, all classes", "client": "mean client, own test data"}
LEDGER_TITLES = {"reference": "as the paper bills", "wire": "as a careful implementation sends"}
_MARKS = 9  # markers along a curve


class Shown(NamedTuple):
    """What style.looks needs to know of the runs under one label."""

    method: str
    duration: int
    own_duration: int


def write(everything: dict[str, Results], folder: Path) -> list[str]:
    """Draw all figures that there are runs for; their names."""
    digits, cifar = (everything.get(setting, {}) for setting in runs.SETTINGS)
    boards = {"leaderboard": (digits, "Digits"), "cifar10_small": (cifar, "CIFAR-10, small")}
    drawn: dict[str, Figure] = {}
    with style.applied():
        for name, (results, title) in boards.items():
            if board := balanced(results):
                drawn[name] = curves(board, f"{title}: accuracy over communicated bytes")
        if any(claims.ranges(digits, variant, "server") for variant in (*runs.BETAS, *runs.TEMPERATURES)):
            drawn["sharpening"] = sharpening(digits)
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in drawn.items():
            figure.savefig(folder / f"{name}.png", metadata={"Software": None})
    return list(drawn)


def looks(variants: list[str]) -> dict[str, style.Look]:
    """The look that a report gives to these variants."""
    shown = []
    for variant in variants:
        name, fields = runs.METHODS[variant.removesuffix(NEAREST)]
        method, _, extra = name.partition("+")
        own = 50 if method == "scarlet" else 0  # any value: only whether D is the method's own is asked
        plain = not extra and "cache.duration" not in fields and not variant.endswith(NEAREST)
        shown.append(Shown(method, own if plain else own + 1, own))
    return dict(zip(variants, style.looks(shown), strict=True))


def curves(results: Results, title: str) -> Figure:
    """Accuracy over cumulative bytes: a column for server and mean client, a row a ledger."""
    variants = list(results)
    look = looks(variants)
    figure = Figure(figsize=(7.2, 6.2), dpi=170, layout="constrained")
    for axes, ledger in zip(figure.subplots(2, 2, sharey="col"), LEDGERS, strict=True):
        for axis, who in zip(axes, WHO, strict=True):
            axis.set_xscale("log")
            drawn = [
                _curve(axis, results[variant], who, ledger, look[variant], place)
                for place, variant in enumerate(variants)
            ]
            _frame(axis, [curve for curve in drawn if curve is not None])
            axis.set_title(PANELS[who])
            axis.set_xlabel(f"MB up and down, {LEDGER_TITLES[ledger]}")
            axis.set_ylabel("top-1 accuracy")
            style.plain_log(axis.xaxis)
    seeds = len(results[variants[0]])
    count = "one seed" if seeds == 1 else f"{seeds} seeds; bands: ± one standard deviation over seeds"
    lines = {TITLES[variant]: style.line(look[variant]) for variant in variants}
    _legend(figure, title, lines, 4, f"mean of at most 5 rounds and of {count}")
    return figure


def _curve(
    axis: Any, records: dict[int, Record], who: str, ledger: str, look: style.Look, place: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Draw a curve with its band, or a level for a method without bytes; megabytes and mean accuracy, f64[R]."""
    accuracy = np.stack([smooth(record.accuracy(who)) for record in records.values()])
    if not np.isfinite(accuracy).all():
        return None
    mean, std = accuracy.mean(0), accuracy.std(0, ddof=1) if len(accuracy) > 1 else np.zeros(accuracy.shape[1])
    megabytes = np.stack([record.columns[ledger] for record in records.values()]).mean(0) / 1e6
    if not np.isfinite(megabytes).all() or megabytes[-1] == 0:
        axis.axhline(mean[-1], **style.line(look) | {"marker": "none"})
        axis.plot([0.03], mean[-1:], transform=axis.get_yaxis_transform(), **style.marks(look))
        return np.full(1, np.nan), mean[-1:]
    axis.plot(megabytes, mean, **style.line(look) | {"marker": "none"})
    # Markers at even distances along the logarithmic axis, shifted from curve to curve.
    steps = np.linspace(np.log(megabytes[0]), np.log(megabytes[-1]), _MARKS) + 0.1 * (place % 4)
    chosen = np.unique(np.searchsorted(np.log(megabytes), steps).clip(max=len(mean) - 1))
    axis.plot(megabytes[chosen], mean[chosen], **style.marks(look))
    axis.fill_between(megabytes, mean - std, mean + std, color=look.colour, alpha=0.13, linewidth=0)
    return megabytes, mean


def _frame(axis: Any, curves: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Show where methods differ: from a little below the lowest end of a curve, and from where curves come in view."""
    ends = [mean[-1] for _, mean in curves]
    low = min(ends) - max(0.4 * (max(ends) - min(ends)), 0.06)
    axis.set_ylim(low, min(1.0, max(ends) + 0.15 * (max(ends) - min(ends)) + 0.01))
    inside = [megabytes[mean >= low] for megabytes, mean in curves if np.isfinite(megabytes).all()]
    if inside:
        axis.set_xlim(0.8 * min(part[0] for part in inside if len(part)), 1.3 * max(part[-1] for part in inside))


def sharpening(results: Results) -> Figure:
    """Accuracy over the concentration of the partition, for every fixed beta and T."""
    titles = {name: f"Enhanced ERA, β = {beta:g}" for name, beta in runs.BETAS.items()}
    titles |= {name: f"ERA, T = {value:g}" for name, value in runs.TEMPERATURES.items()}
    found = style.looks([Shown("sharpening", 0, 0) for _ in titles])  # of one method: one colour after another
    look = dict(zip(titles, found, strict=True))
    figure = Figure(figsize=(7.2, 3.1), dpi=170, layout="constrained")
    counts = set()
    for axis, who in zip(figure.subplots(1, 2), WHO, strict=True):
        axis.set_xscale("log")
        for place, name in enumerate(titles):
            shift = 1 + 0.05 * (place - 2)  # side by side, so that the bars do not hide each other
            means = [interval(np.array(list(own.values()))) for own in claims.over_alphas(results, name, who).values()]
            if not means[0].n:
                continue
            counts.add(means[0].n)
            half = [0 if value.n < 2 else value.mean - value.low for value in means]
            x = [alpha * shift for alpha in runs.ALPHAS.values()]
            axis.errorbar(x, [value.mean for value in means], half, **style.line(look[name]), capsize=2)
        axis.set_title(PANELS[who])
        axis.set_xlabel("α of the Dirichlet partition (small: more skewed)")
        axis.set_ylabel("top-1 accuracy")
        axis.set_xticks(list(runs.ALPHAS.values()), [f"{alpha:g}" for alpha in runs.ALPHAS.values()])
        axis.minorticks_off()
    count = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else str(min(counts))
    _legend(figure, "Digits: sharpening at a fixed parameter over the degree of non-IID",
            {titles[name]: style.line(look[name]) for name in titles}, 3,
            f"{count} seeds; bars: 95 % intervals of the mean")  # fmt: skip
    return figure


def _legend(figure: Figure, title: str, lines: dict[str, dict[str, Any]], columns: int, note: str) -> None:
    figure.suptitle(title, fontweight="bold")
    figure.legend(
        handles=[Line2D([], [], label=label, **look) for label, look in lines.items()],
        loc="outside lower center", title=note, title_fontsize=7, ncols=columns, frameon=False, handlelength=3.2,
    )  # fmt: skip
