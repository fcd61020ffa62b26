"""The page docs/results/README.md, from the records alone: `page.md` with its {marks} filled in."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tools.evidence import claims, runs
from tools.evidence.intervals import interval, paired, ratio
from tools.evidence.leaderboard import BUDGETS, TITLES, balanced, best, column
from tools.evidence.records import LEDGERS, WHO, Record, Results, by_variant, finals, totals

TEMPLATE = Path(__file__).with_name("page.md")
WORDS = "Top-1 accuracy {} over cumulative bytes, logarithmic, in both ledgers: server model and mean client"
FACTORS = {
    "scarlet-D0": "no cache (D = 0)",
    "scarlet-D50": "D = 50",
    "scarlet-refresh": "expired entries are refreshed",
    "scarlet-p0.3": "3 of 10 clients in a round",
    "scarlet-8bit": "8 bits a probability",
    "scarlet-b0.5": "β = 0.5",
    "scarlet-b1": "β = 1",
    "scarlet-a0.05": "α = 0.05",
    "scarlet-a1": "α = 1",
}


def render(records: Sequence[Record]) -> str:
    """The page."""
    digits, cifar = (by_variant(list(records), setting) for setting in runs.SETTINGS)
    table = claims.lines(digits)
    board = balanced(digits)
    marks = {
        "progress": progress(records),
        "board_seeds": seed_words(next(iter(board.values()), {})) or "none yet",
        "winners": winners(board),
        "leaderboard": figure("leaderboard", bool(board), WORDS.format("of all methods on the digits")),
        "server": budgets(board, "server"),
        "client": budgets(board, "client"),
        "verdicts": verdicts(table),
        "claims": comparisons(table),
        "factors": factors(digits),
        "sharpening": sharpening(digits),
        "cifar": cifar_section(cifar),
        "runs": provenance(records),
    }
    text = TEMPLATE.read_text()
    for name, value in marks.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def rows(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; a note where it would be empty."""
    lines = [f"| {' | '.join(cells)} |" for cells in body]
    head = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    return "\n".join([*head, *lines]) if lines else "*Not yet run.*"


def figure(name: str, drawn: bool, words: str) -> str:
    """A link to a figure; nothing before it is drawn."""
    return f"![{words}]({name}.png)" if drawn else ""


def progress(records: Sequence[Record]) -> str:
    """How many of the planned runs are in the records."""
    return f"{len(records)} of {len(runs.planned())} planned runs have finished"


def seed_words(seeds: Iterable[int]) -> str:
    """Seeds as 0-4 or 0, 2."""
    found = sorted(seeds)
    if len(found) > 2 and found == list(range(found[0], found[-1] + 1)):
        return f"{found[0]}–{found[-1]}"
    return ", ".join(map(str, found))


def winners(results: Results) -> str:
    """The best method at each budget, and those that the seeds do not tell apart from it."""
    body = []
    for megabytes in (*BUDGETS, None):
        cells = [_megabytes(megabytes)]
        for who in WHO:
            values = column(results, who, claims.BILLED, megabytes)
            found = best(values)
            if not found:
                cells += ["-", ""]
                continue
            winner, near = found
            names = ", ".join(TITLES[other] for other in near) or "-"
            if len(values[winner]) < 2:
                names = "one seed tells nothing apart"
            cells += [f"**{TITLES[winner]}** {np.mean(list(values[winner].values())):.3f}", names]
        body.append(cells)
    return rows(("after", "server", "not told apart", "mean client", "not told apart"), body if results else [])


def budgets(results: Results, who: str) -> str:
    """Accuracy at each budget: a row a method."""
    at = {megabytes: column(results, who, claims.BILLED, megabytes) for megabytes in (*BUDGETS, None)}
    heads = {megabytes: found[0] for megabytes, values in at.items() if (found := best(values))}
    body = []
    for variant in (name for name in results if name in at[None]):
        cells = [TITLES[variant]]
        for megabytes, values in at.items():
            if variant not in values:
                cells.append("-")
                continue
            seeds = list(values[variant].values())
            mean = f"{np.mean(seeds):.3f}"
            if megabytes is None and len(seeds) > 1:
                mean += f" ± {np.std(seeds, ddof=1):.3f}"
            cells.append(f"**{mean}**" if heads.get(megabytes) == variant else mean)
        for ledger in LEDGERS:
            sent = list(totals(results, variant, ledger).values())
            cells.append(f"{np.mean(sent) / 1e6:.4g}" if sent else "-")
        body.append(cells)
    return rows(("", *map(_megabytes, at), *(f"MB, {ledger}" for ledger in LEDGERS)), body)


def _megabytes(megabytes: float | None) -> str:
    return "200 rounds" if megabytes is None else f"{megabytes:g} MB"


