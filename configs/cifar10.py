"""SCARLET on CIFAR-10 (private) and CIFAR-100 (public): the reference's experiment.

Source:  Azuma et al., IEEE TMC 2026, arXiv 2504.19602; hyperparameters of the reference implementation's main branch.
Command: python launch.py --config=configs/cifar10.py
         (other methods: configs/cifar10.py:dsfl, configs/cifar10.py:dsfl+cache, ...)
Time:    for a GPU, where it has not been run yet. On 2 CPU cores the first round with --config.epochs=1
         --config.kd_epochs=1 took 10 minutes, 1.5 GB.
Result:  not run to its end.
"""

from ml_collections import config_dict

from scarlet_jax.configs import base


def get_config(method: str = "scarlet") -> config_dict.ConfigDict:
    """100 clients, Dirichlet 0.05, ResNet-20, D = 50, beta = 2.0, 200 rounds."""
    config = base.get_config()
    config.rounds = 200
    base.set_method(config, method, duration=50)
    return config
