"""The CIFAR-10 experiment at a size that two CPU cores finish in minutes.

Source:  configs/cifar10.py, reduced (our choice): 10 clients, 5,000 private, 1,000 public and 1,000 test images, less
         skew, one epoch of each kind in smaller batches, D = 5.
Command: python launch.py --config=configs/cifar10_small.py
         (other methods: configs/cifar10_small.py:dsfl, configs/cifar10_small.py:dsfl+cache, ...)
Time:    12 minutes on 2 CPU cores, 1.5 GB.
Result:  server top-1 0.263 (best 0.337, round 18), mean client top-1 0.498 on the clients' own test parts; 3.02 MB
         (reference ledger), 2.26 MB (wire).
"""

from ml_collections import config_dict

from scarlet_jax.configs import base


def get_config(method: str = "scarlet") -> config_dict.ConfigDict:
    """10 clients with 500 images each; 200 of 1,000 public images a round."""
    config = base.get_config()
    config.rounds = 20
    config.num_clients = 10
    config.public_size = 1_000
    config.public_per_round = 200
    config.epochs = 1
    config.batch_size = 20  # smaller batches make up for fewer epochs
    config.kd_epochs = 1
    config.kd_batch_size = 10
    config.data.train_size = 5_000
    config.data.test_size = 1_000
    config.partition.alpha = 0.3
    config.checkpoint.every = 2
    base.set_method(config, method, duration=5)
    return config
