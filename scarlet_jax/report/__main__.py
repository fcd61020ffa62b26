"""`python -m scarlet_jax.report`: see `scarlet_jax.commands.report`."""

from scarlet_jax.commands.report import run

if __name__ == "__main__":
    run()
