"""`python -m scarlet_jax.data`: see `scarlet_jax.commands.data`."""

from scarlet_jax.commands.data import run

if __name__ == "__main__":
    run()
