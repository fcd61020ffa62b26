"""Tiny ImageNet (private) and Caltech-256 (public) at a size for a CPU.

Source:  configs/paper/tiny_imagenet.py, reduced (our choice) as in configs/small/common.py, and the small CNN.
Command: python launch.py --config=configs/small/tiny_imagenet.py
         (other methods, alpha, the paper's other experiments: commands in configs/paper/tiny_imagenet.py with
         this file's path and other workdirs; D from 0 2 5 10 20, clients from 5 10 20)
Time:    not measured.
Result:  not run to its end.
"""

from ml_collections import config_dict

from scarlet_jax.configs.small import common


def get_config(method: str = "scarlet") -> config_dict.ConfigDict:
    """10 clients with 500 images each, the small CNN; images of 64x64 pixels."""
    config = common.get_config(method)
    config.data.private = "tiny_imagenet"
    config.data.public = "caltech256"
    config.model.client = config.model.server = "cnn"
    return config
