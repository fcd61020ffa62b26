"""Images in another size and with another number of channels: on the host, once, before anything is trained."""

from __future__ import annotations

import numpy as np

from scarlet_jax import names
from scarlet_jax.errors import UserError


def in_size(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """u8[H, W, channels] -> u8[height, width, channels] by averaging areas (no aliasing); sides scale separately."""
    import cv2

    channels = image.shape[2]
    smaller = min(image.shape[0], height), min(image.shape[1], width)
    # Averaging only shrinks: where one side shrinks and the other grows, OpenCV would take single pixels of both.
    for rows, columns in (smaller, (height, width)):
        if image.shape[:2] != (rows, columns):
            image = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    return image.reshape(height, width, channels)  # OpenCV drops a channel axis of length one


def convert(image: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    """u8[n, H, W, channels] in the `shape` of the private images; the array itself where that is its shape.

    Gray becomes colour by repetition, colour becomes gray by luminance, and the size is changed by averaging areas.
    """
    if image.shape[1:] == tuple(shape):
        return image
    import cv2

    height, width, channels = shape
    if {image.shape[3], channels} > {1, 3} or (image.shape[3] != channels and {image.shape[3], channels} != {1, 3}):
        raise UserError(
            f"config.data.public is {names.in_sentence(name)}, whose images have {image.shape[3]} channels while the "
            f"private ones have {channels}; allowed is {channels}, or 1 with 3, which are converted into each other."
        )
    result = np.empty((len(image), *shape), np.uint8)
    for row, picture in zip(result, image, strict=True):
        if picture.shape[2] == 3 and channels == 1:
            picture = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[:, :, None]
        row[:] = in_size(picture, height, width)
    return result
