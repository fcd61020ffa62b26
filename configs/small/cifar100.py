"""CIFAR-100 (private) and Tiny ImageNet (public) at a size for a CPU.

Source:  configs/paper/cifar100.py, reduced (our choice) as in configs/small/common.py.
Command: python launch.py --config=configs/small/cifar100.py
         (other methods, alpha, the paper's other experiments: commands in configs/paper/cifar100.py with
         this file's path and other workdirs; D from 0 2 5 10 20, clients from 5 10 20)
Time:    not measured.
Result:  not run to its end.
"""

from ml_collections import config_dict

from scarlet_jax.configs.small import common


def get_config(method: str = "scarlet") -> config_dict.ConfigDict:
    """10 clients with 500 images each, ResNet-20; the pool is brought to 32x32 pixels."""
    config = common.get_config(method)
    config.data.private = "cifar100"
    config.data.public = "tiny_imagenet"
    return config
