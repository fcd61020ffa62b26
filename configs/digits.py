"""SCARLET on scikit-learn's handwritten digits: runs anywhere, no download.

Source:  ours; 1,797 images of 8x8 pixels, split into test, public pool and private images of 10 clients.
Command: python launch.py --config=configs/digits.py
         (other methods: configs/digits.py:dsfl, configs/digits.py:dsfl+cache, ...)
Time:    20 s on 2 CPU cores.
Result:  server top-1 0.928, mean client top-1 0.951; 1.69 MB (reference ledger), 1.19 MB (wire).
"""

from ml_collections import config_dict

from scarlet_jax.configs import base


def get_config(method: str = "scarlet") -> config_dict.ConfigDict:
    """10 clients with about 100 images each, Dirichlet 0.3, a small CNN."""
    config = base.get_config()
    config.rounds = 30
    config.num_clients = 10
    config.public_size = 400
    config.public_per_round = 100
    config.private_augment = False
    config.public_augment = False
    config.batch_size = 20
    config.kd_batch_size = 20
    config.data.private = "digits"
    config.data.public = "digits"
    config.partition.alpha = 0.3
    config.model.client = "cnn"
    config.model.server = "cnn"
    base.set_method(config, method, duration=10)
    return config
