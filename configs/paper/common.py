"""What the paper's experiments have in common: DESIGN's table, column "the paper's experiment branch"."""

from ml_collections import config_dict

from scarlet_jax.configs import base


def get_config(method: str = "scarlet") -> config_dict.ConfigDict:
    """100 clients, Dirichlet 0.3, batches of 100, 2,000 rounds; SCARLET with beta 1.0 and D = 50.

    The other methods' published values are their defaults in scarlet_jax: T 0.1 (DS-FL); 2 clusters, weight 1.0
    (COMET); width 5.0, lambda exponent +0.5, quantile 0.125, threshold 2.0 on images of 32x32 pixels (Selective-FD).
    """
    config = base.get_config()
    config.rounds = 2_000
    config.batch_size = 100
    config.kd_batch_size = 100
    config.partition.alpha = 0.3
    config.checkpoint.every = 50  # our choice
    base.set_method(config, method, duration=50)
    if config.method.name == "scarlet":
        config.method.beta = 1.0
    return config
