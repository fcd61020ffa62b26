"""CIFAR-10 (private) and CIFAR-100 (public) at a size for a CPU.

Source:  configs/paper/cifar10.py, reduced (our choice) as in configs/small/common.py.
Command: python launch.py --config=configs/small/cifar10.py
         (other methods, alpha, the paper's other experiments: commands in configs/paper/cifar10.py with
         this file's path and other workdirs; D from 0 2 5 10 20, clients from 5 10 20)
Time:    as configs/cifar10_small.py, whose steps are the same.
Result:  not run to its end.
"""

from ml_collections import config_dict

from scarlet_jax.configs.small import common


def get_config(method: str = "scarlet") -> config_dict.ConfigDict:
    """10 clients with 500 images each, ResNet-20."""
    config = common.get_config(method)
    return config
