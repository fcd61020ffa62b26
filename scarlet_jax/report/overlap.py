"""Curves that lie on each other, drawn so that each is seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.lines import Line2D

_NEAR = 0.7  # points: half the width of a line
_WIDEST = 7.0  # points that a curve under very many others is wider


def widen_hidden(curves: Sequence[Line2D], dpi: float) -> None:
    """Make a curve wider for each later one that lies on it, so that it is seen on both sides of that.

    One curve lies on another if it covers the other's middle along most of it.

    Args:
      curves: of a panel, in their places, the lowest first.
      dpi: dots per inch of their figure.
    """
    paths = [_on_paper(curve, dpi) for curve in curves]
    for lower, curve in enumerate(curves):
        above = sum(_covered(paths[lower], path) for path in paths[lower + 1 :])
        # Each next one adds less, so that a dozen of them do not fill the panel.
        curve.set_linewidth(curve.get_linewidth() + _WIDEST * (1 - 0.8**above))


def _on_paper(curve: Line2D, dpi: float) -> np.ndarray:
    """f64[N, 2]: where a curve's points are, in points from the figure's corner."""
    places = curve.get_transform().transform(curve.get_xydata())
    return places[np.isfinite(places).all(1)] * 72 / dpi


def _covered(lower: np.ndarray, upper: np.ndarray) -> bool:
    if not len(lower) or not len(upper):
        return False
    (x, y), (along, height) = lower.T, upper.T
    there = (x >= along[0]) & (x <= along[-1])
    near = np.abs(np.interp(x, along, height) - y) < _NEAR
    return bool((there & near).mean() > 0.6)
