"""Groups of clients with one architecture each, as `model.client` names them."""

from __future__ import annotations

from typing import NamedTuple

from ml_collections import config_dict

from scarlet_jax import counts
from scarlet_jax.errors import bad_field
from scarlet_jax.options import fields


class ModelGroup(NamedTuple):
    """Clients of one architecture."""

    name: str
    clients: int
    participants: int


def model_groups(config: config_dict.ConfigDict) -> list[ModelGroup]:
    """Groups of `model.client` ("resnet20", or "resnet20:60,cnn:40") with their shares of the participants.

    Shares are stratified: by the largest remainder, the earlier group first on ties.

    Raises:
      UserError: not of this form, counts that do not sum to num_clients, or a group without participants.
    """
    text, clients = config.model.client, config.num_clients
    total = counts.participants(config.num_clients, config.participation)
    parts = [[word.strip() for word in part.split(":")] for part in text.split(",")]
    if len(parts) == 1 and len(parts[0]) == 1:
        return [ModelGroup(parts[0][0], clients, total)]
    if not all(len(part) == 2 and fields.whole(part[1]) for part in parts):
        raise bad_field("model.client", text, "a name, or groups such as resnet20:60,cnn:40")
    names, sizes = [name for name, _ in parts], [int(size) for _, size in parts]
    if len(set(names)) < len(names):
        raise bad_field("model.client", text, "each architecture once")
    if sum(sizes) != clients:
        why = f"whose groups have {sum(sizes)} clients"
        raise bad_field("model.client", text, f"groups of config.num_clients = {clients} together", why)
    shares = [size * total // clients for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda i: (-(sizes[i] * total % clients), i))
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    groups = [ModelGroup(*group) for group in zip(names, sizes, shares, strict=True)]
    for group in groups:
        if not group.participants:
            raise bad_field(
                "participation",
                config.participation,
                "a larger share, or a larger group",
                f"which leaves no participant to the group {group.name}:{group.clients} of config.model.client",
            )
    return groups
