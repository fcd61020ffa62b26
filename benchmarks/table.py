"""benchmarks/results/*.json -> benchmarks/results/table.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from benchmarks.common import RESULTS

PEERS = {
    "torch_2_threads": "PyTorch, 2 threads",
    "torch_2_processes": "PyTorch, 2 processes",
    "bound": "arithmetic bound",
}


def write() -> None:
    """Write and print the table of what has been measured."""
    lines = ["| what | ours: median (min, max) | against | ratio |", "| --- | --- | --- | --- |"]
    for name, rows in (("throughput", _throughput), ("round", _round), ("protocol", _protocol), ("scaling", _scaling),
                       ("start", _start), ("feed", _feed)):  # fmt: skip
        path = RESULTS / f"{name}.json"
        if path.exists():
            found = json.loads(path.read_text())
            lines += [f"| {' | '.join(row)} |" for row in rows(found)]
            machine = found["machine"]
    lines += [
        "",
        f"{machine['processor']}, {machine['cores']} cores, jax {machine['jax']}, commit {machine['commit']}.",
    ]
    text = "\n".join(lines) + "\n"
    (RESULTS / "table.md").write_text(text)
    print(text, flush=True)


def _span(values: dict[str, float], digits: int, unit: str) -> str:
    low, high = values.get("min"), values.get("max")
    around = f" ({low:,.{digits}f}, {high:,.{digits}f})" if low is not None and high is not None else ""
    return f"{values['median']:,.{digits}f}{around} {unit}"


def _throughput(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for case, rates in found["samples_per_second"].items():
        model, mode = case.split("_")
        kinds = dict.fromkeys(name.rsplit("_", 1)[0] for name in rates if name.startswith(("native", "cpu")))
        for kind in kinds:
            # On a CPU, one device or two: the better one counts.
            best = max((name for name in rates if name.rsplit("_", 1)[0] == kind), key=lambda n: rates[n]["median"])
            where = f"{model}, {mode}, {'native' if kind == 'native' else 'pure JAX'}, {best[-1]} device(s)"
            ours = _span(rates[best], 0, "samples/s")
            for peer, label in PEERS.items():
                ratio = rates[best]["median"] / rates[peer]["median"]
                yield where, ours, f"{label}: {_span(rates[peer], 0, 'samples/s')}", f"{ratio:.2f}"


def _round(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    taken = found["seconds"]
    peer = taken["torch_batches"]
    for name, own in taken.items():
        if name != "torch_batches":
            ratio = peer["median"] / own["median"]
            against = f"PyTorch's batches alone, 2 processes: {_span(peer, 1, 's')}"
            yield f"a round of ResNet-20, {name}", _span(own, 1, "s"), against, f"{ratio:.2f}"
    total = sum(found["phases"].values())
    shares = ", ".join(f"{name} {100 * s / total:.0f} %" for name, s in found["phases"].items() if s / total >= 0.005)
    yield "its phases, waited for one by one", f"{total:.1f} s", shares, ""


def _protocol(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for case, taken in found["cases"].items():
        rounds = taken["rounds"]
        own, loop = ({k: 1e3 * v / rounds for k, v in taken[side].items()} for side in ("ours", "loop"))
        yield (
            f"protocol of a round, {case}",
            _span(own, 1, "ms"),
            f"Python loop: {_span(loop, 0, 'ms')}",
            (f"{taken['ratio']:.0f}"),
        )


def _scaling(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for model, own in found["models"].items():
        last, hundred = own["clients"]["1000"], own["clients"]["100"]
        yield (
            f"a round of 1,000 clients, {model}", _span(last, 2, "s"),
            f"exponent in K from 10 to 1,000: {own['exponent']:.2f} (bound 1)", f"{own['exponent']:.2f}",
        )  # fmt: skip
        bound = 2 * hundred["peak_rss_mb"] + last["state_mb"]
        yield (
            f"peak memory, 1,000 clients, {model}", f"{last['peak_rss_mb']:,.0f} MB",
            f"2 x that of 100 clients and the state: {bound:,.0f} MB", f"{last['peak_rss_mb'] / bound:.2f}",
        )  # fmt: skip


def _start(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, sides in found["seconds"].items():
        for side in ("cold", "warm"):
            ratio = sides[side]["median"] / sides["imports"]["median"]
            against = f"importing the libraries: {_span(sides['imports'], 1, 's')}"
            yield f"command to the end of round 0, {name}, {side}", _span(sides[side], 1, "s"), against, f"{ratio:.1f}"


def _feed(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    fed, resident = found["seconds"]["host_fed"], found["seconds"]["on_device"]
    size = found["mb_on_a_device"]
    yield (
        f"a round of ResNet-20, images on the host ({size['host_fed']:.0f} MB of data on a device)", _span(fed, 1, "s"),
        f"all on the device ({size['on_device']:.0f} MB): {_span(resident, 1, 's')}",
        f"{resident['median'] / fed['median']:.2f}",
    )  # fmt: skip
