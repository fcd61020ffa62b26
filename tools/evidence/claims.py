"""The claims of the paper's abstract, each with its rule, and what the runs say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tools.evidence import runs
from tools.evidence.intervals import COMPETITIVE, HALF, Interval, above, all_of, any_of, at_most, paired, ratio
from tools.evidence.leaderboard import TITLES
from tools.evidence.records import LEDGERS, Results, finals, totals

WHO_TITLES = {"server": "server", "client": "mean client"}
OTHERS = {name: TITLES[name] for name in ("dsfl", "cfd", "comet", "selective_fd")}
BILLED = "reference"  # the ledger of the verdicts: the paper's


class Claim(NamedTuple):
    """A claim of the abstract, and the rule by which a comparison shows it."""

    title: str
    rule: str


class Line(NamedTuple):
    """A comparison that bears on a claim.

    Attributes:
      claim: a key of CLAIMS.
      what: what is compared with what.
      numbers: title of a column -> mean and interval, in words; "-" without a pair of seeds.
      seeds: pairs behind the interval that has the fewest.
      verdict: one of intervals' words.
      decides: the claim as a whole rests on this line; other lines are shown beside it.
    """

    claim: str
    what: str
    numbers: dict[str, str]
    seeds: int
    verdict: str
    decides: bool


CLAIMS = {
    "half": Claim(
        "Half the communication at competitive accuracy",
        "Bytes: the interval of the quotient lies at or below 0.5. Accuracy, of the server and of the mean client: the "
        "interval of the difference lies above -2 points. The abstract says “up to”: the claim is shown if this holds "
        "against DS-FL at D = 10 or at D = 50. The other methods are shown beside it.",
    ),
    "steady": Claim(
        "Enhanced ERA is steadier than ERA over the degree of non-IID",
        "The range of accuracy (largest minus smallest) over α = 0.05, 0.3 and 1 is smaller at one fixed β than at one "
        "fixed T: the interval of the difference of the ranges lies above 0, for the server and for the mean client. "
        "The defaults decide, β = 2 against T = 0.1; both methods have the cache, so that they differ in the "
        "sharpening alone.",
    ),
    "cache": Claim(
        "The cache helps other methods too",
        "Bytes: the interval of the quotient lies below 1. Accuracy: above -2 points, as before. DS-FL decides.",
    ),
    "best": Claim(
        "Better than other distillation methods in accuracy and in communication",
        "Accuracy, of the server and of the mean client: the interval of the difference lies above 0. Bytes: the "
        "interval of the quotient lies below 1. “Consistently”: against all four.",
    ),
}


def lines(results: Results) -> list[Line]:
    """Every comparison, from the records of the digits."""
    found = []
    for variant, title in (("scarlet", "SCARLET (D = 10)"), ("scarlet-D50", "SCARLET (D = 50)")):
        for other, name in OTHERS.items():
            what = f"{title} against {name}"
            found.append(_cheaper(results, "half", variant, other, what, HALF, COMPETITIVE, other == "dsfl"))
    found += _steady(results)
    for variant, plain, name in (("dsfl+cache", "dsfl", "DS-FL"), ("scarlet", "scarlet-D0", "SCARLET")):
        what = f"{name} with the cache against {name} without"
        found.append(_cheaper(results, "cache", variant, plain, what, 1.0, COMPETITIVE, plain == "dsfl"))
    for other, name in OTHERS.items():
        found.append(_cheaper(results, "best", "scarlet", other, f"SCARLET (D = 10) against {name}", 1.0, 0.0, True))
    return found


def verdict(table: list[Line], claim: str) -> str:
    """On a claim as a whole, over the lines that decide it."""
    verdicts = [line.verdict for line in table if line.claim == claim and line.decides]
    return any_of(*verdicts) if claim == "half" else all_of(*verdicts)


def _cheaper(
    results: Results, claim: str, one: str, other: str, what: str, share: float, margin: float, decides: bool
) -> Line:
    """Bytes at most `share` of the other's, and both accuracies above the other's by more than `margin`."""
    bytes_ = {ledger: ratio(totals(results, one, ledger), totals(results, other, ledger)) for ledger in LEDGERS}
    gains = {who: paired(finals(results, one, who), finals(results, other, who)) for who in WHO_TITLES}
    numbers = {f"bytes ×, {ledger}": shown(value, "{:.3f}") for ledger, value in bytes_.items()}
    numbers |= {f"{WHO_TITLES[who]}, points": points(value) for who, value in gains.items()}
    seeds = min(value.n for value in (*bytes_.values(), *gains.values()))
    word = all_of(at_most(bytes_[BILLED], share), *(above(value, margin) for value in gains.values()))
    return Line(claim, what, numbers if seeds else dict.fromkeys(numbers, "-"), seeds, word, decides)


def ranges(results: Results, variant: str, who: str) -> dict[int, float]:
    """Seed -> range of accuracy over the concentrations of the partition."""
    found = over_alphas(results, variant, who).values()
    return {seed: float(np.ptp([values[seed] for values in found])) for seed in next(iter(found))}


def over_alphas(results: Results, variant: str, who: str) -> dict[str, dict[int, float]]:
    """Suffix of the concentration -> seed -> accuracy, of the seeds that a variant has at all of them."""
    found = {suffix: finals(results, variant + suffix, who) for suffix in runs.ALPHAS}
    seeds = sorted(set.intersection(*(set(values) for values in found.values())))
    return {suffix: {seed: values[seed] for seed in seeds} for suffix, values in found.items()}


def _steady(results: Results) -> Iterator[Line]:
    for temperature_variant, temperature in runs.TEMPERATURES.items():
        for beta_variant, beta in sorted(runs.BETAS.items(), key=lambda item: -item[1]):
            found = {
                who: paired(ranges(results, temperature_variant, who), ranges(results, beta_variant, who))
                for who in WHO_TITLES
            }
            numbers = {f"{WHO_TITLES[who]}, points": points(value) for who, value in found.items()}
            seeds = min(value.n for value in found.values())
            yield Line(
                "steady",
                f"range at T = {temperature:g} minus range at β = {beta:g}",
                numbers if seeds else dict.fromkeys(numbers, "-"),
                seeds,
                all_of(*(above(value, 0.0) for value in found.values())),
                (beta, temperature) == (2.0, 0.1),
            )


def points(value: Interval) -> str:
    """A difference of accuracies in percentage points."""
    return shown(Interval(100 * value.mean, 100 * value.low, 100 * value.high, value.n), "{:+.1f}")


def shown(value: Interval, form: str) -> str:
    """A mean and its interval."""
    mean = form.format(value.mean)
    return f"{mean} [{form.format(value.low)}, {form.format(value.high)}]" if value.n > 1 else mean
