"""CFD (Sattler et al., arXiv 2012.00632): clients send hard labels and receive the server model's soft labels."""

from __future__ import annotations

from scarlet_jax.methods.base import Method, stateless
from scarlet_jax.protocol import ledger
from scarlet_jax.protocol.round import Uploads


def cfd(uplink_bits: int = 1, downlink_bits: int | None = None) -> Method:
    """Clients upload arg-max labels; the server distils from their mean and broadcasts its model's predictions.

    These are recorded during the last distillation epoch, as in the reference: the softmax of the model in training
    mode, for each batch before the update that uses it.

    Args:
      uplink_bits: 1 sends the arg-max, billed as a hard label; 2 to 32 quantise each probability uniformly.
      downlink_bits: 8, 16 or 32 bits per broadcast probability; None is `comm.label_bits`.
    """

    def uplink(channel: ledger.Channel) -> ledger.Codec:
        if uplink_bits == 1:
            return ledger.hard_label(channel)
        return ledger.soft_label(channel._replace(label_bits=uplink_bits))

    def downlink(channel: ledger.Channel) -> ledger.Codec:
        return ledger.soft_label(channel._replace(label_bits=downlink_bits or channel.label_bits))

    return Method(stateless(Uploads.mean), uplink=uplink, downlink=downlink, publish=lambda outputs: outputs)
