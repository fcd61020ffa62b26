"""Train a federation: `python launch.py --config=configs/<name>.py`; see `scarlet_jax.commands.train`."""

from scarlet_jax.commands import entry

if __name__ == "__main__":
    entry.start("run", "python launch.py")
