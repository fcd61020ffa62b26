"""The config of a federation whose bytes are planned."""

from configs import digits


def planned(**changes):
    """Of 5 clients on digits, with a cache that expires, is filled in part, and whose copies fall behind."""
    config = digits.get_config()
    settings = {
        "rounds": 10, "num_clients": 5, "participation": 0.6, "public_size": 40, "public_per_round": 18,
        "public_val_ratio": 0.1, "epochs": 1, "kd_epochs": 1, "model.client": "mlp", "model.server": "mlp",
        "cache.duration": 2, "cache.ratio": 0.6,
    } | changes  # fmt: skip
    config.update_from_flattened_dict(settings)
    return config
