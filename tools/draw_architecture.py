"""Draws docs/images/architecture.svg: the parts of the package with what imports what, and the data of one round.

    python -m tools.draw_architecture

Everything in it is read from the source: modules and imports, the records that pass from phase to phase with their
fields, and the names of the phases. An arrow means "imports"; one that follows from two others is left out.
"""

from __future__ import annotations

import ast
import html
import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "scarlet_jax"
PICTURE = ROOT / "docs" / "images" / "architecture.svg"

BASE = "base"  # the modules that stand in no folder and import nothing of the package
ALONE = ("build", "learners")  # modules that are drawn like a package
PURPOSE = {
    "commands": "command lines and their help",
    "runtime": "host I/O while a run lasts",
    "preview": "what a run will take, before it starts",
    "options": "what a config may say",
    "build": "config -> Algorithm",
    "learners": "config -> learners",
    "methods": "what is federated",
    "engine": "many models on devices",
    "protocol": "cache, labels, bytes: pure functions",
    "models": "networks, convolutions",
    "data": "files -> arrays -> clients",
    "report": "figures, tables of runs",
    BASE: "what all others may use",
}

# Phase and the file that names it; what it takes; what it returns; the records that are shown below it.
ROUND = (
    ("plan", "round number, stamps, copies' stamps, last Broadcast", "Plan", "protocol/round.py", ("Plan",)),
    (
        "train {group.name}",
        "client models, last Broadcast, Plan, private and public images",
        "client models, probs f32[M, P, C], losses",
        "protocol/round.py",
        ("Uploads",),
    ),
    (
        "server",
        "server model, cache, Uploads; Method.aggregate makes Labels of them",
        "server model, cache, Broadcast, RoundReport",
        "protocol/round.py",
        ("Labels", "Broadcast"),
    ),
    ("evaluate server", "server and client models, test images", "Evaluation", "engine/evaluation.py", ("Evaluation",)),
)
REPORT = ("methods/base.py", "RoundReport")
PHASES_OF = ("methods/distillation.py", "engine/evaluation.py")

LINE, CHARACTER, FONT = 16, 7.3, "Menlo, Consolas, DejaVu Sans Mono, monospace"


def package_of(module: str) -> str:
    """The package of "engine.fleet" or "errors"."""
    first = module.partition(".")[0]
    return first if (PACKAGE / first).is_dir() or first in ALONE else BASE


def modules() -> dict[str, Path]:
    """Every module of the package by its name inside it, without the shims that only start a command."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name and parts[-1] != "__main__" and not starts_a_command(path):
            found[name] = path
    return found


def starts_a_command(path: Path) -> bool:
    """Whether a module at the top only calls one of `commands`."""
    return path.parent == PACKAGE and "scarlet_jax.commands" in path.read_text()


def contents(package: str, found: dict[str, Path]) -> list[str]:
    """Modules and folders of a package."""
    inside = [name.split(".")[1:] for name in found if package_of(name) == package and "." in name]
    folders = {parts[0] for parts in inside if len(parts) > 1}
    return sorted({f"{parts[0]}/" if parts[0] in folders else parts[0] for parts in inside})


def imports(found: dict[str, Path]) -> set[tuple[str, str]]:
    """(importing package, imported package); the experiment cards are not drawn."""
    edges = set()
    for name, path in found.items():
        for node in ast.walk(ast.parse(path.read_text())):
            targets = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                targets = [f"{node.module}.{alias.name}" for alias in node.names]
            for target in targets:
                if target.startswith("scarlet_jax."):
                    edges.add((package_of(name), package_of(target.removeprefix("scarlet_jax."))))
    return {(a, b) for a, b in edges if a != b and b != "configs"}


def levels(packages: list[str], edges: set[tuple[str, str]]) -> dict[str, int]:
    """The longest way from a package to one that imports nothing; a circle is an error."""
    result: dict[str, int] = {}

    def level(package: str, above: tuple[str, ...]) -> int:
        if package in above:
            raise SystemExit(f"Packages import each other in a circle: {' -> '.join((*above, package))}.")
        if package not in result:
            result[package] = 1 + max((level(b, (*above, package)) for a, b in edges if a == package), default=-1)
        return result[package]

    for package in packages:
        level(package, ())
    return result


def direct(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The edges that do not follow from others."""
    reached = set(edges)
    while more := {(a, d) for a, b in reached for c, d in reached if b == c} - reached:
        reached |= more
    return {
        (a, b) for a, b in edges if not any((a, c) in edges and (c, b) in reached for c in {a for a, _ in edges} - {b})
    }


def fields(file: str, record: str) -> list[str]:
    """The fields of a NamedTuple, each with the shape that its comment begins with."""
    text = (PACKAGE / file).read_text()
    lines = text.splitlines()
    (node,) = (n for n in ast.parse(text).body if isinstance(n, ast.ClassDef) and n.name == record)
    result = []
    for item in node.body:
        if isinstance(item, ast.AnnAssign):
            shape = re.search(r"#.*?\b((?:bool|[fiu]\d+)\[[^\]]*\])", lines[item.lineno - 1])
            result.append(f"{ast.unparse(item.target)} {shape[1]}" if shape else ast.unparse(item.target))
    return result


def check_phases() -> None:
    """The phases drawn are those of the source."""
    source = "".join((PACKAGE / file).read_text() for file in PHASES_OF)
    for phase, *_ in ROUND:
        if f'"{phase}"' not in source:
            raise SystemExit(f"No phase is called {phase!r} in {' or '.join(PHASES_OF)}: adapt ROUND.")


