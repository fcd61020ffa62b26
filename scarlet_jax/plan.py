"""`python -m scarlet_jax.plan`: see `scarlet_jax.commands.plan`."""

from scarlet_jax.commands.plan import run

if __name__ == "__main__":
    run()
