"""Command lines, parsed in this process."""

from absl import flags

from scarlet_jax.commands import command_line as cli


def parse(*args):
    """Parse as launch.py does, with fresh flags: config, path, flags."""
    flag_values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "help", flag_values=flag_values)
    return *cli.parse(["launch.py", *args], flag_values), flag_values
