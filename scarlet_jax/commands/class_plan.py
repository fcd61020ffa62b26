"""What `scarlet plan` prints for a method that exchanges knowledge by class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ml_collections import config_dict

from scarlet_jax import counts, methods, texts
from scarlet_jax.data.sources import image_shape
from scarlet_jax.errors import UserError

if TYPE_CHECKING:  # jax takes seconds to import
    from scarlet_jax.protocol.class_planner import ClassBudget, ClassPlanner


def check_flags(method: str, num_classes: int, held: int | None, vector: int | None) -> None:
    """Refuse --classes_per_client and --feature_size where they are impossible, or of no use to the method.

    Raises:
      UserError: names the flag.
    """
    entry = methods.find(method)
    for name, value in {"classes_per_client": held, "feature_size": vector}.items():
        if value is not None and not entry.by_class:
            raise UserError(f"--{name} is {value}, but method {method} exchanges no vectors of classes; leave it out.")
    if held is not None and not 1 <= held <= num_classes:
        raise UserError(f"--classes_per_client is {held}; allowed is 1 to {num_classes}, the number of classes.")
    if vector is not None and vector < 1:
        raise UserError(f"--feature_size is {vector}; allowed is a whole number of at least 1.")


def make_planner(
    config: config_dict.ConfigDict, num_classes: int, held: int | None, vector: int | None
) -> ClassPlanner:
    """The planner of a validated config.

    Args:
      config: of a method that exchanges knowledge by class.
      num_classes: C.
      held: assumed classes of a client; None: all.
      vector: d of features; None: that of the config's models, for the images of the private data set.

    Raises:
      UserError: d depends on the size of these images, which is not known here.
    """
    from scarlet_jax import build, learners

    shape = image_shape(config.data.private)
    if vector is None and shape is None and build.exchanges_features(config):
        found = {learners.feature_size(config, (side, side, 3)) for side in (32, 64)}
        if len(found) > 1:
            raise UserError(
                f"How many features the models have for images of {config.data.private!r} is not known without reading "
                "them: add --feature_size=d."
            )
        (vector,) = found
    return build.make_class_planner(config, num_classes, shape, held, vector)


def describe(config: config_dict.ConfigDict, planner: ClassPlanner) -> str:
    """The setting of a budget and its assumptions, as text for the user."""
    lines = [
        f"{config.rounds:,} rounds of {config.method.name}: a vector of {planner.vector:,} float32 for each class",
        f"K = {planner.clients:,} clients, M = {planner.participants:,} in a round; C = {planner.num_classes} classes",
        f"assumed: each participant holds {planner.held} of the classes (--classes_per_client), and receives a vector "
        "of all of them, which is the most",
        "MB = 10^6 bytes, GB = 10^9 bytes; bytes are summed over the participants; round 0 receives nothing",
    ]
    return "\n".join(lines)


def own_table(result: ClassBudget) -> str:
    """Bytes of a budget: per round and in total."""
    head, rows = ["ledger", "direction", "first round", "mean", "last round", "total"], []
    for ledger in result.uplink_bytes:
        up, down = result.uplink_bytes[ledger], result.downlink_bytes[ledger]
        for name, volume in (("up", up), ("down", down), ("both", up + down)):
            total = sum(volume.tolist())
            rows.append([ledger, name, *map(texts.size, [volume[0], total / len(volume), volume[-1], total])])
    return "\n".join(texts.table(head, rows, left=2, rule=True))


def variants_table(planner: ClassPlanner, participations: tuple[float, ...]) -> str:
    """Totals of both directions over the number of participants; the config's own is marked."""
    shares = {counts.participants(planner.clients, share) for share in participations} | {planner.participants}
    results = [planner.run(m) for m in sorted(shares) if m]
    head = ["ledger", *(f"M = {r.participants:,}{'*' * (r.participants == planner.participants)}" for r in results)]
    rows = [[ledger, *(texts.size(sum(r.total(ledger))) for r in results)] for ledger in results[0].uplink_bytes]
    title = f"Bytes up and down in {planner.rounds:,} rounds, over participants M of {planner.clients:,} clients"
    return "\n".join([title, *texts.table(head, rows, left=1, rule=True)])
