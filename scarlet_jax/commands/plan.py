"""Plan a communication budget: `scarlet plan --config=NAME [--config.FIELD=VALUE]`.

It computes the protocol of a config without data and without training, and prints the bytes that would be sent: for
the config itself, and in a table over cache duration, participation and expiry policy. For a method that exchanges
knowledge by class (`class_plan`), the table is over participation alone.
"""

from __future__ import annotations

import csv
import functools
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from absl import flags
from ml_collections import config_dict

from scarlet_jax import counts, methods, names, texts
from scarlet_jax.commands import class_plan
from scarlet_jax.commands import command_line as cli
from scarlet_jax.data.sources import class_counts
from scarlet_jax.errors import UserError
from scarlet_jax.runtime import backend

if TYPE_CHECKING:  # jax takes seconds to import: not before the flags are known to be right
    from scarlet_jax.protocol.class_planner import ClassBudget
    from scarlet_jax.protocol.planner import Budget, Planner, Shares

DURATIONS = (0, 10, 25, 50, 100, 200)
PARTICIPATIONS = (0.1, 0.3, 0.5, 1.0)
POLICIES = ("drop", "refresh")

EXAMPLES = (
    ("--config=cifar10", "what the CIFAR-10 experiment sends"),
    ("--config=cifar10 --config.cache.duration=20 --notable", "one plan, fast"),
    ("--config=digits --csv=plan.csv", "also every round's bytes, to a file"),
)


def class_count(config: config_dict.ConfigDict, given: int | None) -> int:
    """C: the number that the user gave, otherwise that of the private data set if it is a known one.

    Raises:
      UserError: the data set is not known here, or the number is impossible.
    """
    if given is not None:
        if given < 2:
            raise UserError(f"--num_classes is {given}; allowed is a whole number of at least 2.")
        return given
    known, name = class_counts(), config.data.private.partition(":")[0]
    if name not in known:
        raise UserError(
            f"How many classes {config.data.private!r} has is not known without reading it: add --num_classes=C."
        )
    return known[name]


def describe(config: config_dict.ConfigDict, num_classes: int, planner: Planner, result: Budget) -> str:
    """The setting of a budget and its assumptions, as text for the user."""
    policy = f"expiry policy {result.on_expiry}, ratio {config.cache.ratio:g}" if result.duration else "no cache"
    form, shares = planner.label_format(result), planner.shares
    assumed = "every participant answers every request"
    if planner.selects:
        assumed = (
            f"assumed: each participant answers {shares.inlier:g} of the requests (--inlier_share), and the server "
            f"keeps {shares.kept:g} of the requested samples (--kept_share)"
        )
    given = []
    if planner.draws.given is not None:
        given = [f"participants are those of {names.of_file(Path(config.sampling.file))}; for another M they are drawn"]
    lines = [
        f"{config.rounds:,} rounds of {config.method.name}: D = {result.duration} rounds, {policy}",
        f"K = {config.num_clients:,} clients, M = {result.participants:,} in a round; N = {result.public_size:,} "
        f"public samples, P = {config.public_per_round:,} in a round; C = {num_classes} classes",
        f"one label costs {form.uplink_bytes} B up and {form.downlink_bytes} B down in the reference ledger, "
        f"{form.uplink_bits} and {form.downlink_bits} bits on the wire",
        assumed,
        *given,
        "MB = 10^6 bytes, GB = 10^9 bytes; bytes are summed over the participants; the last broadcast is never sent",
    ]
    return "\n".join(lines)


