"""The table of methods: everything that the program says or must know of a method by its name.

Config fields, rules, `--help`, sweeps and reports are made from this table. It is data: importing it imports no jax.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from scarlet_jax.errors import UserError, bad_field, first_line
from scarlet_jax.tables import REQUIRED, Parameter, load


class Ask(NamedTuple):
    """What a method asks of another field of the config, which is a number."""

    why: str  # follows the field and its value in a refusal
    least: float
    most: float = math.inf


class Entry(NamedTuple):
    """One method of the table. The defaults are those of a distillation method."""

    # "module:function", or the function; its parameters are the method's fields under config.method
    builder: str | Callable[..., Any]
    title: str = ""  # in reports; empty: the method's name
    parameters: Mapping[str, Parameter] = {}  # of the builder, by name
    asks: Mapping[str, Ask] = {}  # by the field's dotted name
    # Whether the builder returns a `base.Method`. Otherwise it returns a `class_knowledge.ClassMethod` if `by_class`,
    # and a `base.Make` if not.
    distils: bool = True
    by_class: bool = False  # whether clients and server exchange a vector for each class
    public: bool = True  # whether the public pool is used; otherwise it is not loaded
    prototypes: bool = False  # whether clients are also evaluated by the nearest prototype
    duration: int = 0  # the method's own D, used if the config leaves cache.duration open
    server: bool = True  # whether there is a server model
    # Whether clients keep their own models; otherwise the server's, of the same architecture, is evaluated for them.
    own_models: bool = True
    # Of a method whose clients keep no models: whether the server has a model for each architecture of clients, so that
    # they may have several; otherwise a single one for all.
    group_servers: bool = False
    one_model: bool = False  # whether a round trains a single model, for which one device is enough
    sends: bool = True  # whether clients and server exchange anything that is billed
    server_distils: bool = True  # whether a model learns from labels: then kd_lr may be why a loss diverges
    # A parameter and "module:function" with the builder's parameters: unless that parameter is 0, the function returns
    # an optax transformation of the gradient that is put before the optimizer of private training.
    gradient: tuple[str, str] | None = None


_HERE = "scarlet_jax.methods"

# A new method is added at the end: the order is that of --help, and of the colours and markers in reports.
METHODS: dict[str, Entry] = {
    "scarlet": Entry(f"{_HERE}.scarlet:scarlet", "SCARLET", {
        "beta": Parameter(2.0, "Enhanced ERA exponent (1: no change)", 0, traced=True, synonyms=("sharpening",)),
    }, duration=50),
    "dsfl": Entry(f"{_HERE}.dsfl:dsfl", "DS-FL", {
        # Of probabilities divided by T, float32 must still know differences of a tenth: `sharpen.era`.
        "temperature": Parameter(0.1, "ERA temperature T", 1e-6, traced=True, synonyms=("tau",)),
    }),
    "cfd": Entry(f"{_HERE}.cfd:cfd", "CFD", {
        "uplink_bits": Parameter(1, "1 = arg-max, more = quantiser", 1, 32, kind=int),
        "downlink_bits": Parameter(None, "8, 16 or 32", choices=(8, 16, 32), kind=int, shown="comm.label_bits"),
    }, {"kd_epochs": Ask("but cfd broadcasts predictions recorded during distillation", 1)}),
    "comet": Entry(f"{_HERE}.comet:comet", "COMET", {
        "num_clusters": Parameter(2, "centroids per sample", 1, 255, kind=int, synonyms=("nclusters", "clusters")),
        "weight": Parameter(1.0, "factor of the distillation loss", 0, traced=True),
    }),
    "selective_fd": Entry(f"{_HERE}.selective_fd:selective_fd", "Selective-FD", {
        "width": Parameter(5.0, "Gaussian kernel width", 1e-100),  # its square is a float64
        "lambda_exponent": Parameter(0.5, "n_k ** this regularises", -10, 10),
        "quantile": Parameter(0.125, "of a client's held-out images", 0, 1),
        "threshold": Parameter(2.0, "L1 distance of the server", 1e-30, traced=True),
    }),
    "fedavg": Entry(f"{_HERE}.fedavg:fedavg", "FedAvg", {
        "prox_mu": Parameter(0.0, "FedProx's factor", 0, traced=True, synonyms=("mu", "proxmu", "proximalmu")),
    }, distils=False, public=False, own_models=False, server_distils=False,
        gradient=("prox_mu", f"{_HERE}.fedavg:proximal")),
    "feddf": Entry(f"{_HERE}.feddf:feddf", "FedDF", distils=False, own_models=False, group_servers=True),
    "individual": Entry(
        f"{_HERE}.individual:individual", "Individual",
        distils=False, public=False, server=False, sends=False, server_distils=False,
    ),
    "centralized": Entry(
        f"{_HERE}.centralized:centralized", "Centralized",
        asks={"participation": Ask("but centralized trains on the images of all", 1, 1)},
        distils=False, public=False, own_models=False, one_model=True, sends=False, server_distils=False,
    ),
    "fedmd": Entry(f"{_HERE}.fedmd:fedmd", "FedMD", {
        "warmup_epochs": Parameter(25, "private epochs in a client's first participation", 0, kind=int),
    }, server=False),
    "kt_pfl": Entry(f"{_HERE}.kt_pfl:kt_pfl", "KT-pFL", {
        "coefficient_lr": Parameter(0.01, "step size of the knowledge coefficients", 0, traced=True),
        "rho": Parameter(0.7, "penalty for coefficients that are not uniform", 0, traced=True),
    }, server=False),
    "fd": Entry(f"{_HERE}.fd:fd", "FD", {
        "gamma": Parameter(0.1, "factor of the distillation term", 0, traced=True),
    }, distils=False, by_class=True, public=False, server=False, server_distils=False),
    "fedproto": Entry(f"{_HERE}.fedproto:fedproto", "FedProto", {
        "weight": Parameter(
            1.0, "factor of the distance to prototypes (lambda)", 0, traced=True, synonyms=("lambda", "ld", "lamda")
        ),
        "average": Parameter(
            "clients", "what counts alike in a prototype: clients or images", choices=("clients", "images"), kind=str
        ),
    }, distils=False, by_class=True, public=False, prototypes=True, server=False, server_distils=False),
}  # fmt: skip


def find(name: str) -> Entry:
    """The entry of a method: from the table, or of a method outside the package that is named "module:function".

    Raises:
      UserError: there is no such method, or its module cannot be imported.
    """
    if name in METHODS:
        return METHODS[name]
    if ":" in str(name):
        return Entry(name, parameters=_outside(name))
    near = difflib.get_close_matches(str(name), METHODS, 1)
    why = f"(did you mean {near[0]}?)" if near else ""
    raise bad_field("method.name", name, f"one of {', '.join(METHODS)}, or MODULE:FUNCTION", why)


def title(name: str) -> str:
    """The name of a method in reports. Nothing is loaded: a method outside the table has its own name."""
    return METHODS[name].title or name if name in METHODS else name


def parameters() -> dict[str, Parameter]:
    """The parameters of all methods of the table, by name; of those of one name, the last."""
    return {name: own for entry in METHODS.values() for name, own in entry.parameters.items()}


def register(name: str, builder: Callable[..., Any], **facts: Any) -> None:
    """Give a method of one's own a name, for this process: `config.method.name = name` then runs it.

    Args:
      name: a new one.
      builder: a function of the method's parameters that returns a `Method`.
      **facts: fields of `Entry` that differ from their defaults, such as `duration`. Unless given, the parameters are
        those of the builder's signature, with every value of their type.

    Raises:
      UserError: the name is taken.
    """
    if name in METHODS:
        raise UserError(f"there is a method {name!r} already; give yours another name.")
    METHODS[name] = Entry(builder, **{"parameters": signature(builder), **facts})


def signature(builder: Callable[..., Any]) -> dict[str, Parameter]:
    """The parameters of a builder by its signature. Each has the type of its default, else that of its annotation."""
    found = inspect.signature(builder).parameters.values()
    named = [own for own in found if own.kind not in (own.VAR_POSITIONAL, own.VAR_KEYWORD)]
    return {own.name: Parameter(own.default, kind=_kind(own)) for own in named}


def _kind(parameter: inspect.Parameter) -> type:
    if parameter.default not in (None, REQUIRED):
        return type(parameter.default)
    written = getattr(parameter.annotation, "__name__", str(parameter.annotation))
    return next((kind for kind in (int, float, bool, str) if written.startswith(kind.__name__)), float)


def _outside(name: str) -> dict[str, Parameter]:
    """The parameters of a method outside the package. One that cannot be loaded is refused in one sentence."""
    allowed = "MODULE:FUNCTION, where Python finds that module"
    try:
        function = load(name)
        found = signature(function) if callable(function) else None
    except Exception as error:  # the module is the user's, and may do anything
        why = f"which gives {type(error).__name__}: {first_line(error)}"
        raise bad_field("method.name", name, allowed, why) from error
    if found is None:
        raise bad_field("method.name", name, allowed, "which is no function")
    return found
