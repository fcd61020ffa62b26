"""Pickles of the published data sets, read without Python's `pickle`, which runs any code and allocates anything.

What such a file holds is a dictionary of texts, lists of numbers or texts, and one array of bytes. Only the
instructions that build these are known here; every other one is refused.
"""

from __future__ import annotations

import pickle
import pickletools
from typing import Any

import numpy as np

_MOST_STEPS = 500_000  # instructions; the published files have up to a quarter of a million
_RECONSTRUCT = {f"{module}.multiarray _reconstruct" for module in ("numpy.core", "numpy._core")}
_KNOWN = _RECONSTRUCT | {"numpy ndarray", "numpy dtype", "_codecs encode"}
_VALUES = {
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "NONE", "NEWTRUE", "NEWFALSE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_OLD_TEXTS = {"STRING", "BINSTRING", "SHORT_BINSTRING"}  # Python 2's one string type, read as bytes
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


class _Global(str):
    """A function or class that a pickle names; it is never imported."""


class _Type:
    """An array type while it is being built: bytes alone are known."""


class _Array:
    """An array while it is being built."""

    value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        """Take the state of an array: (version, shape, type, column order, bytes)."""
        _, shape, kind, columns_first, blob = state
        if not isinstance(kind, _Type) or not isinstance(blob, bytes):
            raise pickle.UnpicklingError("an array that is not of plain bytes")
        if not all(type(side) is int and side >= 0 for side in shape) or len(shape) > 4:
            raise pickle.UnpicklingError("an array of an unheard-of shape")
        self.value = np.frombuffer(blob, np.uint8).reshape(shape, order="F" if columns_first else "C")


def loads(blob: bytes) -> dict[str, Any]:
    """The dictionary in a pickle: its keys and the texts in it are str or bytes, arrays are u8.

    Raises:
        pickle.UnpicklingError: anything else than described above. ValueError, TypeError, IndexError, KeyError or
            AttributeError: a damaged pickle.
    """
    result = _Machine().run(blob)
    if type(result) is not dict:
        raise pickle.UnpicklingError("no dictionary")
    found = {text(key): value for key, value in result.items()}
    return {key: value.value if isinstance(value, _Array) else value for key, value in found.items()}


def text(value: str | bytes) -> str:
    """A text, whichever Python wrote it."""
    return value.decode() if isinstance(value, bytes) else _kind(value, str)


class _Machine:
    """A stack, marks on it, and a memory of values, as pickles use them."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memory: dict[int, Any] = {}

    def run(self, blob: bytes) -> Any:
        for step, (op, argument, _) in enumerate(pickletools.genops(blob)):
            if step > _MOST_STEPS:
                raise pickle.UnpicklingError(f"more than {_MOST_STEPS:,} instructions")
            if op.name == "STOP":
                return self.stack.pop()
            self._step(op.name, argument)
        raise pickle.UnpicklingError("it has no end")

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _VALUES:
            stack.append(_CONSTANTS.get(name, argument))
        elif name in _OLD_TEXTS:
            stack.append(argument.encode("latin-1"))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memory[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memory[len(self.memory)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memory[argument])
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name == "POP":
            stack.pop()
        else:
            self._build(name, argument)

    def _build(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(self._take(len(stack) - int(name[-1]))))
        elif name in ("TUPLE", "LIST", "DICT"):
            items = self._take(self.marks.pop())
            stack.append(tuple(items) if name == "TUPLE" else items if name == "LIST" else _pairs({}, items))
        elif name in ("APPEND", "APPENDS"):
            items = self._take(len(stack) - 1 if name == "APPEND" else self.marks.pop())
            _kind(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._take(len(stack) - 2 if name == "SETITEM" else self.marks.pop())
            _pairs(_kind(stack[-1], dict), items)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            named = argument if name == "GLOBAL" else " ".join(self._take(len(stack) - 2))
            if named not in _KNOWN:
                raise pickle.UnpicklingError(f"unexpected {named[:100]}")
            stack.append(_Global(named))
        elif name == "REDUCE":
            function, arguments = self._take(len(stack) - 2)
            stack.append(_call(function, arguments))
        elif name == "BUILD":
            (state,) = self._take(len(stack) - 1)
            if isinstance(stack[-1], _Array):
                stack[-1].build(state)
            else:
                _kind(stack[-1], _Type)  # bytes have one form: nothing in the state matters
        else:
            raise pickle.UnpicklingError(f"unexpected instruction {name}")

    def _take(self, start: int) -> list[Any]:
        """The stack's values from `start` on, off the stack."""
        if start < 0 or start > len(self.stack):
            raise IndexError("the stack is too short")
        items = self.stack[start:]
        del self.stack[start:]
        return items


def _kind(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise pickle.UnpicklingError(f"{type(value).__name__} where {kind.__name__} belongs")
    return value


def _pairs(target: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    """`target` with keys and values in turn; a key is a text, because a nested one takes for ever to hash."""
    for key, value in zip(items[::2], items[1::2], strict=True):
        if type(key) not in (str, bytes):
            raise pickle.UnpicklingError("a key that is no text")
        target[key] = value
    return target


def _call(function: Any, arguments: Any) -> Any:
    """What the known functions make; `_reconstruct` begins an array, whatever shape it is called with."""
    if not isinstance(function, _Global) or not isinstance(arguments, tuple):
        raise pickle.UnpicklingError("a call of something else than NumPy's")
    if function in _RECONSTRUCT:
        return _Array()
    if function == "numpy dtype" and arguments and arguments[0] in ("u1", "|u1", b"u1", b"|u1", "uint8", b"uint8"):
        return _Type()
    if function == "_codecs encode" and len(arguments) == 2 and arguments[1] in ("latin1", b"latin1"):
        return _kind(arguments[0], str).encode("latin-1")  # how Python 3 writes bytes in protocol 2
    raise pickle.UnpicklingError(f"unexpected arguments of {function}")
