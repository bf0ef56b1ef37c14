"""A reader of pickled numpy arrays that takes the pickle as data and runs nothing of it.

A pickle is a program. `pickletools` decodes its opcodes, which only parses, and a stack machine
that knows dictionaries, tuples, plain values and four names executes them. The names stay members
of an enumeration: no class or function named by the file is looked up, imported or called. Every
other opcode, name or value is an error.

`pickle.Unpickler` with its own `find_class` would be shorter, but is not bounded: in CPython 3.11,
9 bytes make it allocate 4 GiB for its memo, and 167 bytes, whose nested tuples are the key of a
dictionary, take 1.3 s, doubled by every further 5 bytes.
"""

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from d2csr.core.errors import CheckpointError, quote
from d2csr.core.files import read_regular

# Twice the paper's largest network, of 5.88M parameters, in float64; twenty times its opcodes. So
# no file takes more than 2 s and 300 MB.
MAX_BYTES = 96 * 2**20
_MAX_OPCODES = 200_000
_FLOAT_BYTES = {"f2": 2, "f4": 4, "f8": 8}


class Name(Enum):
    """The four names that a pickle may hold; numpy's function has an old and a new path."""

    ORDERED_DICT = "collections.OrderedDict"
    ARRAY = "numpy.ndarray"
    DTYPE = "numpy.dtype"
    RECONSTRUCT = "numpy.core.multiarray._reconstruct"


_NAMES = {name.value: name for name in Name} | {
    "numpy._core.multiarray._reconstruct": Name.RECONSTRUCT
}


@dataclass
class PickledDtype:
    """A floating-point type; its byte order is empty until the pickle sets it."""

    kind: str
    byte_order: str = ""


@dataclass
class PickledArray:
    """An array; None until the pickle sets its shape and contents."""

    array: Float[np.ndarray, "..."] | None = None

    @property
    def bytes(self) -> int:
        """Return the size of the contents as float32."""
        return 0 if self.array is None else 4 * self.array.size

    def to_float32(self) -> Float32[np.ndarray, "..."]:
        """Return the values as a float32 array in C order; ValueError where there are none."""
        if self.array is None:
            raise ValueError("an array has no contents")
        return np.ascontiguousarray(self.array, dtype=np.float32).reshape(self.array.shape)


def load_restricted(path: Path) -> Any:
    """Return the dictionaries and tuples of plain values and `PickledArray` in a pickle.

    Raises:
        CheckpointError: the file is missing, damaged, too large, or holds anything else.
    """
    remedy = "Give the checkpoint that the authors' trainer saved."
    try:
        return _execute(read_regular(path, max_bytes=MAX_BYTES))
    except OSError as error:
        problem = f"it can't be read ({error.strerror})"
        raise CheckpointError(path, problem, "Check the path.") from error
    except (ValueError, OverflowError) as error:
        raise CheckpointError(path, f"is not a readable checkpoint ({error})", remedy) from error


def _execute(program: bytes) -> Any:
    """Return the value that a pickle leaves on the stack; ValueError where it may not."""
    stack = _Stack()
    for step, (opcode, argument, position) in enumerate(pickletools.genops(program)):
        if step == _MAX_OPCODES:
            raise ValueError(f"more than {_MAX_OPCODES} opcodes")
        if opcode.name == "STOP":
            break
        if opcode.name not in _OPCODES:
            raise ValueError(f"opcode {opcode.name} at byte {position} is not allowed")
        try:
            _OPCODES[opcode.name](stack, argument)
        except (IndexError, KeyError) as error:
            problem = f"opcode {opcode.name} at byte {position} lacks its operands"
            raise ValueError(problem) from error
    if len(stack.values) != 1 or stack.marks:
        raise ValueError("its opcodes do not end in one value")
    return stack.values[0]


