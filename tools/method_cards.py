"""Writes docs/methods.md: the list of the methods, and a card for each that says how faithful it is.

    python -m tools.method_cards

A card's facts are in docs/cards/METHOD.toml. Title, parameters, ranges, defaults and help texts come from the table of
methods. A formula for bytes is written once: the page shows it, and `evaluate` computes it.
"""

from __future__ import annotations

import math
import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
CARDS, PAGE = ROOT / "docs" / "cards", ROOT / "docs" / "methods.md"
LEDGERS, DIRECTIONS = ("reference", "wire"), ("up", "down")

SYMBOLS = {
    "M, K": "participants of the round, clients",
    "P": "public samples drawn in the round",
    "C": "classes",
    "b": "`comm.label_bits`",
    "W": "bytes of a model's weights and BatchNorm statistics in float32",
    "R": "samples requested in the round; without a cache R = P",
    "s": "labels that this participant uploads; R, unless clients choose",
    "L": "samples of the last round's list that were kept; P, unless the server drops some",
    "F": "of these, the ones whose label was broadcast and not served from the cache",
    "c": "cache entries that this participant catches up on",
    "h, g": "classes whose vector this participant sends, and receives",
    "d": "features of a model: the length of a prototype",
    "u, x": "labels and emptying marks of its catch-up package in the `reference` ledger",
}
# A round on CIFAR-10 with the defaults of configs/base.py; with the cache, the share of requests that the planner gives
# for 2,000 rounds of full participation.
EXAMPLE = {"M": 100, "K": 100, "P": 1000, "C": 10, "b": 32, "s": 1000, "L": 1000, "F": 1000, "R": 1000,
           "h": 10, "g": 10, "d": 64}  # fmt: skip
CACHED = {"R": 285, "s": 285, "F": 285, "c": 0, "u": 0, "x": 0}
EXAMPLE_SETTING = (
    "The table evaluates the formulas for the defaults of `configs/base.py`: 10 classes, P = 1,000, all clients, "
    "ResNet-20, clients that hold all classes. For SCARLET it takes the mean share of samples that are requested in "
    "2,000 rounds, 0.285."
)


class Card(NamedTuple):
    """The facts of one method that are in no table of the program: the keys of its file."""

    sends: str
    receives: str
    what: str
    formula: str  # of the teacher, or of what the server computes
    published: Sequence[str]  # what is as in the paper
    authors_code: Sequence[
        str
    ]  # what is as in the authors' code, where that says more than the paper, or other than it
    ours: Sequence[str]
    disagreements: Sequence[str]  # among public implementations
    values: Mapping[str, str]  # parameter -> its published value
    checked: Mapping[str, str]  # test file -> what is checked there against what
    bytes: Mapping[str, str] = {}  # LEDGER_DIRECTION -> formula, and perhaps "note"; empty: nothing is billed
    paper: str = ""
    link: str = ""
    code: str = ""


def read(folder: Path = CARDS) -> dict[str, Card]:
    """The cards by method."""
    return {path.stem: Card(**tomllib.loads(path.read_text())) for path in sorted(folder.glob("*.toml"))}


def evaluate(formula: str, values: Mapping[str, Any]) -> int:
    """The value of a card's formula, with numbers for its symbols and for the method's parameters."""
    return eval(formula, {"__builtins__": {}, "ceil": math.ceil, "log2": math.log2}, dict(values))


