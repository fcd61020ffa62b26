"""Bytes that an optimized HLO program accesses, and its kernels and convolutions: counted in the program's text.

Bytes are what each kernel and library call reads and writes, loops counted out.

XLA's own cost analysis answers nothing for devices that are only described. Its rules are kept: a fusion costs its
operands and its result, whatever happens inside; where it takes slices of an operand, or writes a slice into it, the
slice counts and not the whole.
"""

from __future__ import annotations

import collections
import math
import re
from typing import NamedTuple

BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16, "token": 0}
FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id", "replica-id", "iota",
}  # fmt: skip
SLICING = {"dynamic-slice", "gather", "slice"}

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_SHAPE = re.compile(r"([a-z]\w*)\[([\d,]*)\]")
_LINE = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"(?:calls|body|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_CUDNN = 'custom_call_target="__cudnn$conv'
_CONVOLUTION = re.compile(
    r'(?:window=\{[^}]*\}|dim_labels=\w+->\w+|feature_group_count=\d+|custom_call_target="[^"]+")'
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


class Operation(NamedTuple):
    """One line of a computation."""

    name: str
    root: bool
    shape: str  # of the result
    kind: str
    operands: list[str]
    rest: str  # of the line: attributes

    @property
    def size(self) -> int:
        """Bytes of the result."""
        return size(self.shape)


def accessed(text: str) -> int:
    """Bytes read and written by one execution. A loop whose trips are not known counts once."""
    computations, entry = parse(text)
    return _of(computations, entry)


def kernels(text: str) -> int:
    """Fusions, calls and copies in the loop body that has most of them, or in the whole program if it has no loop."""
    computations, entry = parse(text)

    def bodies(name: str) -> list[str]:
        loops = [op for op in computations[name] if op.kind == "while"]
        return [name, *(body for op in loops for body in bodies(_CALLED.findall(op.rest)[0]))]

    return max(sum(op.kind not in FREE | {"while"} for op in computations[name]) for name in bodies(entry))


def convolutions(text: str) -> collections.Counter[tuple[str, ...]]:
    """How often the program calls cuDNN for each distinct convolution.

    Calls are one convolution if cuDNN chooses an algorithm for them once: the same operation, shapes, layouts, window
    and number of groups.
    """
    computations, _ = parse(text)
    found: collections.Counter[tuple[str, ...]] = collections.Counter()
    for operations in computations.values():
        shapes = {op.name: op.shape for op in operations}
        for op in operations:
            if _CUDNN in op.rest:
                operands = (shapes[operand] for operand in op.operands)
                found[op.shape, *operands, *_CONVOLUTION.findall(op.rest)] += 1
    return found


def parse(text: str) -> tuple[dict[str, list[Operation]], str]:
    """Computations by name, and the name of the one that is run."""
    computations: dict[str, list[Operation]] = {}
    entry, current = "", None
    for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
        header = _HEADER.match(line)
        if header:
            current = computations.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif current is not None and (match := _LINE.match(line)):
            root, name, shape, kind, rest = match.groups()
            arguments, attributes = _split(rest)
            current.append(Operation(name, bool(root), shape, kind, _NAME.findall(arguments), attributes))
    return computations, entry


def size(shape: str) -> int:
    """Bytes of `f32[2,3]{1,0}`, or of a tuple of such."""
    total = 0
    for kind, dims in _SHAPE.findall(shape):
        digits = re.search(r"\d+", kind)
        bits = BITS[kind] if kind in BITS else int(digits[0]) if digits else 0
        total += bits * math.prod(map(int, filter(None, dims.split(",")))) // 8
    return total


def _split(rest: str) -> tuple[str, str]:
    """Operands and attributes of what follows `kind(`."""
    depth = 1
    for i, character in enumerate(rest):
        depth += (character == "(") - (character == ")")
        if not depth:
            return rest[:i], rest[i + 1 :]
    return rest, ""


def _of(computations: dict[str, list[Operation]], name: str) -> int:
    operations = computations[name]
    sizes = {op.name: op.size for op in operations}
    total = 0
    for op in operations:
        if op.kind in FREE or op.kind.endswith("-done"):
            continue
        called = _CALLED.findall(op.rest)
        if op.kind == "while":
            trips = _TRIPS.search(op.rest)
            total += (int(trips[1]) if trips else 1) * _of(computations, called[0])
        elif op.kind == "call":
            total += _of(computations, called[0])
        elif op.kind == "conditional":
            branches = called or _NAME.findall(_BRANCHES.search(op.rest)[1])  # type: ignore[index]
            total += max(_of(computations, branch) for branch in branches)
        elif op.kind == "fusion":
            total += _fusion(computations[called[0]], op, sizes)
        elif op.kind in SLICING:
            total += 2 * op.size
        elif op.kind == "dynamic-update-slice":
            total += 2 * sizes.get(op.operands[1], 0)
        else:
            total += op.size + sum(sizes.get(operand, 0) for operand in op.operands)
    return total


def _fusion(inside: list[Operation], fusion: Operation, sizes: dict[str, int]) -> int:
    """Result and operands, of which slices count as such."""
    own = {op.name: op for op in inside}
    total = 0
    for op in inside:
        if op.kind != "parameter":
            continue
        users = [user for user in inside if op.name in user.operands]
        if users and all(user.kind in SLICING and user.operands[0] == op.name for user in users):
            total += sum(user.size for user in users)
        elif not (users and all(user.kind == "dynamic-update-slice" and user.operands[0] == op.name for user in users)):
            total += op.size
    (root,) = [op for op in inside if op.root]
    results = [own[name] for name in root.operands if name in own] if root.kind == "tuple" else [root]
    for op in results:
        written = own.get(op.operands[1]) if op.kind == "dynamic-update-slice" else None
        total += written.size if written else op.size
    return total
