"""How each kernel is launched: grid, tiles, results. What is covered, and what is left to XLA's convolution."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from scarlet_jax.models.conv.forms import Shape

_MOST_CHANNELS = 512
_FEW = 16  # a product wants at least as many channels; with fewer, the taps of a window are gathered
_PROGRAMS = 132 * 8  # enough to fill a large card
_HOPPER = 90  # compute capability: of the cards that the tiles were measured on; older ones have other products


class Problem(NamedTuple):
    """One convolution of stacked clients, 1x1 or 3x3, padded so that stride 1 keeps the size of the image."""

    clients: int
    batch: int
    height: int
    width: int
    inputs: int
    outputs: int
    size: int
    stride: int

    @property
    def out_height(self) -> int:
        """Rows of the result."""
        return (self.height - 1) // self.stride + 1

    @property
    def out_width(self) -> int:
        """Columns of the result."""
        return (self.width - 1) // self.stride + 1

    @property
    def image(self) -> Shape:
        """Shape of the stacked images."""
        return (self.clients, self.batch, self.height, self.width, self.inputs)

    @property
    def result(self) -> Shape:
        """Shape of the stacked results."""
        return (self.clients, self.batch, self.out_height, self.out_width, self.outputs)

    @property
    def weights(self) -> Shape:
        """Shape of the stacked weights."""
        return (self.clients, self.size, self.size, self.inputs, self.outputs)

    @property
    def few(self) -> bool:
        """Whether the input has too few channels for a product of its own at each tap."""
        return self.inputs < _FEW

    def constants(self) -> dict[str, int]:
        """What every kernel is compiled for."""
        return {
            "H": self.height, "W": self.width, "HO": self.out_height, "WO": self.out_width, "BATCH": self.batch,
            "STRIDE": self.stride, "SIZE": self.size, "CIN": self.inputs, "COUT": self.outputs,
        }  # fmt: skip


class Launch(NamedTuple):
    """A kernel of `kernels.py` by name, and everything that its call needs but arrays."""

    kernel: str
    grid: tuple[int, int, int]
    constants: tuple[tuple[str, Any], ...]
    results: tuple[tuple[Shape, str], ...]  # shape and dtype
    warps: int
    stages: int


def covers(problem: Problem, dtype: str) -> bool:
    """Whether the kernels compute this convolution and its gradients."""

    def wide(channels: int) -> bool:
        return _FEW <= channels <= _MOST_CHANNELS and channels & (channels - 1) == 0

    few = problem.few and problem.size**2 * problem.inputs <= 128
    return (
        dtype in ("float32", "bfloat16")
        and problem.size in (1, 3)
        and problem.stride in (1, 2)
        and wide(problem.outputs)
        and (wide(problem.inputs) or few)
        # Offsets within a client are 32 bits wide; a grid's second and third dimension are 16.
        and max(math.prod(problem.image[1:]), math.prod(problem.result[1:])) < 2**31
        and problem.clients < 2**16
    )


def _power_of_two(at_least: int) -> int:
    return 1 << (at_least - 1).bit_length()


Tile = dict[str, int]


# Exact float32 runs on no matrix unit: every multiplication stands in the program by itself, so tiles are small.
_EXACT = {"BM": 32, "BN": 16, "BK": 16, "LOOP": 1, "KEEP": 0, "warps": 4, "stages": 1}
_EXACT_WEIGHTS = {"BI": 16, "BO": 16, "BP": 16, "ROWS": 1, "warps": 1, "stages": 1, "PROGRAMS": 132 * 8}


def _sweeps(problem: Problem, precision: str) -> bool:
    """Whether a row of the image is loaded once for the three rows of the result that it meets."""
    if precision == "ieee":
        return False
    return problem.size == 3 and problem.stride == 1 and not problem.few and max(problem.inputs, problem.outputs) <= 32


def _sweep(problem: Problem, dtype: str, columns: int, depth: int, backward: bool) -> Tile:
    """The tile of a sweep over rows: pixels, channels, rows."""
    t = {"BM": 64, "BN": columns, "BK": depth, "ROWS": 32, "AHEAD": 0, "KEEP": 1, "warps": 4, "stages": 3}
    if max(columns, depth) <= 16:
        return t | ({"BM": 32, "warps": 1} if dtype == "float32" or not backward else {})
    return t | {"ROWS": 16} | ({"AHEAD": 1, "stages": 1} if dtype == "float32" else {})


def _window(problem: Problem, columns: int, depth: int, capability: int) -> Tile:
    """The tile of a kernel that loads each tap of the window: pixels, channels, depth of a product, tiles a program."""
    t = {"BM": 128, "BN": min(columns, 64), "BK": min(depth, 64), "warps": 4, "stages": 1}
    if capability < _HOPPER:
        t |= {"BM": 64, "BN": min(columns, 32), "BK": 16 if depth <= 32 else 32}  # weights of all taps fill registers
    keep = capability >= _HOPPER and (problem.stride == 2 or max(columns, depth) <= 32)
    return t | {"LOOP": 1 if problem.stride == 2 else 4, "KEEP": int(keep)}


def forward(
    problem: Problem, dtype: str, precision: str, tile: Tile | None = None, capability: int = _HOPPER
) -> Launch:
    """x, w -> out, partial sums."""
    p = problem
    if p.few:
        depth = _power_of_two(max(16, p.size**2 * p.inputs))
        t = {"BM": 64, "BN": min(p.outputs, 64), "DEPTH": depth, "LOOP": 4, "KEEP": 1, "warps": 2, "stages": 1}
        t |= _EXACT if precision == "ieee" else {}
        return _over_pixels("forward_few", p, dtype, False, t | (tile or {}), {"PRECISION": precision})
    if _sweeps(p, precision) and "LOOP" not in (tile or {}):
        t = _sweep(p, dtype, p.outputs, p.inputs, False) | (tile or {})
        return _over_rows("forward_rows", p, dtype, False, t, {"PRECISION": precision})
    t = _window(p, p.outputs, p.inputs, capability)
    if dtype == "float32" and p.stride == 1 and max(p.inputs, p.outputs) > 32:
        t["warps"] = 8
    t |= (_EXACT if precision == "ieee" else {}) | (tile or {})
    return _over_pixels("forward", p, dtype, False, t, {"PRECISION": precision})


def input_gradient(
    problem: Problem, dtype: str, precision: str, active: bool, kept: bool, extra: bool, tile: Tile | None = None,
    capability: int = _HOPPER,
) -> Launch:  # fmt: skip
    """d, w, y, z, extra, factor, offset -> gradient before the activation, partial sums."""
    p = problem
    flags = {"PRECISION": precision, "ACTIVE": active, "KEPT": kept, "EXTRA": extra}
    if _sweeps(p, precision) and "LOOP" not in (tile or {}):
        t = _sweep(p, dtype, p.inputs, p.outputs, True) | (tile or {})
        return _over_rows("input_gradient_rows", p, dtype, True, t, flags)
    t = _window(p, p.inputs, p.outputs, capability)
    if p.stride == 1 and max(p.inputs, p.outputs) > 32:
        t |= {"warps": 8, "LOOP": 1}
    t |= (_EXACT if precision == "ieee" else {}) | (tile or {})
    if p.stride == 1:
        return _over_pixels("input_gradient", p, dtype, True, t, flags)
    t["BM"] = max(16, t["BM"] // 2)  # each of these pixels stands for four of the input
    return _over_pixels("input_gradient_halved", p, dtype, True, t, flags)


def _over_rows(kernel: str, p: Problem, dtype: str, backward: bool, t: Tile, more: dict[str, Any]) -> Launch:
    programs = -(-p.batch * p.width // t["BM"]) * -(-p.height // t["ROWS"])
    return _launch(kernel, p, dtype, backward, t, ("BM", "BN", "BK", "ROWS", "AHEAD", "KEEP"), programs, more)


def _over_pixels(kernel: str, p: Problem, dtype: str, backward: bool, t: Tile, more: dict[str, Any]) -> Launch:
    halved = kernel != "input_gradient"
    pixels = p.batch * (p.out_height * p.out_width if halved else p.height * p.width)
    tiles = -(-pixels // t["BM"])
    t = t | {"LOOP": max(1, min(t["LOOP"], tiles * p.clients // _PROGRAMS))}  # several, where programs suffice without
    names = ("BM", "BN", "DEPTH" if "DEPTH" in t else "BK", "LOOP", "KEEP")
    return _launch(kernel, p, dtype, backward, t, names, -(-tiles // t["LOOP"]), more)


def _launch(
    kernel: str, p: Problem, dtype: str, backward: bool, t: Tile, names: tuple[str, ...], programs: int, more: dict
) -> Launch:
    constants = p.constants() | {name: t[name] for name in names} | more
    shape, channels = (p.image, p.inputs) if backward else (p.result, p.outputs)
    results = ((shape, dtype), ((p.clients, programs, 2, channels), "float32"))
    grid = (programs, p.clients, channels // t["BN"])
    return Launch(kernel, grid, tuple(constants.items()), results, t["warps"], t["stages"])


def weight_gradient(
    problem: Problem, dtype: str, precision: str, tile: Tile | None = None, capability: int = _HOPPER
) -> Launch:
    """x, d -> partial sums of dw."""
    p = problem
    t = _weight_tile(p, dtype, capability)
    t |= (_EXACT_WEIGHTS if precision == "ieee" else {}) | (tile or {})
    by_rows = not p.few and "ROWS" in t
    groups = p.outputs // t["BO"] if p.few or by_rows else 1
    groups *= p.inputs // t["BI"] * (p.size // t["ROWS"]) if by_rows else 1
    pixels = p.batch * p.out_height * p.out_width
    split = max(1, min(-(-pixels // 512), -(-t["PROGRAMS"] // (groups * p.clients))))
    part = -(-pixels // (split * t["BP"])) * t["BP"]
    split = -(-pixels // part)
    kernel = "weight_gradient_few" if p.few else "weight_gradient" if by_rows else "weight_gradient_wide"
    names = ("BO", "BP", "DEPTH") if p.few else ("BI", "BO", "BP", *(["ROWS"] if by_rows else []))
    constants = p.constants() | {name: t[name] for name in names} | {"PART": part, "PRECISION": precision}
    results = (((p.clients, split, *p.weights[1:]), "float32"),)
    return Launch(kernel, (split, groups, p.clients), tuple(constants.items()), results, t["warps"], t["stages"])


def _weight_tile(p: Problem, dtype: str, capability: int) -> Tile:
    """Channels and pixels of a step; PROGRAMS: how many to aim at, for each writes a partial sum."""
    if p.few:
        depth = _power_of_two(max(16, p.size**2 * p.inputs))
        return {"BO": min(p.outputs, 32), "BP": 64, "DEPTH": depth, "warps": 1, "stages": 1, "PROGRAMS": 132 * 16}
    narrow = max(p.inputs, p.outputs) <= 16
    if dtype == "float32":  # operands are turned on their way into a product: small ones, in registers, do best
        t = {"BI": min(p.inputs, 64), "BO": min(p.outputs, 32), "stages": 1, "PROGRAMS": 132 * 8}
        if narrow:
            return t | {"ROWS": p.size, "BP": 16, "warps": 1}
        if p.inputs > 32 and capability >= _HOPPER:
            return t | {"ROWS": p.size, "BP": 32, "warps": 4}
        return t | {"BI": min(p.inputs, 32), "ROWS": 1, "BP": 64, "warps": 2}
    if capability < _HOPPER and not narrow:
        t = {"BI": min(p.inputs, 32), "BO": min(p.outputs, 32), "ROWS": 1}
        return t | {"BP": 64, "warps": 4, "stages": 2, "PROGRAMS": 132 * 4}
    if p.size == 1 or max(p.inputs, p.outputs // p.stride) > 32:
        t = {"BI": min(p.inputs, 64), "BO": min(p.outputs, 64), "ROWS": 1}
        return t | {"BP": 64, "warps": 4, "stages": 3, "PROGRAMS": 132 * 4}
    t = {"BI": _power_of_two(3 * p.inputs), "BP": 128, "warps": 4, "stages": 1, "PROGRAMS": 132 * 4}
    if p.stride == 2:
        return t | {"BO": p.outputs, "BP": 128 if p.outputs <= 32 else 64, "stages": 2, "PROGRAMS": 132 * 8}
    return t | {"BO": _power_of_two(3 * p.outputs)} | ({} if narrow else {"BP": 32, "stages": 4})
