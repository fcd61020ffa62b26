"""What the paper's experiments have in common at CPU size."""

from ml_collections import config_dict

from scarlet_jax.configs import cifar10_small


def get_config(method: str = "scarlet") -> config_dict.ConfigDict:
    """configs/cifar10_small.py (20 rounds, 10 clients, D = 5, Dirichlet 0.3) with the beta of configs/paper."""
    config = cifar10_small.get_config(method)
    if config.method.name == "scarlet":
        config.method.beta = 1.0
    return config
