"""Sources of images, their division among clients, and augmentation on the device.

`federation.load(config)` does everything on the host; `describe.write_partition` writes down what it did;
`augment` holds the functions that run inside a jitted step. Here is the table of partitioners; importing it imports
neither jax nor NumPy.
"""

from __future__ import annotations

from typing import NamedTuple


class Partitioner(NamedTuple):
    """A row of the table of partitioners."""

    # "module:function": np.random.Generator, labels of the training and test images, num_clients, num_classes, and the
    # parameters by name -> partition.Partition
    divide: str
    about: str = ""  # what it does, for people
    parameters: tuple[str, ...] = ()  # the fields of config.partition that are its own


_HERE = "scarlet_jax.data.partition"
PARTITIONERS: dict[str, Partitioner] = {
    "dirichlet": Partitioner(f"{_HERE}:client_dirichlet", "reference, equal sizes", ("alpha",)),
    "label_dirichlet": Partitioner(f"{_HERE}:label_dirichlet", "unequal sizes", ("alpha",)),
    "iid": Partitioner(f"{_HERE}:iid"),
    "shards": Partitioner(f"{_HERE}:shards", "some classes each", ("classes_per_client",)),
    # Its function takes the clients that `clients.given` reads, in place of the file.
    "given": Partitioner(f"{_HERE}:given", "by a file", ("file",)),
}
