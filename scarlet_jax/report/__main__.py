"""`python -m scarlet_jax.report`: see `scarlet_jax.commands.report`."""

from scarlet_jax.commands import entry

if __name__ == "__main__":
    entry.start("report", "python -m scarlet_jax.report")
