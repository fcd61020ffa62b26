"""Train a federation: `python launch.py --config=configs/<name>.py`; `--help` lists every field."""

from absl import flags
from ml_collections import config_dict

from scarlet_jax import cli

EXAMPLES = (
    ("python launch.py --config=configs/digits.py", "a minute on a laptop, no download"),
    ("python launch.py --config=configs/cifar10.py", "the paper's experiment; the same command again resumes it"),
    ("python launch.py --config=configs/digits.py --config.lr=0.05 --workdir=DIR", "another value, another folder"),
)


def define_flags(flag_values: flags.FlagValues) -> None:
    """Define the flags that this command has beside --config."""
    flags.DEFINE_string(
        "workdir",
        None,
        "where the run is written to, and resumed from (default: runs/<config>-<method>-s<seed>)",
        flag_values=flag_values,
    )


def main(config: config_dict.ConfigDict, config_path: str, flag_values: flags.FlagValues) -> None:
    """Run the experiment."""
    workdir = flag_values.workdir or cli.default_workdir(config_path, config)
    print(f"workdir: {workdir}", flush=True)
    from scarlet_jax import experiment  # imports jax, which takes seconds: not before the flags are known to be right

    experiment.run(config, workdir)


if __name__ == "__main__":
    cli.run(main, define_flags, description="Train a federation.", examples=EXAMPLES)
