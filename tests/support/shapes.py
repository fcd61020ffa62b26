"""Data of a small federation, as shapes instead of arrays."""

import jax

from scarlet_jax.types import Data, Split


def shapes(clients, train=30, classes=10):
    """Data of a small federation, as shapes: gray images of 8 x 8 pixels."""

    def array(*shape, dtype="int32"):
        return jax.ShapeDtypeStruct(shape, dtype)

    def image(n):
        return array(n, 8, 8, 1, dtype="uint8")

    def split(n):
        return Split(array(clients, n), array(clients))

    n = clients * train
    return Data(
        image(n), array(n), image(50), array(50), image(40), image(0), split(train), split(1), split(50 // clients)
    )
