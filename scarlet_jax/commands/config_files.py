"""Configs as Python files: loading them, and the workdir that is named after them. Nothing here imports jax."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import sys
import traceback
from pathlib import Path

from ml_collections import config_dict

from scarlet_jax.commands import cards
from scarlet_jax.errors import UserError, first_line, shown
from scarlet_jax.options import fields as config_fields


def get_config(name: str) -> config_dict.ConfigDict:
    """The config that `--config=NAME` names: a file or a card, and the argument of its get_config after a colon.

    `get_config("digits")`, `get_config("paper/cifar10:dsfl+cache")`, `get_config("my/experiment.py")`.

    Raises:
      UserError: there is no such file or card, or the file cannot be loaded.
    """
    return load_config(cards.find(name))


def load_config(path: str, method: str | None = None) -> config_dict.ConfigDict:
    """The config of a file; `FILE.py:ARG` passes ARG to its get_config.

    A config may set other fields for one method than for another. The `method` that a flag has chosen is therefore
    passed to get_config if it has a parameter of that name: `FILE.py --config.method.name=dsfl` is `FILE.py:dsfl`.

    Raises:
      UserError: there is no such file, or it cannot be loaded.
    """
    file, *argument = path.split(":", 1)
    if not os.path.isfile(file):
        meant = cards.meant(file)
        hint = f" (did you mean {meant}{path[len(file) :]}?)" if meant else f"; {cards.offered()}"
        named = shown(file).strip("'")
        raise UserError(f"There is no config {named}{hint}.")
    folder = Path(file).resolve().parent
    for start in (folder, cards.FOLDER):
        root = next(parent for parent in (start, *start.parents) if not (parent / "__init__.py").exists())
        if root != start and str(root) not in sys.path:
            sys.path.append(str(root))  # a config imports its neighbours, and a checkout's `configs`, from anywhere
    spec = importlib.util.spec_from_file_location("scarlet_jax_config", file)
    if spec is None or spec.loader is None:
        raise UserError(f"The config {file} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        parameters = inspect.signature(module.get_config).parameters
        if method and not argument and "method" in parameters:
            argument = [method]
        if argument and not parameters:
            raise UserError(f"The config {file} takes no argument: leave out :{argument[0]}.")
        config = module.get_config(*argument)
    except UserError:
        raise
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == spec.origin]
        where = f"line {lines[-1]}: " if lines else ""
        what = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"The config {path} cannot be loaded: {where}{what}") from None
    if not isinstance(config, config_dict.ConfigDict):
        raise UserError(f"get_config of {file} returns {type(config).__name__}, not an ml_collections ConfigDict.")
    config_fields.make_plain(config)
    return config


def default_workdir(config_path: str, config: config_dict.ConfigDict) -> str:
    """`runs/<config>-<method>-s<seed>`, such as runs/digits-dsfl+cache-s0 for `digits.py:dsfl+cache`.

    <config> is the path under configs/ with dashes, and the argument if there is one.
    """
    file, _, argument = config_path.partition(":")
    parts = Path(file).resolve().with_suffix("").parts
    start = max((i for i, part in enumerate(parts[:-1]) if part == "configs"), default=len(parts) - 2)
    names = list(parts[start + 1 :])
    if argument:
        names.append(file_name(argument))
    if argument.partition("+")[0] != config.method.name:
        names.append(file_name(config.method.name))
    return os.path.join("runs", "-".join([*names, f"s{config.seed}"]))


def file_name(text: str) -> str:
    """The text as part of a directory's name: characters with a meaning in paths become dashes."""
    return re.sub(r"[^\w.=+]+", "-", text).strip("-.")
