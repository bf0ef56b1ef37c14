"""Reader of pickled numpy arrays that takes a pickle as data and runs nothing of it.

A pickle is a program. Its instructions are decoded by `pickletools`, which only parses, and carried
out by a stack that knows dictionaries, tuples, plain values and four names. The names stay marks:
no class or function of the file is ever looked up, imported or called. Anything else is refused.
"""

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from d2csr.core.errors import CheckpointError

MOST_BYTES = 512 * 2**20  # twenty times the largest network of the paper
_MOST_STEPS = 2_000_000  # two hundred times what that network takes
_REMEDY = "Give the checkpoint that the authors' trainer saved."


class Name(Enum):
    """The four names that a pickle may hold, numpy's function under its old and its new path."""

    ORDERED_DICT = "collections.OrderedDict"
    ARRAY = "numpy.ndarray"
    DTYPE = "numpy.dtype"
    RECONSTRUCT = "numpy.core.multiarray._reconstruct"


_NAMES = {name.value: name for name in Name} | {
    "numpy._core.multiarray._reconstruct": Name.RECONSTRUCT
}
_NUMBER_BYTES = {"f2": 2, "f4": 4, "f8": 8}


@dataclass
class PickledType:
    """A kind of floating-point number; the byte order is empty until the pickle tells it."""

    kind: str
    order: str = ""


@dataclass
class PickledArray:
    """An array of the file, its shape and bytes checked against each other."""

    shape: tuple[int, ...] = ()
    kind: PickledType | None = None
    by_columns: bool = False
    contents: bytes | None = None

    def values(self) -> Float[np.ndarray, "..."]:
        """Return the numbers as float32."""
        if self.contents is None or self.kind is None:
            raise ValueError("an array has no contents")
        flat = np.frombuffer(self.contents, np.dtype(self.kind.order + self.kind.kind))
        shaped = flat.reshape(self.shape, order="F" if self.by_columns else "C")
        return np.ascontiguousarray(shaped, dtype=np.float32).reshape(self.shape)


def read_pickled(path: Path) -> Any:
    """Return what a pickle holds: dictionaries and tuples of plain values and `PickledArray`.

    Raises:
        CheckpointError: no such file, damaged, too large, or anything in it but such values.
    """
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            problem = f"{size} bytes are more than any network of the paper has ({MOST_BYTES})"
            raise CheckpointError(path, problem, remedy=_REMEDY)
        return _run(path.read_bytes())
    except OSError as fault:
        problem = f"it can't be read ({fault.strerror})"
        raise CheckpointError(path, problem, remedy="Check the path.") from fault
    except (ValueError, IndexError, KeyError, OverflowError) as fault:
        problem = f"it is no readable checkpoint of the authors' code ({fault})"
        raise CheckpointError(path, problem, remedy=_REMEDY) from fault


def _run(program: bytes) -> Any:
    """Carry out a pickle's instructions and return the one value they leave."""
    stack = _Stack()
    for step, (instruction, argument, place) in enumerate(pickletools.genops(program)):
        if step == _MOST_STEPS:
            raise ValueError(f"more than {_MOST_STEPS} instructions")
        if instruction.name == "STOP":
            break
        if instruction.name not in _INSTRUCTIONS:
            raise ValueError(f"instruction {instruction.name} at byte {place} is not allowed")
        try:
            _INSTRUCTIONS[instruction.name](stack, argument)
        except (IndexError, KeyError) as fault:
            raise ValueError(f"{instruction.name} at byte {place} finds nothing there") from fault
    if len(stack.values) != 1 or stack.marks:
        raise ValueError("its instructions do not end in one value")
    return stack.values[0]


class _Stack:
    """What a pickle's instructions work on: values, marked places, and remembered values."""

    def __init__(self) -> None:
        """Start empty."""
        self.values: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        """Put a value on top."""
        self.values.append(value)

    def take(self, count: int) -> tuple[Any, ...]:
        """Remove and return the uppermost values, the lowest of them first."""
        if count > len(self.values) - (self.marks[-1] if self.marks else 0):
            raise IndexError(count)
        taken = tuple(self.values[len(self.values) - count :])
        del self.values[len(self.values) - count :]
        return taken

    def take_marked(self) -> tuple[Any, ...]:
        """Remove and return what lies above the last mark."""
        taken = self.take(len(self.values) - self.marks[-1])
        self.marks.pop()
        return taken

    def name(self, module: Any, attribute: Any) -> None:
        """Put one of the four names on top, as a mark."""
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise ValueError("a name is no text")  # nested tuples would print without end
        full = f"{module}.{attribute}"
        if full not in _NAMES:
            raise ValueError(f"it names {full!r}, which no checkpoint of weights needs")
        self.push(_NAMES[full])

    def set_items(self, items: tuple[Any, ...]) -> None:
        """Put names and values in turn into the dictionary on top."""
        target = self.values[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("items are set where no dictionary is")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str) or key in target:
                raise ValueError("a dictionary's name is no text, or comes twice")
            target[key] = value

    def reduce(self) -> None:
        """Put the empty value on top that a name and its arguments stand for."""
        made_from, arguments = self.take(2)
        if made_from is Name.ORDERED_DICT and arguments == ():
            self.push({})
        elif made_from is Name.RECONSTRUCT and arguments == (Name.ARRAY, (0,), b"b"):
            self.push(PickledArray())
        elif made_from is Name.DTYPE and _is_float_kind(arguments):
            self.push(PickledType(arguments[0]))
        else:
            raise ValueError("something is made that is neither weights nor their dictionary")

    def build(self) -> None:
        """Fill the number kind or the array on top."""
        (state,) = self.take(1)
        target = self.values[-1]
        if not isinstance(state, tuple):
            raise ValueError("something is filled from what is no tuple")
        if isinstance(target, PickledType) and not target.order:
            _fill_type(target, state)
        elif isinstance(target, PickledArray) and target.contents is None:
            _fill_array(target, state)
        else:
            raise ValueError("something is filled that is neither an array nor its kind")