class _Stack:
    """The state of the stack machine: values, marks and the memo."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        """Put a value on top."""
        self.values.append(value)

    def pop(self, count: int) -> tuple[Any, ...]:
        """Remove and return the topmost values, the lowest of them first."""
        if count > len(self.values) - (self.marks[-1] if self.marks else 0):
            raise IndexError(count)
        popped = tuple(self.values[len(self.values) - count :])
        del self.values[len(self.values) - count :]
        return popped

    def pop_to_mark(self) -> tuple[Any, ...]:
        """Remove and return the values above the last mark, and the mark."""
        popped = self.pop(len(self.values) - self.marks[-1])
        self.marks.pop()
        return popped

    def push_name(self, module: Any, attribute: Any) -> None:
        """Put one of the four names on top."""
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise ValueError("a name is not text")  # not printed: nested tuples have no end
        full = f"{module}.{attribute}"
        if full not in _NAMES:
            raise ValueError(f"it names {quote(full)}, which no checkpoint of weights needs")
        self.push(_NAMES[full])

    def set_items(self, items: tuple[Any, ...]) -> None:
        """Put alternating keys and values into the dictionary on top."""
        target = self.values[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("items are set on something that is not a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if (
                not isinstance(key, str) or key in target
            ):  # checked first: a tuple's hash may take forever
                raise ValueError("a dictionary has a key twice, or one that is not text")
            target[key] = value

    def reduce(self) -> None:
        """Put the empty value on top that a name and its arguments make."""
        name, arguments = self.pop(2)
        if name is Name.ORDERED_DICT and arguments == ():
            self.push({})
        elif name is Name.RECONSTRUCT and arguments == (Name.ARRAY, (0,), b"b"):
            self.push(PickledArray())
        elif name is Name.DTYPE and _is_float_kind(arguments):
            self.push(PickledDtype(arguments[0]))
        else:
            raise ValueError("it makes something that is neither weights nor their dictionary")

    def build(self) -> None:
        """Set the state of the dtype or array on top."""
        (state,) = self.pop(1)
        target = self.values[-1]
        if not isinstance(state, tuple):
            raise ValueError("a state is not a tuple")
        if isinstance(target, PickledDtype) and not target.byte_order:
            target.byte_order = _byte_order(state)
        elif isinstance(target, PickledArray) and target.array is None:
            target.array = _array(state)
        else:
            raise ValueError("a state is set on something that is neither an array nor its type")


def _is_float_kind(arguments: Any) -> bool:
    return (
        isinstance(arguments, tuple)
        and len(arguments) == 3
        and isinstance(arguments[0], str)
        and arguments[0] in _FLOAT_BYTES
    )


def _byte_order(state: tuple[Any, ...]) -> str:
    """Return the byte order in version 3 of numpy's state of a dtype."""
    if len(state) != 8 or state[0] != 3 or state[1] not in ("<", ">"):
        raise ValueError("an array's type is none that weights have")
    if state[2:] != (None, None, None, -1, -1, 0):
        raise ValueError("an array's type has parts, which weights never have")
    return state[1]


def _array(state: tuple[Any, ...]) -> Float[np.ndarray, "..."]:
    """Return the array in version 1 of numpy's state of an array."""
    if len(state) != 5 or state[0] != 1:
        raise ValueError("an array's state is of another version of numpy")
    _, shape, dtype, by_columns, contents = state
    if not isinstance(shape, tuple) or len(shape) > 4 or not all(type(n) is int for n in shape):
        raise ValueError("an array's shape is not up to four whole numbers")
    if not isinstance(dtype, PickledDtype) or not dtype.byte_order:
        raise ValueError("an array's values are not floating-point numbers")
    if not isinstance(contents, bytes):
        raise ValueError("an array's contents are not bytes")
    if min(shape, default=1) < 1 or math.prod(shape) * _FLOAT_BYTES[dtype.kind] != len(contents):
        raise ValueError(f"{len(contents)} bytes are not an array of shape {shape}")
    flat = np.frombuffer(contents, np.dtype(dtype.byte_order + dtype.kind))
    return flat.reshape(shape, order="F" if by_columns is True else "C")


_OPCODES: dict[str, Callable[[_Stack, Any], None]] = {
    "MARK": lambda stack, argument: stack.marks.append(len(stack.values)),
    "EMPTY_DICT": lambda stack, argument: stack.push({}),
    "EMPTY_TUPLE": lambda stack, argument: stack.push(()),
    "NONE": lambda stack, argument: stack.push(None),
    "NEWTRUE": lambda stack, argument: stack.push(True),
    "NEWFALSE": lambda stack, argument: stack.push(False),
    "TUPLE1": lambda stack, argument: stack.push(stack.pop(1)),
    "TUPLE2": lambda stack, argument: stack.push(stack.pop(2)),
    "TUPLE3": lambda stack, argument: stack.push(stack.pop(3)),
    "TUPLE": lambda stack, argument: stack.push(stack.pop_to_mark()),
    "MEMOIZE": lambda stack, argument: stack.memo.update({len(stack.memo): stack.values[-1]}),
    "STACK_GLOBAL": lambda stack, argument: stack.push_name(*stack.pop(2)),
    "GLOBAL": lambda stack, argument: stack.push_name(*argument.split(" ", 1)),
    "REDUCE": lambda stack, argument: stack.reduce(),
    "BUILD": lambda stack, argument: stack.build(),
    "SETITEM": lambda stack, argument: stack.set_items(stack.pop(2)),
    "SETITEMS": lambda stack, argument: stack.set_items(stack.pop_to_mark()),
    **dict.fromkeys(("PROTO", "FRAME"), lambda stack, argument: None),
    **dict.fromkeys(
        ("BINPUT", "LONG_BINPUT"),
        lambda stack, argument: stack.memo.update({argument: stack.values[-1]}),
    ),
    **dict.fromkeys(
        ("BINGET", "LONG_BINGET"), lambda stack, argument: stack.push(stack.memo[argument])
    ),
    **dict.fromkeys(
        (
            *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
            *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
            *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
        ),
        lambda stack, argument: stack.push(argument),
    ),
}
