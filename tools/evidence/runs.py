"""The runs of the evidence, as data: what is trained, in which order, with which seeds."""

from __future__ import annotations

from typing import NamedTuple

# One implementation of the convolution for every run: with "auto" two machines might choose differently.
FIXED = {"model.conv": "native"}


class Setting(NamedTuple):
    """An experiment that variants share.

    Attributes:
      config: file of the experiment.
      fields: overrides of its fields.
    """

    config: str
    fields: dict[str, object]


class Part(NamedTuple):
    """Variants of one setting, each with every seed.

    Attributes:
      setting: name in SETTINGS.
      seeds: in the outer loop, so that a comparison grows seed by seed.
      variants: name of a variant -> what follows the config's colon, and overrides of fields.
    """

    setting: str
    seeds: range
    variants: dict[str, tuple[str, dict[str, object]]]


class Planned(NamedTuple):
    """One run."""

    setting: str
    variant: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder and of its record."""
        return f"{self.setting}/{self.variant}-s{self.seed}"


# A digits run is short: it starts again where it was stopped. A CIFAR run resumes.
SETTINGS = {
    "digits": Setting("configs/digits.py", {"rounds": 200, "checkpoint.every": 1000}),
    "cifar10_small": Setting("configs/cifar10_small.py", {"rounds": 80, "checkpoint.every": 10}),
}

METHODS: dict[str, tuple[str, dict[str, object]]] = {
    "scarlet": ("scarlet", {}),
    "dsfl": ("dsfl", {}),
    "dsfl+cache": ("dsfl+cache", {}),
    "scarlet-D0": ("scarlet", {"cache.duration": 0}),
    "cfd": ("cfd", {}),
    "comet": ("comet", {}),
    "selective_fd": ("selective_fd", {}),
    "fedavg": ("fedavg", {}),
    "feddf": ("feddf", {}),
    "fedmd": ("fedmd", {}),
    "kt_pfl": ("kt_pfl", {}),
    "fd": ("fd", {}),
    "fedproto": ("fedproto", {}),
    "individual": ("individual", {}),
    "centralized": ("centralized", {}),
}

# The concentrations of the partition; 0.3 is that of configs/digits.py and has no suffix.
ALPHAS = {"-a0.05": 0.05, "": 0.3, "-a1": 1.0}
BETAS = {"scarlet-b0.5": 0.5, "scarlet-b1": 1.0, "scarlet": 2.0}
TEMPERATURES = {"dsfl+cache": 0.1, "dsfl+cache-T0.5": 0.5}


def _sharpening() -> dict[str, tuple[str, dict[str, object]]]:
    """Every sharpening at every concentration, but for those that METHODS has already."""
    variants: dict[str, tuple[str, dict[str, object]]] = {}
    for suffix, alpha in ALPHAS.items():
        for name, beta in BETAS.items():
            variants[name + suffix] = "scarlet", {"method.beta": beta, "partition.alpha": alpha}
        for name, temperature in TEMPERATURES.items():
            variants[name + suffix] = "dsfl+cache", {"method.temperature": temperature, "partition.alpha": alpha}
    return {name: variant for name, variant in variants.items() if name not in METHODS}


FACTORS: dict[str, tuple[str, dict[str, object]]] = {
    "scarlet-D50": ("scarlet", {"cache.duration": 50}),
    "scarlet-refresh": ("scarlet", {"cache.on_expiry": "refresh"}),
    "scarlet-p0.3": ("scarlet", {"participation": 0.3}),
    "scarlet-8bit": ("scarlet", {"comm.label_bits": 8}),
}


def _order() -> tuple[Part, ...]:
    """The runs on which a claim rests come first; later ones show more beside them and make intervals narrower."""
    sharpening = _sharpening()
    deciding = {name: sharpening.pop(name) for name in list(sharpening) if name.rpartition("-a")[0] in METHODS}
    factors = dict(FACTORS)
    longest = {"scarlet-D50": factors.pop("scarlet-D50")}
    return (
        Part("digits", range(5), METHODS),
        Part("digits", range(5), longest),
        Part("digits", range(5), deciding),
        Part("digits", range(5), sharpening),
        Part("digits", range(5), factors),
        Part("digits", range(5, 10), METHODS),
        Part("cifar10_small", range(3), {name: METHODS[name] for name in ("scarlet", "dsfl", "dsfl+cache")}),
    )


PARTS = _order()


def planned() -> list[Planned]:
    """Every run, in the order in which they are trained."""
    return [Planned(part.setting, variant, seed) for part in PARTS for seed in part.seeds for variant in part.variants]


def variants() -> dict[tuple[str, str], tuple[str, dict[str, object]]]:
    """Setting and variant -> what follows the config's colon, and overrides of fields."""
    return {(part.setting, name): variant for part in PARTS for name, variant in part.variants.items()}


def command(run: Planned) -> list[str]:
    """The arguments of `launch.py` for a run, its workdir aside."""
    setting = SETTINGS[run.setting]
    method, fields = variants()[run.setting, run.variant]
    overrides = FIXED | setting.fields | fields | {"seed": run.seed}
    return [f"--config={setting.config}:{method}", *(f"--config.{name}={value}" for name, value in overrides.items())]
