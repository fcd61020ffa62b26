"""The text of --help: examples first, then the flags, then every field of the config with default and comment.

The comments are those of `configs/base.py`, read from its source, and what the tables of methods, partitioners and
models say, so that there is one place to describe a field.
"""

from __future__ import annotations

import ast
import io
import shutil
import textwrap
import tokenize
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import config_dict

from scarlet_jax import data, methods, models
from scarlet_jax.models import conv
from scarlet_jax.options import fields
from scarlet_jax.tables import REQUIRED
from scarlet_jax.training_tables import OPTIMIZERS, SCHEDULES


def render(
    config: config_dict.ConfigDict,
    base_source: str,
    config_path: str | None,
    own_flags: Sequence[flags.Flag],
    command: str,
    description: str,
    examples: Sequence[tuple[str, str]],
) -> str:
    """The whole help text, as wide as the terminal but 80 to 120 columns."""
    width = min(max(shutil.get_terminal_size((100, 24)).columns, 80), 120)
    blocks = [f"{command} --config=FILE [flags] [--config.FIELD=VALUE ...]", description]
    shown = []
    for example, meaning in examples:
        shown.append(f"  {command} {example}")
        if meaning:
            shown += textwrap.wrap(meaning, width, initial_indent="      ", subsequent_indent="      ")
    blocks.append("\n".join(["Examples:", *shown]) if shown else "")

    rows = [
        ("--config", "", "the experiment: a Python file with get_config(), or a card's name; :ARG passes an argument")
    ]
    rows += [
        (f"--{flag.name}", _value(flag.default) if flag.default is not None else "", flag.help) for flag in own_flags
    ]
    blocks.append("Flags:\n" + _table(rows, width))

    values = fields.leaves(config)
    source = config_path or "configs/base.py"
    blocks.append(f"Fields, set as --config.FIELD=VALUE, with their values in {source}:")
    described: set[str] = set()
    for heading, comments in descriptions(base_source, values.get("method.name", "")):
        rows = [(field, _value(values[field]), comment) for field, comment in comments if field in values]
        described.update(field for field, _, _ in rows)
        if rows:
            blocks.append(textwrap.fill(heading, width) + "\n" + _table(rows, width))
    rows = [(field, _value(value), "") for field, value in values.items() if field not in described]
    if rows:
        blocks.append("Others\n" + _table(rows, width))
    return "\n\n".join(block for block in blocks if block)


def descriptions(base_source: str, method: str = "") -> list[tuple[str, list[tuple[str, str]]]]:
    """`field_comments`, completed from the tables; `method` may be one that the table does not have."""
    table = methods.METHODS | ({method: methods.find(method)} if method else {})
    filled = {
        "{methods}": ", ".join([*methods.METHODS, "or MODULE:FUNCTION"]),
        "{durations}": _durations(),
        "{partitions}": ", ".join(name + (f" ({p.about})" if p.about else "") for name, p in data.PARTITIONERS.items()),
        "{models}": ", ".join(models.MODELS),
        "{convolutions}": ", ".join(conv.CONVS),
        "{optimizers}": ", ".join(OPTIMIZERS),
        "{rates}": ", ".join(f"{own.lr:g} with {name}" for name, own in OPTIMIZERS.items()),
        "{schedules}": ", ".join(SCHEDULES),
    }
    groups = []
    for heading, comments in field_comments(base_source):
        for word, text in filled.items():
            comments = [(field, comment.replace(word, text)) for field, comment in comments]
        if "method.name" in dict(comments):
            comments += [(f"method.{name}", text) for name, text in _parameters(table).items()]
        if "partition.name" in dict(comments):
            own = [
                (name, f"{', '.join(data.readers(name))}: {found.help}") for name, found in data.parameters().items()
            ]
            comments = [comments[0], *((f"partition.{name}", text) for name, text in own), *comments[1:]]
        groups.append((heading, comments))
    return groups


def _durations() -> str:
    own = [f"{name} {entry.duration}" for name, entry in methods.METHODS.items() if entry.duration]
    return ", ".join([*own, "others 0"])


def _parameters(table: dict[str, methods.Entry]) -> dict[str, str]:
    """What each parameter is to the methods that have it."""
    found: dict[str, list[str]] = {}
    for method, entry in table.items():
        for name, own in entry.parameters.items():
            default = own.shown or own.default
            shown = "needs a value" if default is REQUIRED else f"(open: {default})"
            found.setdefault(name, []).append(" ".join(filter(None, (f"{method}:", own.help, shown))))
    return {name: ". ".join(texts) for name, texts in found.items()}


def field_comments(source: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Groups of a config's source: each heading, and field and description of the assignments below it.

    A heading is a comment that begins with `##`. A field is described by the comment behind it; a comment in the lines
    above it, with one `#`, is added as further sentences.
    """
    assigned = {
        node.end_lineno: ast.unparse(node.targets[0]).partition(".")[2]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute)
    }
    groups: list[tuple[str, list[tuple[str, str]]]] = []
    above: list[str] = []
    last = 0  # line of the comment before
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, comment = token.start[0], token.string.lstrip("# ").rstrip()
        above = above if line == last + 1 else []
        last = line
        if not token.line.lstrip().startswith("#"):
            if line in assigned:
                groups = groups or [("Fields", [])]
                groups[-1][1].append((assigned[line], ". ".join([comment, *([" ".join(above)] if above else [])])))
            above = []
        elif token.string.startswith("##"):
            groups.append((comment, []))
        else:
            above.append(comment)
    return groups


def _table(rows: Sequence[tuple[str, str, str]], width: int) -> str:
    """Name, value and description in columns; a long value pushes the description to the next line."""
    name_width, value_width = 28, 10
    indent = " " * (2 + name_width + 1 + value_width + 1)
    lines: list[str] = []
    for name, value, text in rows:
        head = f"  {name:<{name_width}} {value:<{value_width}} "
        wrapped = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)
        if len(head) > len(indent) or not wrapped:
            lines += [head.rstrip(), *wrapped]
        else:
            lines += [head + wrapped[0][len(indent) :], *wrapped[1:]]
    return "\n".join(lines)


def _value(value: Any) -> str:
    """A value as it is typed on the command line; `open` where the method or the program chooses."""
    if value is None:
        return "open"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) or "empty"
