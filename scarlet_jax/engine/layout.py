"""The one mesh axis, `clients`, and how arrays lie along it."""

from __future__ import annotations

from jax.sharding import PartitionSpec

AXIS = "clients"
CLIENTS, REPLICATED = PartitionSpec(AXIS), PartitionSpec()
