"""Figures as bytes, and the page that shows all of a report; the page needs no other file and no network."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; color: #111; background: #fff; max-width: 68rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
thead th { border-bottom: 2px solid #111; vertical-align: bottom; white-space: normal; }
.prose th, .prose td { text-align: left; vertical-align: top; white-space: normal; overflow-wrap: anywhere; }
th:first-child { text-align: left; white-space: nowrap; } tbody th { font-weight: 600; }
img { max-width: 100%; height: auto; } figure { margin: 0; }
@media print { h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""


def rendered(figure: Figure, kind: str) -> bytes:
    """A figure as "svg" or "png" (200 dots per inch), without the date and the program's version in it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.BytesIO()
    # The canvases themselves: savefig would draw everything twice, once to find a layout that is found already.
    if kind == "svg":
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    else:
        figure.dpi = 200  # the SVG's canvas leaves its own behind
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def render(pictures: Sequence[tuple[str, bytes]], tables: str, notes: Sequence[str]) -> str:
    """The page.

    Args:
      pictures: title and SVG of each figure.
      tables: HTML.
      notes: plain text.
    """
    figures = "\n".join(
        f'<h2>{html.escape(title)}</h2>\n<figure><img alt="{html.escape(title, quote=True)}" '
        f'src="data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"></figure>'
        for title, svg in pictures
    )
    listing = "\n".join(f"<li>{html.escape(note)}</li>" for note in notes)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Federated distillation: report</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>Federated distillation: report</h1>\n{tables}\n<h2>Notes</h2>\n<ul>\n{listing}\n</ul>\n{figures}\n"
        "</body>\n</html>\n"
    )