def own_table(result: Budget, no_cache: Budget) -> str:
    """Bytes of a budget: per round, in total, and against the same federation without a cache."""
    head = ["ledger", "direction", "first round", "mean", "largest", "last round", "total", "of no cache"]
    rows = []
    for ledger in result.uplink_bytes:
        up, down = result.uplink_bytes[ledger], result.downlink_bytes[ledger]
        base_up, base_down = no_cache.uplink_bytes[ledger], no_cache.downlink_bytes[ledger]
        for name, volume, base in (
            ("up", up, base_up),
            ("down", down, base_down),
            ("both", up + down, base_up + base_down),
        ):
            total = sum(volume.tolist())
            cells = [volume[0], total / len(volume), max(volume), volume[-1], total]
            rows.append([ledger, name, *map(texts.size, cells), _ratio(total, sum(base.tolist()))])
    lines = [f"requested: {result.requested_share:.3f} of the labels drawn; the others are served from the cache"]
    caught_up = int(result.caught_up.sum())
    if caught_up:
        each = caught_up / len(result.caught_up) / result.participants
        lines.append(f"caught up: {each:,.1f} cache entries per participant and round, {caught_up:,} in total")
    return "\n".join([*lines, "", *texts.table(head, rows, left=2, rule=True)])


def variants_table(planner: Planner) -> str:
    """Totals over D, participation and expiry policy, one part for each ledger; the config's own values are marked."""
    clients, own = planner.draws.num_clients, planner.draws.num_participants
    shares = {counts.participants(clients, share): None for share in PARTICIPATIONS} | {own: None}
    participants = sorted(m for m in shares if m)
    durations = sorted({*DURATIONS, planner.duration}) if planner.cacheable else [0]
    cases = [(d, p) for d in durations for p in (POLICIES if d else POLICIES[:1])]
    results = {case: planner.variants(*case, participants) for case in cases}
    head = ["D", "expiry", "requested"]
    head += [f"M = {m:,}" + ("*" if m == own else "") for m in participants]
    blocks = []
    for ledger in results[0, POLICIES[0]][0].uplink_bytes:
        no_cache = [sum(r.total(ledger)) for r in results[0, POLICIES[0]]]
        rows = []
        for (duration, policy), row in results.items():
            chosen = duration == planner.duration and (not duration or policy == planner.settings.on_expiry)
            totals = [sum(r.total(ledger)) for r in row]
            cells = [f"{texts.size(t)} ({_ratio(t, base)})" for t, base in zip(totals, no_cache, strict=True)]
            name = f"{duration}{'*' if chosen else ' '}"
            rows.append([name, policy if duration else "-", f"{row[0].requested_share:.3f}", *cells])
        blocks.append("\n".join([f"{ledger} ledger", *texts.table(head, rows, left=0, rule=True)]))
    title = (
        f"Bytes up and down in {planner.rounds:,} rounds (in brackets: as a share of no cache, D = 0), over cache "
        f"duration D,\nexpiry policy and participants M of {clients:,} clients; * marks the config's own"
    )
    return "\n\n".join([title, *blocks])


def csv_text(result: Budget | ClassBudget) -> str:
    """Every round of a budget, in columns named as in metrics.csv."""
    counted = [name for name in ("requested", "hit", "stale", "caught_up") if name in result._fields]
    columns = {name: getattr(result, name).tolist() for name in counted}
    for ledger in result.uplink_bytes:
        columns[f"uplink_bytes_{ledger}"] = result.uplink_bytes[ledger].tolist()
        columns[f"downlink_bytes_{ledger}"] = result.downlink_bytes[ledger].tolist()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["round", *columns])
    writer.writerows([r, *row] for r, row in enumerate(zip(*columns.values(), strict=True)))
    return text.getvalue()


def check_shares(shares: Shares, method: str, selects: bool) -> None:
    """Refuse impossible shares, and shares of a method that does not select.

    Raises:
      UserError: names the flag.
    """
    for name, value in shares._asdict().items():
        if not 0 <= value <= 1:
            raise UserError(f"--{name}_share is {value}; allowed is 0 to 1.")
        if value != 1 and not selects:
            raise UserError(f"--{name}_share is {value}, but method {method} does not select samples; leave it out.")


