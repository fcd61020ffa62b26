"""`python -m scarlet_jax`: the command `scarlet`, where the folder of scripts is not on the PATH."""

from scarlet_jax.commands.entry import main

if __name__ == "__main__":
    main("python -m scarlet_jax")
