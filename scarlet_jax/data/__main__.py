"""`python -m scarlet_jax.data`: see `scarlet_jax.commands.data`."""

from scarlet_jax.commands import entry

if __name__ == "__main__":
    entry.start("data", "python -m scarlet_jax.data")