def evaluated(card: Card, values: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Bytes of one participant in one round, up and down, by ledger."""
    return {
        ledger: (evaluate(card.bytes[f"{ledger}_up"], values), evaluate(card.bytes[f"{ledger}_down"], values))
        for ledger in LEDGERS
    }


def render(cards: Mapping[str, Card]) -> str:
    """The page."""
    from scarlet_jax.methods import METHODS

    known = [name for name in METHODS if name in cards]  # in the table's order
    parts = {
        "table": overview(known, cards),
        "symbols": table(("symbol", "what it is"), SYMBOLS.items()),
        "example_setting": EXAMPLE_SETTING,
        "example": example(known, cards),
        "cards": "\n\n".join(one_card(name, cards[name]) for name in known),
    }
    page = (CARDS / "page.md").read_text()
    for word, text in parts.items():
        page = page.replace(f"{{{word}}}", text)
    lines = [filled(paragraph) for paragraph in page.split("\n\n")]
    return "\n\n".join(lines).rstrip() + "\n"


def overview(names: Sequence[str], cards: Mapping[str, Card]) -> str:
    """All methods in a table that leads to their cards."""
    rows = []
    for name in names:
        card, entry = cards[name], entry_of(name)
        parameters = ", ".join(f"`{parameter}`" for parameter in entry.parameters)
        rows.append((f"[`{name}`](#{anchor(entry.title)})", card.sends, card.receives, card.what, parameters))
    return table(("method", "clients send", "clients receive", "what it is", "parameters"), rows)


def example(names: Sequence[str], cards: Mapping[str, Card]) -> str:
    """Bytes of one participant in a round, for one setting."""
    values = EXAMPLE | {"W": model_bytes()}
    rows = []
    for name in names:
        if cards[name].bytes:
            entry = entry_of(name)
            own = values | (CACHED if entry.duration else {}) | defaults(name)
            found = evaluated(cards[name], own)
            rows.append((entry.title, *(f"{number:,}" for ledger in LEDGERS for number in found[ledger])))
    head = ("bytes of one participant", *(f"`{ledger}` {way}" for ledger in LEDGERS for way in DIRECTIONS))
    return table(head, rows, "l" + "r" * (len(head) - 1))


def one_card(name: str, card: Card) -> str:
    """The card of one method."""
    entry = entry_of(name)
    source = [card.paper + (f", [{card.link.removeprefix('https://')}]({card.link})" if card.link else "")]
    if card.code:
        source.append(f"Authors' code: [{card.code.removeprefix('https://github.com/')}]({card.code})")
    blocks = [f"## {entry.title}", ". ".join(filter(None, source)) + "." if card.paper else "", f"    {card.formula}"]
    blocks.append(facts(name, card))
    if entry.parameters:
        blocks.append(parameters(name, card))
    for heading, texts in (
        ("As published", card.published),
        ("As in the authors' code", card.authors_code),
        ("Ours", card.ours),
        ("Where public implementations disagree", card.disagreements),
    ):
        if texts:
            blocks.append(f"{heading}:\n\n" + "\n".join(filled(f"* {text}", "  ") for text in texts))
    if card.bytes:
        rows = [(f"`{ledger}`", *(f"`{card.bytes[f'{ledger}_{way}']}`" for way in DIRECTIONS)) for ledger in LEDGERS]
        blocks.append(table(("bytes of one participant", *DIRECTIONS), rows))
        blocks.append(card.bytes.get("note", ""))
    tests = [f"* [{Path(path).name}](../{path}): {text}" for path, text in card.checked.items()]
    blocks.append("Checked against:\n\n" + "\n".join(filled(test, "  ") for test in tests))
    return "\n\n".join(block for block in blocks if block)


def facts(name: str, card: Card) -> str:
    """What the table of methods says of a method, as sentences."""
    from scarlet_jax.tables import load

    entry = entry_of(name)
    sentences = [f"Clients send {card.sends} and receive {card.receives}."] if card.sends != "-" else []
    sentences.append("There is a server model." if entry.server else "There is no server model.")
    if entry.distils:
        cached = load(entry.builder)().teach is None
        sentences.append(f"Labels can be cached; D is {entry.duration} by default." if cached else "There is no cache.")
    if not entry.public:
        sentences.append("No public images are used.")
    if entry.own_models:
        sentences.append("Clients may have different architectures.")
    else:
        sentences.append("Clients keep no models of their own.")
    if entry.group_servers:
        sentences.append("The server has a model for each architecture of theirs.")
    for field, ask in entry.asks.items():
        allowed = f"{ask.least:g}" if ask.least == ask.most else f"at least {ask.least:g}"
        sentences.append(f"`{field}` must be {allowed}.")
    return " ".join(sentences)


def parameters(name: str, card: Card) -> str:
    """A method's parameters: from the table of methods, with the published values of the card."""
    from scarlet_jax.options.rules import method_rules

    rules = method_rules(name)
    rows = []
    for parameter, own in entry_of(name).parameters.items():
        allowed = rules[f"method.{parameter}"].words().removeprefix("open (None) or ")
        rows.append((f"`{parameter}`", own.help, own.shown or own.default, allowed, card.values[parameter]))
    return table(("parameter", "what it is", "default", "allowed", "published"), rows)


def entry_of(name: str):
    """What the table says of a method."""
    from scarlet_jax.methods import METHODS

    return METHODS[name]


def defaults(name: str) -> dict[str, Any]:
    """The method's parameters at their defaults."""
    return {parameter: own.default for parameter, own in entry_of(name).parameters.items()}


def model_bytes(name: str = "resnet20", num_classes: int = 10, shape: tuple[int, ...] = (32, 32, 3)) -> int:
    """Bytes of a model's weights and BatchNorm statistics."""
    import jax

    from scarlet_jax.models import build_model

    model = build_model(name, num_classes, "xla", None, False)
    image = jax.ShapeDtypeStruct((1, *shape), "float32")
    made = jax.eval_shape(lambda key, x: model.init(key, x, train=False), jax.random.key(0), image)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(made))


def table(head: Sequence[str], rows, align: str = "") -> str:
    """A Markdown table."""
    marks = ["---:" if mark == "r" else "---" for mark in align or "l" * len(head)]
    lines = [head, marks, *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def anchor(title: str) -> str:
    """What leads to a heading on the page."""
    return title.lower().replace(" ", "-")


def filled(paragraph: str, indent: str = "") -> str:
    """A paragraph of prose in lines of at most 120 characters; tables, lists, headings and code stay as they are."""
    if paragraph.startswith(("|", "#", "    ", "<", "* ")) and not indent:
        return paragraph
    return textwrap.fill(
        " ".join(paragraph.split()), 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


if __name__ == "__main__":
    PAGE.write_text(render(read()))
