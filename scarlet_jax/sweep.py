"""`python -m scarlet_jax.sweep`: see `scarlet_jax.commands.sweep`."""

from scarlet_jax.commands import entry

if __name__ == "__main__":
    entry.start("sweep", "python -m scarlet_jax.sweep")
