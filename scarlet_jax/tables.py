"""What the tables of methods, models, convolutions, partitioners, data sets and metrics share.

A table is data: it names a function as "module:function". Importing a table therefore imports none of its functions,
and `--help` and refusals need not wait for jax.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

REQUIRED = inspect.Parameter.empty  # the default of a parameter that has none


class Parameter(NamedTuple):
    """A parameter of a function that a table names, and a field of the config.

    Those of methods are fields under config.method, and open unless the user sets them. Those of partitioners are
    fields under config.partition, and have their default.
    """

    default: Any  # the function's own
    help: str = ""
    least: float = -math.inf
    most: float = math.inf
    choices: tuple[Any, ...] = ()  # if there are any, only these are allowed
    kind: type = float
    # Whether it is a number that decides neither shapes nor structure. The function may then get a tracer in its place,
    # so that what is compiled for one value serves all others.
    traced: bool = False
    shown: str = ""  # how --help shows the default, if not as itself
    synonyms: tuple[str, ...] = ()  # other names that people use, in small letters without spaces and underscores


def load(named: str | Callable[..., Any]) -> Callable[..., Any]:
    """The function that "module:function" names; a function itself."""
    if not isinstance(named, str):
        return named
    module, _, name = named.partition(":")
    return getattr(importlib.import_module(module), name)
