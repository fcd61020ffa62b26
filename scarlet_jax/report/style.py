"""Colours, lines and markers: told apart with every kind of colour vision, and in black and white."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from matplotlib.ticker import LogLocator, NullFormatter

from scarlet_jax.methods import METHODS
from scarlet_jax.report.groups import Group

# Okabe and Ito's palette. Their yellow is left out: on white paper it does not show.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#777777"

_COLOURS = (VERMILION, BLUE, GREEN, PURPLE, ORANGE, SKY, BLACK)
_LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
_MARKERS: tuple[Any, ...] = (
    "o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d", "8", "*", "H", (3, 1, 0), (4, 1, 0), (6, 1, 0),
)  # fmt: skip

# Colours of the methods in the order of their table, and whether their lines are dashed: the same method looks the same
# in every report. Further methods take the colours one after another.
_METHODS = (
    (VERMILION, False), (BLUE, False), (GREEN, False), (PURPLE, False), (ORANGE, False), (SKY, False), (SKY, True),
    (GREY, True), (BLACK, True),
)  # fmt: skip


class Look(NamedTuple):
    """How a group is drawn."""

    colour: str
    line: Any  # matplotlib's linestyle
    marker: Any  # matplotlib's marker
    filled: bool


def looks(groups: Sequence[Group]) -> list[Look]:
    """A look per group: a method's own where at most three groups of it are shown, else one after another."""
    count = Counter(group.method for group in groups)
    if len(count) > 1 and max(count.values()) <= 3:
        places = {method: place for place, method in enumerate(dict.fromkeys([*METHODS, *count]))}
        variants = {method: [group for group in groups if group.method == method] for method in count}
        return [_own_look(group, places[group.method], variants[group.method]) for group in groups]
    return [
        Look(
            _COLOURS[i % len(_COLOURS)],
            _LINES[(i + i // len(_COLOURS)) % len(_LINES)],
            _MARKERS[i % len(_MARKERS)],
            (i // len(_COLOURS)) % 2 == 0,
        )
        for i in range(len(groups))
    ]


def _own_look(group: Group, place: int, variants: Sequence[Group]) -> Look:
    """A method's colour and marker, by its place; solid and filled for the method as it is by itself."""
    plain_first = sorted(variants, key=lambda g: g.duration != g.own_duration)
    variant = plain_first.index(group)
    more = place - len(_METHODS)
    colour, dashed = _METHODS[place] if more < 0 else (_COLOURS[more % len(_COLOURS)], more // len(_COLOURS) % 2 == 0)
    line = variant + dashed
    return Look(colour, _LINES[line % len(_LINES)], _MARKERS[place % len(_MARKERS)], line % 2 == 0)


def line(look: Look) -> dict[str, Any]:
    """Arguments of a matplotlib line."""
    return {
        "color": look.colour,
        "linestyle": look.line,
        "marker": look.marker,
        "markerfacecolor": look.colour if look.filled else "white",
        "markeredgecolor": look.colour,
    }


def marks(look: Look) -> dict[str, Any]:
    """The same for its markers alone, above all lines: a curve under others is known by them."""
    return line(look) | {"linestyle": "none", "zorder": 3}


def from_zero(axis: Any) -> None:
    """An axis from a little below 0 to a little above the largest value drawn, so that no marker is cut."""
    largest = max(axis.dataLim.y1, 1e-9)
    axis.set_ylim(-0.02 * largest, 1.08 * largest)


def plain_log(axis: Any) -> None:
    """Plain numbers along a logarithmic axis, at 2 and 5 too where powers of ten alone would be too few."""
    low, high = axis.get_view_interval()
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    if high < 30 * low:
        axis.set_minor_locator(LogLocator(subs=(2, 5)))
        axis.set_minor_formatter(lambda value, _: f"{value:g}")
    else:
        axis.set_minor_formatter(NullFormatter())


@contextlib.contextmanager
def applied() -> Iterator[None]:
    """Matplotlib's settings of a report, whatever the user's own; the same input gives the same bytes."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.hashsalt": "scarlet_jax",
                "text.parse_math": False,  # a name with dollar signs is a name
                "font.size": 8,
                "axes.titlesize": 8,
                "axes.labelsize": 8,
                "figure.titlesize": 9.5,
                "legend.fontsize": 8,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.linewidth": 0.7,
                "axes.grid": True,
                "axes.axisbelow": True,
                "grid.color": "#dddddd",
                "grid.linewidth": 0.5,
                "lines.linewidth": 1.4,
                "lines.solid_capstyle": "butt",
                "lines.markersize": 4.5,
            }
        )
        yield
