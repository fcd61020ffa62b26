"""`python -m scarlet_jax.sweep`: see `scarlet_jax.commands.sweep`."""

# ruff: noqa: E402 - what is imported below takes a third of a second
from scarlet_jax.runtime import interrupts

if __name__ == "__main__":
    interrupts.exit_at_once()

from scarlet_jax.commands.sweep import run

if __name__ == "__main__":
    run()