class Svg:
    """Boxes, arrows and text, in the order in which they are added."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.height = 0.0

    def box(self, x: float, y: float, width: float, title: str, lines: list[str], fill: str = "#eef3fa") -> float:
        """A box as high as its lines; returns its lower edge."""
        bottom = y + (len(lines) + 1) * LINE + 14
        size = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{bottom - y:g}"'
        self.parts.append(f'<rect {size} rx="6" fill="{fill}" stroke="#8aa0b8"/>')
        self.text(x + 10, y + 19, title, "bold")
        for number, line in enumerate(lines, 1):
            self.text(x + 10, y + 19 + number * LINE, line)
        self.height = max(self.height, bottom)
        return bottom

    def text(self, x: float, y: float, text: str, weight: str = "normal") -> None:
        """One line."""
        self.parts.append(f'<text x="{x:g}" y="{y:g}" font-weight="{weight}">{html.escape(text)}</text>')

    def arrow(self, *points: tuple[float, float]) -> None:
        """A line through the points that ends in a head pointing down."""
        places = " ".join(f"{x:g},{y:g}" for x, y in points)
        x, y = points[-1]
        self.parts.append(f'<polyline points="{places}" fill="none" stroke="#47617d"/>')
        self.parts.append(f'<polygon points="{x - 4:g},{y - 8:g} {x + 4:g},{y - 8:g} {x:g},{y:g}" fill="#47617d"/>')

    def render(self, width: float) -> str:
        """The whole document."""
        height = self.height + 20
        size = f'width="{width:g}" height="{height:g}"'
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width:g} {height:g}" '
            f'font-family="{FONT}" font-size="12" fill="#1b2733">\n<rect {size} fill="white"/>\n'
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )


def wrap(words: list[str], width: float) -> list[str]:
    """Words, divided by commas, in lines that fit into a box of this width; a name stays beside its shape."""
    text = ", ".join(word.replace(" ", "\0") if "[" in word else word for word in words)
    return [line.replace("\0", " ") for line in textwrap.wrap(text, int((width - 20) / CHARACTER))]


def draw_rooms(svg: Svg, left: float, width: float) -> None:
    """Packages by level, the highest first; long arrows run beside the boxes in the middle."""
    found = modules()
    edges = imports(found)
    packages = sorted({package_of(name) for name in found})
    level = levels(packages, edges)
    low = [package for package in ("report", "protocol", "data", "models") if package in packages]
    column = width / len(low)
    at: dict[str, tuple[float, float, float, float]] = {}  # x, y, width, lower edge
    y = 50.0
    for step in sorted(set(level.values()), reverse=True):
        bottoms = []
        row = [package for package in packages if level[package] == step]
        middle = [package for package in row if package not in low and package != BASE]
        for package in row:
            if package in low:
                x, own = left + low.index(package) * column, column - 12
            elif package == BASE:
                x, own = left, width - 12
            else:
                own = 2 * column / len(middle)
                x, own = left + column + middle.index(package) * own, own - 12
            title = " ".join(f"{name}.py" for name in found if package_of(name) == BASE) if package == BASE else package
            lines = [
                *textwrap.wrap(PURPOSE.get(package, ""), int((own - 20) / CHARACTER)),
                *wrap(contents(package, found), own),
            ]
            bottoms.append(svg.box(x, y, own, title, lines))
            at[package] = x, y, own, bottoms[-1]
        y = max(bottoms) + 28
    for a, b in sorted(direct(edges)):
        ax, ay, aw, abottom = at[a]
        bx, by, bw, _ = at[b]
        middle = bx + bw / 2
        if ax < middle < ax + aw:
            svg.arrow((middle, abottom), (middle, by))
        elif bx < ax + aw / 2 < bx + bw:
            svg.arrow((ax + aw / 2, abottom), (ax + aw / 2, by))
        else:
            svg.arrow((ax if middle < ax else ax + aw, ay + 19), (middle, ay + 19), (middle, by))


def draw_round(svg: Svg, left: float, width: float) -> None:
    """The phases of a round from top to bottom, each with the records that pass to the next."""
    check_phases()
    y, middle = 50.0, left + width / 2
    for phase, takes, gives, file, records in ROUND:
        name = phase.replace("{group.name}", "GROUP, block by block")
        lines = [*wrap([f"takes {takes}"], width), *wrap([f"gives {gives}"], width)]
        bottom = svg.box(left, y, width, f"phase: {name}", lines, "#fdf1e3")
        for record in records:
            inner = width - 40
            bottom = svg.box(left + 20, bottom + 8, inner, record, wrap(fields(file, record), inner))
        if phase == "server":
            inner = width - 40
            record = REPORT[1]
            bottom = svg.box(left + 20, bottom + 8, inner, record, wrap(fields(*REPORT), inner))
        y = bottom + 28
        svg.arrow((middle, bottom), (middle, y))
    text = "bill: Counts -> bytes in both ledgers; row of metrics.jsonl; checkpoint. Then the next round."
    svg.box(left, y, width, "host", wrap([text], width), "#eaf5ea")


def render() -> str:
    """The picture as SVG."""
    svg = Svg()
    svg.text(20, 28, "The packages: an arrow means that the upper package imports the lower one", "bold")
    draw_rooms(svg, 20, 760)
    svg.text(820, 28, "The data of one round of a distillation method", "bold")
    draw_round(svg, 820, 520)
    return svg.render(1360)


if __name__ == "__main__":
    PICTURE.write_text(render())
