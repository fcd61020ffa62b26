"""SCARLET in JAX: federated distillation with a synchronized soft-label cache.

`run(config, workdir)` trains or resumes a federation; `load_server(workdir)` gives its server model as a predictor.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in `typing`, which takes long to import before a signal handler is there
if TYPE_CHECKING:
    from scarlet_jax.errors import UserError as UserError
    from scarlet_jax.runtime.predictor import load_server as load_server
    from scarlet_jax.runtime.run import run as run

_EXPORTS = {
    "run": "scarlet_jax.runtime.run",
    "load_server": "scarlet_jax.runtime.predictor",
    "UserError": "scarlet_jax.errors",
}

__all__ = list(_EXPORTS)


def __getattr__(name: str):  # untyped: importing `typing` takes longer than all else here
    """Import what is asked for, and nothing else: `import scarlet_jax` is instant."""
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    """What is exported, imported or not, beside what the module holds."""
    return sorted({*globals(), *__all__})
