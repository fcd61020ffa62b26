"""SCARLET in JAX: federated distillation with a synchronized soft-label cache.

The names below are the public API (docs/api.md): `get_config` and `run` start an experiment, `load_server` and
`load_run` read its results.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in `typing`, which takes long to import before a signal handler is there

if TYPE_CHECKING:
    from scarlet_jax.commands.config_files import get_config as get_config
    from scarlet_jax.errors import UserError as UserError
    from scarlet_jax.methods import register as register
    from scarlet_jax.methods.base import Method as Method
    from scarlet_jax.report import load as load_run
    from scarlet_jax.runtime.predictor import load_server as load_server
    from scarlet_jax.runtime.run import run as run

__version__ = "0.1.0"

_EXPORTS = {  # name -> module, name there
    "run": ("scarlet_jax.runtime.run", "run"),
    "load_server": ("scarlet_jax.runtime.predictor", "load_server"),
    "load_run": ("scarlet_jax.report", "load"),
    "get_config": ("scarlet_jax.commands.config_files", "get_config"),
    "Method": ("scarlet_jax.methods.base", "Method"),
    "register": ("scarlet_jax.methods", "register"),
    "UserError": ("scarlet_jax.errors", "UserError"),
}

__all__ = ["Method", "UserError", "__version__", "get_config", "load_run", "load_server", "register", "run"]


def __getattr__(name: str):  # untyped: importing `typing` takes longer than all else here
    """Import what is asked for, and nothing else: `import scarlet_jax` is instant."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    module, attribute = _EXPORTS[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    """All public names, imported or not, beside what the module holds."""
    return sorted({*globals(), *__all__})
