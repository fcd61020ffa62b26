"""Sources of images, their division among clients, and augmentation on the device.

`federation.load(config)` does everything on the host; `describe.write_partition` writes down what it did;
`augment` holds the functions that run inside a jitted step. Here is the table of partitioners; importing it imports
neither jax nor NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from scarlet_jax.tables import Parameter


class Partitioner(NamedTuple):
    """A row of the table of partitioners."""

    # "module:function": np.random.Generator, labels of the training and test images, num_clients, num_classes, and the
    # parameters by name -> partition.Partition
    divide: str
    about: str = ""  # what it does, for people
    parameters: Mapping[str, Parameter] = {}  # by name; those of one name are the same for all partitioners


_ALPHA = Parameter(
    0.05,
    "concentration of the Dirichlet distribution; small = more skewed",
    1e-100,
    synonyms=("dirichletalpha", "diralpha", "dirichlet", "noniid", "concentration", "heterogeneity"),
)
_CLASSES = Parameter(2, "classes each client holds", 1, kind=int, synonyms=("classesperuser", "shardsperclient"))
_FILE = Parameter("", "client of each training image, .npy, .npz or text; empty = in data.private", kind=str)

_HERE = "scarlet_jax.data.partition"
PARTITIONERS: dict[str, Partitioner] = {
    "dirichlet": Partitioner(f"{_HERE}:client_dirichlet", "reference, equal sizes", {"alpha": _ALPHA}),
    "label_dirichlet": Partitioner(f"{_HERE}:label_dirichlet", "unequal sizes", {"alpha": _ALPHA}),
    "iid": Partitioner(f"{_HERE}:iid"),
    "shards": Partitioner(f"{_HERE}:shards", "some classes each", {"classes_per_client": _CLASSES}),
    # Its function takes the clients that `clients.given` reads, in place of the file.
    "given": Partitioner(f"{_HERE}:given", "by a file", {"file": _FILE}),
}


def readers(parameter: str) -> list[str]:
    """The partitioners that have a parameter of this name."""
    return [name for name, own in PARTITIONERS.items() if parameter in own.parameters]


def parameters() -> dict[str, Parameter]:
    """The parameters of all partitioners by name."""
    return {name: parameter for own in PARTITIONERS.values() for name, parameter in own.parameters.items()}
