"""What the tables of methods, models, convolutions, partitioners, data sets and metrics share.

A table is data: it names a function as "module:function". Importing a table therefore imports none of its functions,
and `--help` and refusals need not wait for jax.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def load(named: str | Callable[..., Any]) -> Callable[..., Any]:
    """The function that "module:function" names; a function itself."""
    if not isinstance(named, str):
        return named
    module, _, name = named.partition(":")
    return getattr(importlib.import_module(module), name)