def check_new(path: Path) -> None:
    """Refuse a file that exists, or whose folder does not.

    Raises:
      UserError: one sentence.
    """
    if path.exists():
        raise UserError(f"--csv: {path} exists, and is not overwritten; name another file, or remove it.")
    if not path.parent.is_dir():
        raise UserError(f"--csv: there is no directory {path.parent}.")


def write_new(path: Path, text: str) -> None:
    """Write a file that does not exist yet.

    Raises:
      UserError: it exists by now, or cannot be written.
    """
    try:
        with open(path, "x") as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"--csv: {path} cannot be written: {os.strerror(error.errno or 0)}.") from error


def define_flags(flag_values: flags.FlagValues) -> None:
    """Define the flags that this command has beside --config."""
    flags.DEFINE_integer(
        "num_classes",
        None,
        f"C, classes of the private data (known for {', '.join(class_counts())})",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "csv",
        None,
        "also write every round's counts and bytes to this file, which must be new",
        flag_values=flag_values,
    )
    flags.DEFINE_float(
        "inlier_share",
        1.0,
        "of a method whose clients select: assumed share of the requests that each participant answers",
        flag_values=flag_values,
    )
    flags.DEFINE_float(
        "kept_share",
        1.0,
        "of a method that selects samples: assumed share of the requested ones that the server keeps",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "classes_per_client",
        None,
        "of a method that exchanges a vector for each class: assumed number of classes of a client (default: all)",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "feature_size",
        None,
        "of a method that exchanges features: d, their number (known for data sets of known image size)",
        flag_values=flag_values,
    )
    flags.DEFINE_boolean(
        "table", True, "print the table over D, participation and expiry (--notable: not)", flag_values=flag_values
    )


def main(config: config_dict.ConfigDict, config_path: str, flag_values: flags.FlagValues) -> None:
    """Print the budget of a config."""
    del config_path
    num_classes = class_count(config, flag_values.num_classes)
    path = Path(flag_values.csv) if flag_values.csv else None
    if path is not None:
        check_new(path)

    backend.load(os.environ)
    import jax

    # The steps are too small for an accelerator to be faster, and a training run may need its memory.
    jax.config.update("jax_platforms", "cpu")
    from scarlet_jax import build
    from scarlet_jax.options.rules import validate
    from scarlet_jax.preview import checks, memory
    from scarlet_jax.protocol.planner import Shares

    validate(config)
    checks.check(config)
    name, shares = config.method.name, Shares(flag_values.inlier_share, flag_values.kept_share)
    by_class = flag_values.classes_per_client, flag_values.feature_size
    class_plan.check_flags(name, num_classes, *by_class)
    result: Budget | ClassBudget
    if methods.find(name).by_class:
        check_shares(shares, name, selects=False)
        own = class_plan.make_planner(config, num_classes, *by_class)
        result = own.run()
        head, table = class_plan.describe(config, own), class_plan.own_table(result)
        variants = functools.partial(class_plan.variants_table, own, PARTICIPATIONS)
    else:
        planner = build.make_planner(config, num_classes, shares, memory.host_limit())
        check_shares(shares, name, planner.selects)
        result = planner.run()
        no_cache = planner.variants(0, result.on_expiry, [result.participants])[0]
        head, table = describe(config, num_classes, planner, result), own_table(result, no_cache)
        variants = functools.partial(variants_table, planner)
    print(head, end="\n\n", flush=True)
    print(table, flush=True)
    if path is not None:
        write_new(path, csv_text(result))
        print(f"\nwritten: {path}", flush=True)
    if flag_values.table:
        print(f"\n{variants()}", flush=True)


def _ratio(value: int, base: int) -> str:
    return f"{value / base:.3f}" if base else "-"


def run(command: str) -> NoReturn:
    """Parse the command line, do what it says, exit; `command` is how it is called."""
    cli.run(
        main,
        define_flags,
        command=command,
        description="Plan the bytes of a federation without training it.",
        examples=EXAMPLES,
    )
