"""The leaf fields of a config by dotted name: values, types, what follows from them, the name that was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ml_collections import config_dict

from scarlet_jax import data, methods

# What other programs and papers call a field. Written as `_simple` writes it.
SYNONYMS = {
    "learningrate": "lr", "stepsize": "lr", "eta": "lr", "clientlr": "lr", "locallr": "lr",
    "kdlearningrate": "kd_lr", "distilllr": "kd_lr", "distillationlr": "kd_lr", "serverlr": "kd_lr",
    "optim": "optimizer", "solver": "optimizer", "localoptimizer": "optimizer", "clientoptimizer": "optimizer",
    "distilloptimizer": "kd_optimizer", "serveroptimizer": "kd_optimizer",
    "scheduler": "lr_schedule", "lrscheduler": "lr_schedule", "lrdecay": "lr_schedule", "tmax": "lr_horizon",
    "decayrounds": "lr_horizon", "milestones": "lr_milestones", "stepsizes": "lr_milestones", "gamma": "lr_gamma",
    "targetaccuracy": "stop.server_top1", "targetacc": "stop.server_top1", "earlystopping": "stop.server_top1",
    "bytebudget": "stop.megabytes", "budget": "stop.megabytes", "maxmb": "stop.megabytes",
    "wd": "weight_decay", "l2": "weight_decay", "decay": "weight_decay",
    "bs": "batch_size", "batch": "batch_size", "minibatchsize": "batch_size", "trainbatchsize": "batch_size",
    "kdbatch": "kd_batch_size", "distillbatchsize": "kd_batch_size", "distillationbatchsize": "kd_batch_size",
    "numepochs": "epochs", "localepochs": "epochs", "localsteps": "epochs", "clientepochs": "epochs", "e": "epochs",
    "distillepochs": "kd_epochs", "distillationepochs": "kd_epochs", "serverepochs": "kd_epochs",
    "numrounds": "rounds", "communicationrounds": "rounds", "commrounds": "rounds", "globalrounds": "rounds",
    "globalepochs": "rounds", "iterations": "rounds", "steps": "rounds", "numiterations": "rounds", "t": "rounds",
    "k": "num_clients", "clients": "num_clients", "nclients": "num_clients",
    "numusers": "num_clients", "users": "num_clients", "numparties": "num_clients", "nparties": "num_clients",
    "numnodes": "num_clients", "numworkers": "num_clients", "clientcount": "num_clients",
    "frac": "participation", "fraction": "participation", "fractionfit": "participation", "c": "participation",
    "joinratio": "participation", "samplefraction": "participation", "clientfraction": "participation",
    "samplerate": "participation", "samplingrate": "participation", "participationrate": "participation",
    "clientsperround": "participation", "numparticipants": "participation", "m": "participation",
    "sampling": "sampling.by", "sampler": "sampling.by", "clientsampling": "sampling.by", "selection": "sampling.by",
    "evalinterval": "eval_every", "evalfreq": "eval_every", "testevery": "eval_every", "evaluateevery": "eval_every",
    "evalfrequency": "eval_every",
    "randomseed": "seed", "rngseed": "seed", "randomstate": "seed",
    "dataset": "data.private", "datasetname": "data.private", "traindata": "data.private",
    "privatedataset": "data.private", "publicdataset": "data.public", "opendataset": "data.public",
    "proxydataset": "data.public", "unlabeleddata": "data.public", "unlabelleddata": "data.public",
    "datadir": "data.dir", "datapath": "data.dir", "dataroot": "data.dir", "root": "data.dir",
    "n": "public_size", "p": "public_per_round", "poolsize": "public_size", "numpublic": "public_size",
    "opensize": "public_size", "publicsamples": "public_per_round", "samplesperround": "public_per_round",
    "iid": "partition.name", "split": "partition.name", "partitioner": "partition.name",
    "arch": "model.client", "architecture": "model.client", "network": "model.client", "net": "model.client",
    "backbone": "model.client", "clientmodel": "model.client", "servermodel": "model.server",
    "globalmodel": "model.server", "modeldtype": "model.precision", "dtype": "model.precision",
    "bf16": "model.precision", "amp": "model.precision", "mixedprecision": "model.precision", "tf32": "model.precision",
    "algorithm": "method.name", "algo": "method.name", "strategy": "method.name", "aggregation": "method.name",
    "cacheduration": "cache.duration", "d": "cache.duration", "ttl": "cache.duration", "expiry": "cache.on_expiry",
    "cacheratio": "cache.ratio", "bits": "comm.label_bits", "quantization": "comm.label_bits",
    "augment": "private_augment", "augmentation": "private_augment", "dataaugmentation": "private_augment",
    "chunk": "clients_per_chunk", "chunksize": "clients_per_chunk", "savefreq": "checkpoint.every",
    "saveevery": "checkpoint.every", "checkpointinterval": "checkpoint.every", "ckptevery": "checkpoint.every",
    "maxtokeep": "checkpoint.keep", "gradientcheckpointing": "remat", "rematerialize": "remat",
    "checkpointing": "remat", "usewandb": "wandb.mode", "profile": "profile_rounds",
}  # fmt: skip


def leaves(config: config_dict.ConfigDict) -> dict[str, Any]:
    """Value of every leaf field, in the order of the config; None where a field is open."""
    return {name: group[key] for name, group, key in _walk(config, "")}


def types(config: config_dict.ConfigDict) -> dict[str, type]:
    """Type of every leaf field; an open field has its placeholder's type."""
    return {name: group.get_type(key) for name, group, key in _walk(config, "")}