def _is_float_kind(arguments: Any) -> bool:
    return (
        isinstance(arguments, tuple)
        and len(arguments) == 3
        and isinstance(arguments[0], str)
        and arguments[0] in _NUMBER_BYTES
    )


def _fill_type(target: PickledType, state: tuple[Any, ...]) -> None:
    """Take the byte order from numpy's third version of a dtype's state."""
    if len(state) != 8 or state[0] != 3 or state[1] not in ("<", ">"):
        raise ValueError("an array's kind of number is none that weights have")
    if state[2:] != (None, None, None, -1, -1, 0):
        raise ValueError("an array's kind of number has parts, which no weights have")
    target.order = state[1]


def _fill_array(target: PickledArray, state: tuple[Any, ...]) -> None:
    """Take shape, kind, order and bytes from numpy's first version of an array's state."""
    if len(state) != 5 or state[0] != 1:
        raise ValueError("an array's state is of another numpy")
    _, shape, kind, by_columns, contents = state
    if not isinstance(shape, tuple) or len(shape) > 4 or not all(type(n) is int for n in shape):
        raise ValueError("an array's shape is not up to four whole numbers")
    if not isinstance(kind, PickledType) or not kind.order or not isinstance(contents, bytes):
        raise ValueError("an array's contents are no floating-point numbers")
    if min(shape, default=1) < 1 or math.prod(shape) * _NUMBER_BYTES[kind.kind] != len(contents):
        raise ValueError(f"{len(contents)} bytes are no array of shape {shape}")
    target.shape, target.kind, target.contents = shape, kind, contents
    target.by_columns = by_columns is True


_INSTRUCTIONS: dict[str, Callable[[_Stack, Any], None]] = {
    "PROTO": lambda stack, argument: None,
    "FRAME": lambda stack, argument: None,
    "MARK": lambda stack, argument: stack.marks.append(len(stack.values)),
    "EMPTY_DICT": lambda stack, argument: stack.push({}),
    "EMPTY_TUPLE": lambda stack, argument: stack.push(()),
    "NONE": lambda stack, argument: stack.push(None),
    "NEWTRUE": lambda stack, argument: stack.push(True),
    "NEWFALSE": lambda stack, argument: stack.push(False),
    "TUPLE1": lambda stack, argument: stack.push(stack.take(1)),
    "TUPLE2": lambda stack, argument: stack.push(stack.take(2)),
    "TUPLE3": lambda stack, argument: stack.push(stack.take(3)),
    "TUPLE": lambda stack, argument: stack.push(stack.take_marked()),
    "MEMOIZE": lambda stack, argument: stack.memo.update({len(stack.memo): stack.values[-1]}),
    "STACK_GLOBAL": lambda stack, argument: stack.name(*stack.take(2)),
    "GLOBAL": lambda stack, argument: stack.name(*argument.split(" ", 1)),
    "REDUCE": lambda stack, argument: stack.reduce(),
    "BUILD": lambda stack, argument: stack.build(),
    "SETITEM": lambda stack, argument: stack.set_items(stack.take(2)),
    "SETITEMS": lambda stack, argument: stack.set_items(stack.take_marked()),
}
_INSTRUCTIONS |= dict.fromkeys(
    ("BINPUT", "LONG_BINPUT"),
    lambda stack, argument: stack.memo.update({argument: stack.values[-1]}),
)
_INSTRUCTIONS |= dict.fromkeys(
    ("BINGET", "LONG_BINGET"), lambda stack, argument: stack.push(stack.memo[argument])
)
_INSTRUCTIONS |= dict.fromkeys(
    (
        *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
    ),
    lambda stack, argument: stack.push(argument),
)
