"""`python -m scarlet_jax.plan`: see `scarlet_jax.commands.plan`."""

from scarlet_jax.commands import entry

if __name__ == "__main__":
    entry.start("plan", "python -m scarlet_jax.plan")