def plain(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """A copy of a config with Python's own numbers and text in place of NumPy's scalars, and without references."""
    copy = config_dict.ConfigDict(config.copy_and_resolve_references())
    make_plain(copy)
    return copy


def make_plain(config: config_dict.ConfigDict) -> None:
    """Replace NumPy's scalars by Python's, in place. A float of less precision is read by its decimals: 0.1 is 0.1."""
    for _, group, key in list(_walk(config, "")):
        value = group[key]
        if isinstance(value, np.generic):
            single = isinstance(value, np.floating) and not isinstance(value, np.float64)
            with group.unlocked(), group.ignore_type():
                group[key] = float(str(value)) if single else value.item()


def is_group(value: Any) -> bool:
    """Whether a value of a config is a group of fields, which may be empty."""
    return isinstance(value, config_dict.ConfigDict)


def set_open(config: config_dict.ConfigDict, field: str) -> None:
    """Leave a field to the method or the program."""
    group, _, key = field.rpartition(".")
    owner = config[group] if group else config
    with owner.ignore_type():
        owner[key] = None


def synonyms() -> dict[str, str]:
    """The field that is meant by each other word, those for the parameters of methods and partitioners included."""
    own = {"method": methods.parameters(), "partition": data.parameters()}
    return SYNONYMS | {
        word: f"{group}.{name}" for group, found in own.items() for name, one in found.items() for word in one.synonyms
    }


def nearest(field: str, known: Sequence[str]) -> str | None:
    """The known field that was probably meant: the same last name in another group, another word for it, or a similar
    spelling."""
    last, others = field.rpartition(".")[2], synonyms()
    by_last_name = {name.rpartition(".")[2]: name for name in reversed(known)}
    if last in by_last_name:
        return by_last_name[last]
    for word in (_simple(field), _simple(last)):
        if others.get(word) in known:
            return others[word]
    close = difflib.get_close_matches(field, known, n=1)
    if close:
        return close[0]
    close = difflib.get_close_matches(last, list(by_last_name), n=1)
    if close:
        return by_last_name[close[0]]
    words = {word: name for word, name in others.items() if name in known and len(word) > 3}
    close = difflib.get_close_matches(_simple(last), list(words), n=1, cutoff=0.8)
    return words[close[0]] if close else None


def round_range(text: str) -> range | None:
    """The rounds of a text such as "3:5", which are 3 and 4, counted from 0. "" gives none; None: not such a text."""
    match = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", text)
    if match is None:
        return None if text else range(0)
    first, end = map(int, match.groups())
    return range(first, end) if first < end else None


def milestones(text: Any) -> list[int]:
    """The rounds of a text such as "100,150": ascending whole numbers of at least 1. Empty: it is no such text."""
    found = [whole(part.strip()) for part in text.split(",")] if isinstance(text, str) else []
    numbers = [number for number in found if number is not None]
    ascending = all(a < b for a, b in zip([0, *numbers], [*numbers, 2**31], strict=True))
    return numbers if len(numbers) == len(found) and ascending else []


def whole(text: str) -> int | None:
    """The whole number that up to ten digits spell; None for any other text."""
    return int(text) if re.fullmatch(r"[0-9]{1,10}", text) else None


def _simple(name: str) -> str:
    """A name without case and divisions: Learning-Rate and learning_rate are learningrate."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def shown_group(config: config_dict.ConfigDict, name: str) -> dict[Any, Any]:
    """The fields of a group as a plain dictionary, which a sentence can repeat."""
    for key in name.split("."):
        config = config[key]
    return config.to_dict()


def _walk(config: config_dict.ConfigDict, prefix: str) -> Iterator[tuple[str, config_dict.ConfigDict, Any]]:
    """Dotted name, group and key of every leaf; a group without fields is a leaf, too."""
    for key in config:
        if isinstance(config[key], config_dict.ConfigDict) and len(config[key]):
            yield from _walk(config[key], f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", config, key


def add_method_parameters(config: config_dict.ConfigDict, name: str) -> None:
    """Make the parameters of a method open fields under config.method, which has those of the table already.

    A parameter of the same name and another type, of another method, gives way unless the config sets it.

    Raises:
      UserError: there is no such method, or it cannot be loaded.
    """
    kinds, group = types(config), config.method
    with group.unlocked():
        for key, parameter in methods.find(name).parameters.items():
            if kinds.get(f"method.{key}", parameter.kind) is not parameter.kind and group[key] is None:
                del group[key]
            if key not in group:
                group[key] = config_dict.placeholder(parameter.kind)


def method_parameters(config: config_dict.ConfigDict) -> dict[str, Any]:
    """Every parameter of the config's method: what the config sets, or the method's own default."""
    found = methods.find(config.method.name).parameters
    given = {key: config.method.get(key) for key in found}
    return {key: found[key].default if value is None else value for key, value in given.items()}


def durations(config: config_dict.ConfigDict) -> dict[str, int]:
    """D as the run has it ("duration"), and the method's own, which an open `cache.duration` takes ("own")."""
    own = methods.find(config.method.name).duration
    return {"duration": own if config.cache.duration is None else config.cache.duration, "own": own}
