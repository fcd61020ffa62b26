"""From the names and layouts of a PyTorch state dict, as in the golden files, to our variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_NORM = {"weight": ("params", "scale"), "bias": ("params", "bias"),
         "running_mean": ("batch_stats", "mean"), "running_var": ("batch_stats", "var")}  # fmt: skip


def resnet_path(name: str) -> tuple[str, ...] | None:
    """`layer1.0.bn2.running_var` -> ("batch_stats", "layer1_0", "bn2", "var"); None for `num_batches_tracked`."""
    *modules, leaf = name.split(".")
    if leaf == "num_batches_tracked":
        return None
    if modules[0].startswith("layer"):
        modules = [f"{modules[0]}_{modules[1]}", *modules[2:]]
    if modules[-1].startswith("bn"):
        collection, ours = _NORM[leaf]
    else:
        collection, ours = "params", {"weight": "kernel", "bias": "bias"}[leaf]
    return (collection, *modules, ours)


def to_our_layout(value: np.ndarray) -> np.ndarray:
    """Convolution [out, in, kh, kw] -> [kh, kw, in, out], linear [out, in] -> [in, out], vectors as they are."""
    return {4: lambda v: v.transpose(2, 3, 1, 0), 2: lambda v: v.T}.get(value.ndim, lambda v: v)(value)


def resnet_variables(arrays: Mapping[str, np.ndarray], prefix: str, dtype: Any = np.float32) -> dict[str, Any]:
    """Gather every array `<prefix><torch name>` of a golden file into variables of our CIFAR ResNet.

    Args:
        arrays: an open .npz, or any mapping from names to arrays.
        prefix: such as "weights/", "grad/" or "bn_after/"; what is missing there (statistics, say) is missing in the
            result.
        dtype: of the result.

    Returns:
        {"params": ..., "batch_stats": ...}, either of them absent if nothing belongs to it.
    """
    variables: dict[str, Any] = {}
    for key in arrays:
        path = resnet_path(key[len(prefix) :]) if key.startswith(prefix) else None
        if path is None:
            continue
        node = variables
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = to_our_layout(arrays[key]).astype(dtype)
    return variables


def images(value: np.ndarray, dtype: Any = np.float32) -> np.ndarray:
    """[B, channels, H, W] -> [B, H, W, channels]."""
    return value.transpose(0, 2, 3, 1).astype(dtype)