def verdicts(table: Sequence[claims.Line]) -> str:
    """A line a claim: what the paper's abstract says, and whether these runs show it."""
    body = []
    for name, claim in claims.CLAIMS.items():
        seeds = [line.seeds for line in table if line.claim == name and line.decides]
        body.append((claim.title, f"**{claims.verdict(list(table), name)}**", f"{min(seeds)} to {max(seeds)}"
                     if len(set(seeds)) > 1 else str(seeds[0])))  # fmt: skip
    return rows(("claim", "at this scale", "seeds"), body)


def comparisons(table: Sequence[claims.Line]) -> str:
    """A section a claim: its rule, and every comparison with its intervals."""
    parts = []
    for name, claim in claims.CLAIMS.items():
        own = [line for line in table if line.claim == name]
        body = [
            (f"**{line.what}**" if line.decides else line.what, *line.numbers.values(), str(line.seeds), line.verdict)
            for line in own
        ]
        header = ("comparison", *own[0].numbers, "seeds", "verdict")
        parts += [
            f"### {claim.title}: {claims.verdict(list(table), name)}",
            textwrap.fill(claim.rule, 120),
            rows(header, body),
        ]
    return "\n\n".join(parts)


def factors(results: Results) -> str:
    """What one changed field does to SCARLET."""
    body = []
    for variant, title in FACTORS.items():
        cells = [title]
        for who in WHO:
            found = paired(finals(results, variant, who), finals(results, "scarlet", who))
            cells.append(claims.points(found) if found.n else "not yet run")
        for ledger in LEDGERS:
            sent = ratio(totals(results, variant, ledger), totals(results, "scarlet", ledger))
            cells.append(f"{sent.mean:.3f}" if sent.n else "-")
        cells.append(str(len(results.get(variant, {}).keys() & results.get("scarlet", {}).keys())))
        body.append(cells)
    header = ("changed", "server, points", "mean client, points", "bytes ×, reference", "bytes ×, wire", "seeds")
    return rows(header, body)


def sharpening(results: Results) -> str:
    """Accuracy at each concentration, and the range over them, for every fixed parameter."""
    body = []
    names = {name: f"SCARLET, β = {beta:g}" for name, beta in runs.BETAS.items()}
    names |= {name: f"DS-FL + cache, T = {value:g}" for name, value in runs.TEMPERATURES.items()}
    for name, title in names.items():
        for who in WHO:
            cells = [title, claims.WHO_TITLES[who]]
            for found in claims.over_alphas(results, name, who).values():
                cells.append(f"{np.mean(list(found.values())):.3f}" if found else "not yet run")
            value = interval(np.array([100 * own for own in claims.ranges(results, name, who).values()]))
            cells += [claims.shown(value, "{:.1f}") if value.n else "not yet run", str(value.n)]
            body.append(cells)
    header = ("", "top-1 of the", *(f"α = {alpha:g}" for alpha in runs.ALPHAS.values()), "range, points", "seeds")
    drawn = any(claims.ranges(results, name, "server") for name in names)
    words = "Top-1 accuracy over the concentration of the partition for each fixed β and T, with 95 % intervals"
    return "\n\n".join(part for part in (figure("sharpening", drawn, words), rows(header, body)) if part)


def cifar_section(results: Results) -> str:
    """Curves and ranges over seeds; three seeds are too few for intervals."""
    body = []
    for variant in (name for name in TITLES if name in results):
        cells = [TITLES[variant], str(len(results[variant]))]
        for who in WHO:
            found = list(finals(results, variant, who).values())
            cells.append(f"{np.mean(found):.3f} ({min(found):.3f}–{max(found):.3f})")
        cells += [f"{np.mean(list(totals(results, variant, ledger).values())) / 1e6:.4g}" for ledger in LEDGERS]
        body.append(cells)
    header = ("", "seeds", "server: mean (range)", "mean client: mean (range)", *(f"MB, {name}" for name in LEDGERS))
    words = "Top-1 accuracy of the server model and of the mean client over cumulative bytes on small CIFAR-10"
    return "\n\n".join(
        part for part in (figure("cifar10_small", bool(balanced(results)), words), rows(header, body)) if part
    )


def provenance(records: Sequence[Record]) -> str:
    """Config, seeds and commit of every recorded variant."""
    found: dict[tuple[str, str, str, str, str], list[int]] = {}
    for record in records:
        key = (f"{record.setting}/{record.variant}", record.config, record.conv, record.commit[:12])
        command = " ".join(f"`{word}`" for word in runs.command(runs.Planned(record.setting, record.variant, 0))[:-1])
        found.setdefault((*key, command), []).append(record.seed)
    body = [
        (name, seed_words(seeds), f"`{config}`", conv, f"`{commit}`", command)
        for (name, config, conv, commit, command), seeds in found.items()
    ]
    return rows(("run", "seeds", "config", "convolution", "commit", "`python launch.py`, with `--config.seed`"), body)
