"""What was run: data, clients, training, versions and commit, as a run's config.json and environment.json say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from scarlet_jax import names
from scarlet_jax.data import PARTITIONERS
from scarlet_jax.methods import METHODS, Entry
from scarlet_jax.report.groups import Group
from scarlet_jax.report.runs import Run, starts

_UNKNOWN = "not recorded"
_FEW = 4  # labels, or values, that are listed


def described(group: Group) -> dict[str, str]:
    """Name and text of each fact, for people."""
    run, get = group.runs[0], _getter(group.runs[0])
    own = [start for run in group.runs for start in starts(run.path)]
    entry = METHODS.get(run.method, Entry(run.method))  # one outside the table is a distillation method
    return {
        "method": _listed(
            run.method, *((name, value) for name, value in run.config["method"].items() if name != "name")
        ),
        "private data": _data(get("data.private"), get("data.train_size")),
        "public data": _listed(_data(get("data.public")), ("N =", get("public_size")), ("P =", get("public_per_round")))
        if entry.public
        else "none",
        "clients": _listed(f"K = {_text(get('num_clients'))}", ("participation", get("participation"))),
        "partition": _partition(get),
        "rounds": _text(get("rounds")),
        "local training": _training(get, ""),
        "distillation": _training(get, "kd_") if entry.server_distils else "none",
        "learning rates": _listed(
            _text(get("lr_schedule")), ("horizon", get("lr_horizon")), ("milestones", get("lr_milestones"))
        ),
        "models": _listed(f"client {_text(get('model.client'))}", ("server", _server(run.method, get))),
        "cache": f"D = {run.duration}, {_text(get('cache.on_expiry'))}" if run.duration else "none",
        "seeds": ", ".join(str(run.seed) for run in group.runs),
        "versions": _distinct(map(_versions, own)),
        "commit": _distinct(start.get("commit") or _UNKNOWN for start in own),
        "devices": _distinct(map(_devices, own)),
    }


def columns(group: Group) -> dict[str, Any]:
    """The same for table.csv: plain numbers where there are some."""
    get, texts = _getter(group.runs[0]), described(group)
    numbers = {
        "num_clients": "num_clients", "participation": "participation", "alpha": "partition.alpha", "lr": "lr",
        "kd_lr": "kd_lr",
    }  # fmt: skip
    row = {name: names.in_csv(_data(get(f"data.{name}"))) for name in ("private", "public")}
    row |= {name: get(field) for name, field in numbers.items()}
    row["partition"] = names.in_csv(_text(get("partition.name")))
    return row | {name: names.in_csv(texts[name]) for name in ("versions", "commit")}


def _getter(run: Run) -> Callable[[str], Any]:
    """Fields of a run's config by their dotted name; None for one that an older program did not have."""

    def get(field: str) -> Any:
        value: Any = run.config
        for part in field.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    return get


def _data(name: Any, size: Any = 0) -> str:
    return names.of_file(_UNKNOWN if name is None else name) + (f", {size:,} images of it" if size else "")


def _partition(get: Callable[[str], Any]) -> str:
    name = _text(get("partition.name"))
    own = PARTITIONERS[name].parameters if name in PARTITIONERS else ()
    named = [(field.replace("_", " "), get(f"partition.{field}") or None) for field in own if field != "file"]
    return _listed(name, *named, ("seed", get("partition.seed")))


def _server(method: str, get: Callable[[str], Any]) -> str | None:
    """The architecture of the server's model; None where the method has none, or one for each group of clients."""
    entry = METHODS.get(method)
    own = entry is None or (entry.server and not (entry.group_servers and "," in _text(get("model.client"))))
    return get("model.server") if own else None


def _training(get: Callable[[str], Any], prefix: str) -> str:
    epochs = get(f"{prefix}epochs")
    head = "1 epoch" if epochs == 1 else f"{_text(epochs)} epochs"
    rest = [
        ("batches of", "batch_size"),
        ("optimizer", "optimizer"),
        ("lr", "lr"),
        ("momentum", "momentum"),
        ("weight decay", "weight_decay"),
    ]
    return _listed(head, *((name, get(prefix + field) or None) for name, field in rest))


def _versions(start: dict[str, Any]) -> str:
    versions = start.get("versions")
    found = {"python": start.get("python")} | (versions if isinstance(versions, dict) else {})
    return ", ".join(f"{name} {version}" for name, version in found.items() if version) or _UNKNOWN


def _devices(start: dict[str, Any]) -> str:
    devices = start.get("devices")
    count = Counter(map(str, devices if isinstance(devices, list) else []))
    return ", ".join(f"{number} x {name}" for name, number in count.items()) or _UNKNOWN


def _distinct(texts: Any) -> str:
    return "; ".join(dict.fromkeys(texts)) or _UNKNOWN


def _listed(head: str, *named: tuple[str, Any]) -> str:
    """`head, NAME VALUE, ...`, without those that have no value."""
    return ", ".join([head, *(f"{name} {_text(value)}" for name, value in named if value is not None)])


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return _UNKNOWN if value is None else str(value).lower()
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def compared(entries: Sequence[tuple[str, dict[str, str]]]) -> list[list[str]]:
    """Rows of a table: each fact, and what it is; where it differs, what it is for which labels.

    What has many values is a field that was varied, and the labels say it: then only its values are listed.
    """
    rows = []
    for name in entries[0][1] if entries else ():
        labels: dict[str, list[str]] = {}
        for label, facts in entries:
            labels.setdefault(facts[name], []).append(label)
        if len(labels) == 1:
            rows.append([name, next(iter(labels))])
        elif len(labels) > _FEW:
            rows.append([name, "; ".join(labels)])
        else:
            rows.append([name, "; ".join(f"{text} ({_some(who)})" for text, who in labels.items())])
    return rows


def _some(labels: Sequence[str]) -> str:
    more = len(labels) - _FEW
    return "; ".join(labels[:_FEW]) + (f"; {more} more" if more > 0 else "")
