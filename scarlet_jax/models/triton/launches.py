"""How each kernel is launched: grid, tiles, results. What is covered, and what is left to XLA's convolution."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from scarlet_jax.models.conv_forms import Shape

_MOST_CHANNELS = 512
_FEW = 16  # a product wants at least as many channels; with fewer, the taps of a window are gathered
_PROGRAMS = 132 * 8  # enough to fill a large card


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


def _loop(tiles: int, clients: int, most: int) -> int:
    """Tiles of a program: several, if there are programs enough without."""
    return max(1, min(most, tiles * clients // _PROGRAMS))


def _sweeps(problem: Problem) -> bool:
    """Whether a row of the image is loaded once for the rows of the result that it meets."""
    return problem.size == 3 and problem.stride == 1 and not problem.few and max(problem.inputs, problem.outputs) <= 64


def _tile(depth: int, columns: int, dtype: str, tile: dict[str, int] | None) -> dict[str, int]:
    """Pixels and output channels of a tile, depth of a product, warps, stages."""
    chosen = {"BM": 128, "BN": min(columns, 64), "BK": min(depth, 64), "LOOP": 8, "warps": 4, "stages": 1}
    chosen |= tile or {}
    return {"KEEP": int(chosen["BM"] * chosen["BN"] <= 512 * chosen["warps"])} | chosen


def _sweep(problem: Problem, dtype: str, columns: int, depth: int, tile: dict[str, int] | None) -> tuple[dict, int]:
    """The tile of a sweep, and its programs."""
    narrow = columns <= 32
    t = {"BM": 64, "BN": min(columns, 32), "BK": depth, "ROWS": 16, "AHEAD": 1, "KEEP": int(narrow), "warps": 4}
    t |= {"stages": 1} | (tile or {})
    return t, -(-problem.batch * problem.width // t["BM"]) * -(-problem.height // t["ROWS"])


def forward(problem: Problem, dtype: str, precision: str, tile: dict[str, int] | None = None) -> Launch:
    """x, w -> out, partial sums."""
    p = problem
    if _sweeps(p) and "LOOP" not in (tile or {}):
        t, programs = _sweep(p, dtype, p.outputs, p.inputs, tile)
        constants = p.constants() | {name: t[name] for name in ("BM", "BN", "BK", "ROWS", "AHEAD", "KEEP")}
        constants["PRECISION"] = precision
        kernel = "forward_rows"
    else:
        depth = _power_of_two(max(16, p.size**2 * p.inputs)) if p.few else p.inputs
        t = _tile(depth, p.outputs, dtype, tile)
        tiles = -(-(p.batch * p.out_height * p.out_width) // t["BM"])
        loop = _loop(tiles, p.clients, t["LOOP"])
        programs = -(-tiles // loop)
        constants = p.constants() | {"BM": t["BM"], "BN": t["BN"], "LOOP": loop, "KEEP": t["KEEP"]}
        constants["PRECISION"] = precision
        constants |= {"DEPTH": depth} if p.few else {"BK": t["BK"]}
        kernel = "forward_few" if p.few else "forward"
    results = ((p.result, dtype), ((p.clients, programs, 2, p.outputs), "float32"))
    grid = (programs, p.clients, p.outputs // t["BN"])
    return Launch(kernel, grid, tuple(constants.items()), results, t["warps"], t["stages"])


def input_gradient(
    problem: Problem, dtype: str, precision: str, active: bool, kept: bool, extra: bool,
    tile: dict[str, int] | None = None,
) -> Launch:  # fmt: skip
    """d, w, y, z, extra, factor, offset -> gradient before the activation, partial sums."""
    p = problem
    if _sweeps(p) and "LOOP" not in (tile or {}):
        t, programs = _sweep(p, dtype, p.inputs, p.outputs, tile)
        constants = p.constants() | {name: t[name] for name in ("BM", "BN", "BK", "ROWS", "AHEAD", "KEEP")}
        kernel = "input_gradient_rows"
    else:
        t = _tile(p.outputs, p.inputs, dtype, tile)
        if p.stride == 2:
            t["BM"] = max(16, t["BM"] // 2)
        rows, columns = (p.height, p.width) if p.stride == 1 else (p.out_height, p.out_width)
        tiles = -(-(p.batch * rows * columns) // t["BM"])
        loop = _loop(tiles, p.clients, t["LOOP"])
        programs = -(-tiles // loop)
        constants = p.constants() | {
            "BM": t["BM"], "BN": t["BN"], "BK": t["BK"], "LOOP": loop, "KEEP": t["KEEP"],
        }  # fmt: skip
        kernel = "input_gradient" if p.stride == 1 else "input_gradient_halved"
    constants |= {"PRECISION": precision, "ACTIVE": active, "KEPT": kept, "EXTRA": extra}
    results = ((p.image, dtype), ((p.clients, programs, 2, p.inputs), "float32"))
    grid = (programs, p.clients, p.inputs // t["BN"])
    return Launch(kernel, grid, tuple(constants.items()), results, t["warps"], t["stages"])


def weight_gradient(problem: Problem, dtype: str, precision: str, tile: dict[str, int] | None = None) -> Launch:
    """x, d -> partial sums of dw."""
    p = problem
    pixels = p.batch * p.out_height * p.out_width
    depth = _power_of_two(max(16, p.size**2 * p.inputs))
    wide = p.size == 3 and not p.few and max(p.inputs, p.outputs if p.stride == 1 else 0) <= 32
    if p.few:
        t = {"BO": min(p.outputs, 32), "BP": 64, "warps": 1, "PROGRAMS": 132 * 16}
    elif wide:
        t = {"BI": _power_of_two(3 * p.inputs), "BO": p.outputs, "BP": 128, "warps": 4, "PROGRAMS": 132 * 4}
        if p.stride == 1:
            t["BO"] = _power_of_two(3 * p.outputs)
            t |= {"BP": 32, "stages": 3} if max(p.inputs, p.outputs) == 32 else {}
        elif p.outputs > 32:
            t["warps"] = 8
    else:
        t = {"BI": min(p.inputs, 64), "BO": min(p.outputs, 64), "BP": 64, "ROWS": 1, "warps": 4, "stages": 2, "PROGRAMS": 132 * 4}
    t = {"stages": 1} | t | (tile or {})
    wide = not p.few and "ROWS" not in t
    groups = 1 if wide else p.outputs // t["BO"] * (1 if p.few else p.inputs // t["BI"] * (p.size // t["ROWS"]))
    split = max(1, min(-(-pixels // 512), -(-t["PROGRAMS"] // (groups * p.clients))))
    part = -(-pixels // (split * t["BP"])) * t["BP"]
    split = -(-pixels // part)
    constants = p.constants() | {"BO": t["BO"], "BP": t["BP"], "PART": part, "PRECISION": precision}
    if p.few:
        constants["DEPTH"] = depth
    else:
        constants |= {"BI": t["BI"]} | ({"AHEAD": t.get("AHEAD", 0)} if wide else {"ROWS": t["ROWS"]})
    results = (((p.clients, split, *p.weights[1:]), "float32"),)
    kernel = "weight_gradient_few" if p.few else "weight_gradient_wide" if wide else "weight_gradient"
    return Launch(kernel, (split, groups, p.clients), tuple(constants.items()), results, t["warps"], t["stages"])
