"""How programs are compiled where only what they do matters."""

import contextlib

import jax


@contextlib.contextmanager
def compiling_quickly():
    """Most of XLA's optimizations off: for tests whose both sides are made by the same compiler."""
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)
