"""Selective-FD (Shao et al., Nature Communications 2024).

Clients answer only for samples like their own; the server keeps unambiguous labels.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from scarlet_jax.methods.base import Method, stateless
from scarlet_jax.protocol.round import Labels, Uploads
from scarlet_jax.types import Data

SIDE = 32  # pixels; densities are estimated on images of at most this height and width


def selective_fd(
    width: float = 5.0, lambda_exponent: float = 0.5, quantile: float = 0.125, threshold: float = 2.0
) -> Method:
    """Two selectors decide which labels are used.

    A client answers for a sample if the sample's density ratio, estimated on pixels by KuLSIF, reaches a quantile of
    the ratios of the client's own held-out images. The server keeps a mean label if its L1 distance to its own hard
    label is below a threshold.

    Args:
      width: of the Gaussian kernel.
      lambda_exponent: the regulariser is n_k ** lambda_exponent for a client of n_k images (the reference's sign).
      quantile: share of a client's held-out images whose ratio is below the client's threshold.
      threshold: L1 distance below which a mean label is kept.
    """

    def aggregate(uploads: Uploads) -> Labels:
        mean = uploads.mean()
        return Labels(mean, keep=ambiguity(mean) < threshold)

    def choose(seed: int, data: Data) -> np.ndarray:
        return answers(seed, data, width, lambda_exponent, quantile)

    return Method(stateless(aggregate), answers=choose)


def ambiguity(mean):
    """L1 distance f32[P] of rows f32[P, C] from their hard label, which is 1 wherever the row has its largest value."""
    hard = (mean == jnp.max(mean, -1, keepdims=True)).astype(mean.dtype)
    return jnp.sum(jnp.abs(hard - mean), -1)


def answers(seed: int, data: Data, width: float, lambda_exponent: float, quantile: float) -> np.ndarray:
    """Which public samples each client answers for, bool[K, N]; computed in float64 on the host.

    A client with fewer than 4 images has none to hold out, and answers for all samples.
    """
    images, public = np.asarray(data.private_image), pixels(np.asarray(data.public_image))
    rows, sizes = np.asarray(data.train.rows), np.asarray(data.train.size)
    result = np.ones((len(sizes), len(public)), bool)
    for client, size in enumerate(sizes):
        if size < 4:
            continue
        rng = np.random.default_rng([seed, 100, client])
        chosen = rng.choice(size, size // 2, replace=False)
        own = pixels(images[rows[client][chosen]])
        part = int(0.9 * len(own)) if len(own) > 1 else 1
        inside, held_out = own[:part], own[part:]
        if not len(held_out):
            held_out = inside
        uniform = rng.uniform(-1, 1, (size // 2, own.shape[1]))
        estimate = kulsif(uniform, inside, width, float(size) ** lambda_exponent)
        result[client] = estimate(public) >= np.quantile(estimate(held_out), quantile)
    return result


def pixels(images: np.ndarray) -> np.ndarray:
    """u8[n, H, W, channels] -> f64[n, d] in [-1, 1], normalised in float32 as for the models; at most 32 x 32."""
    if images.shape[1] > SIDE or images.shape[2] > SIDE:
        import cv2

        small = [cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in images]
        images = np.stack(small).reshape(len(images), SIDE, SIDE, -1)
    scaled = (images.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    return scaled.reshape(len(images), -1).astype(np.float64)


def kernel(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """Gaussian kernel f64[n, m] of f64[n, d] and f64[m, d]; one matrix product, no temporary array [n, m, d]."""
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T
    return np.exp(-np.maximum(squared, 0) / (2 * width**2))


def kulsif(x: np.ndarray, y: np.ndarray, width: float, regulariser: float):
    """Kernel unconstrained least-squares importance fitting: the density of y divided by that of x.

    Args:
      x: f64[n, d].
      y: f64[m, d].
      width: of the Gaussian kernel.
      regulariser: of the least squares, above 0.

    Returns:
      The estimate, a function from f64[q, d] to f64[q].
    """
    n, m = len(x), len(y)
    alpha = -np.linalg.solve(
        kernel(x, x, width) / n + regulariser * np.eye(n), kernel(x, y, width).sum(1) / (n * m * regulariser)
    )

    def estimate(z: np.ndarray) -> np.ndarray:
        return kernel(z, x, width) @ alpha + kernel(z, y, width).mean(1) / regulariser

    return estimate
