"""Conversion of the authors' checkpoints: their names, shapes and BGR images to ours.

Source: github.com/megvii-research/D2C-SR, `model/model.py`; its tree has depth 2 and 2 children.

Reader of pickled numpy arrays that takes a pickle as data and runs nothing of it.

A pickle is a program. Its instructions are decoded by `pickletools`, which only parses, and carried
out by a stack that knows dictionaries, tuples, plain values and four names. The names stay marks:
no class or function of the file is ever looked up, imported or called. Anything else is refused.
"""

import math
import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from d2csr.checkpoint.io import expected_shapes
from d2csr.core.config import ModelConfig
from d2csr.core.errors import CheckpointError, D2csrError
from d2csr.models.d2csr import D2CSR

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


def load_restricted(path: Path) -> Any:
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
    except OSError as error:
        problem = f"it can't be read ({error.strerror})"
        raise CheckpointError(path, problem, remedy="Check the path.") from error
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        problem = f"it is no readable checkpoint of the authors' code ({error})"
        raise CheckpointError(path, problem, remedy=_REMEDY) from error


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
        except (IndexError, KeyError) as error:
            raise ValueError(f"{instruction.name} at byte {place} finds nothing there") from error
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


_STATES = ("state_dict_D", "state_dict_C")
_IGNORED = ("psnr",)  # their loader prints it, their trainer no longer writes it
_BRANCHES = {"0": "1", "1": "2", "0-0": "11", "0-1": "12", "1-0": "21", "1-1": "22"}
_LEAVES = ("11", "12", "21", "22")
_BLOCK = {
    "conv1": "body.0",
    "conv2": "body.2",
    "attention.squeeze": "body.3.conv_du.0",
    "attention.excite": "body.3.conv_du.2",
}
# BGR to RGB where an image enters or leaves: our name -> the axis that counts colours
_COLOUR_AXIS = {
    "divergence.sub_mean.weight": 1,
    "divergence.add_mean.weight": 0,
    "divergence.add_mean.bias": 0,
    "convergence.convs.0.weight": 1,
}
_REMEDY = "Give the checkpoint that the authors' trainer saved."


def load_official(path: Path, *, scale: int | None = None) -> D2CSR:
    """Return the authors' network with its trained weights, RGB in and out, ready to predict.

    Args:
        path: the pickle that their trainer saved; it is read as data, nothing of it is run.
        scale: what the user believes the weights enlarge by; None takes what they do.

    Raises:
        CheckpointError: damaged, not such weights, or weights of another scale.
    """
    arrays = _arrays(path)
    config = _config(arrays, path)
    if scale not in (None, config.scale):
        problem = f"its weights enlarge x{config.scale}, not x{scale}"
        raise CheckpointError(path, problem, remedy=f"Leave the scale out, or give {config.scale}.")
    names = dict(_names(config))
    _check(arrays, names, config=config, path=path)
    network = D2CSR(config)
    network.load_state_dict({ours: _tensor(arrays[theirs], ours) for ours, theirs in names.items()})
    for name, value in network.state_dict().items():
        if not value.isfinite().all():
            problem = f"{names[name]} holds numbers that are infinite or none"
            raise CheckpointError(
                path, problem, remedy="Give a checkpoint from before it diverged."
            )
    return network.eval()


def _arrays(path: Path) -> dict[str, PickledArray]:
    """Return both networks' arrays in one dictionary; their names never collide."""
    found = load_restricted(path)
    if not isinstance(found, dict) or not set(_STATES) <= set(found) <= {*_STATES, *_IGNORED}:
        names = ", ".join(map(str, found)) if isinstance(found, dict) else type(found).__name__
        problem = f"it holds {names or 'nothing'} where {' and '.join(_STATES)} should be"
        raise CheckpointError(path, problem, remedy=_REMEDY)
    arrays: dict[str, PickledArray] = {}
    for state in _STATES:
        values = found[state]
        whole = isinstance(values, dict) and all(
            isinstance(value, PickledArray) and value.contents for value in values.values()
        )
        if not whole:
            raise CheckpointError(path, f"{state} is no dictionary of arrays", remedy=_REMEDY)
        arrays |= values
    return arrays


def _config(arrays: dict[str, PickledArray], path: Path) -> ModelConfig:
    """Return the configuration that names and shapes tell; whether all fit is checked later."""
    try:
        channels = arrays["head.0.weight"].shape[0]
        groups = {name.split(".")[1] for name in arrays if name.startswith("body1.")}
        blocks = {name.split(".")[3] for name in arrays if name.startswith("body1.0.body.")}
        return ModelConfig(
            scale=_scale(arrays, channels),
            channels=channels,
            groups=len(groups) - 1,  # the last one is the branch's own convolution
            blocks=len(blocks) - 1,  # the same in a group
            convergence_channels=arrays["fusion_final.0.conv.weight"].shape[0],
            mean="convolution",
            tail_border="each",
        )
    except (LookupError, D2csrError) as error:
        problem = f"its arrays are not those of the authors' networks ({error})"
        raise CheckpointError(path, problem, remedy=_REMEDY) from error


def _scale(arrays: dict[str, PickledArray], channels: int) -> int:
    """Return the product of the first tail's shuffles."""
    outputs = [
        array.shape[0]
        for name, array in arrays.items()
        if name.startswith("tail11.0.") and name.endswith(".weight")
    ]
    return math.prod(math.isqrt(count // channels) for count in outputs)


def _names(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """Yield the name of each of our tensors with its name in the authors' code."""
    for ours, theirs in _layers(config):
        yield f"{ours}.weight", f"{theirs}.weight"
        yield f"{ours}.bias", f"{theirs}.bias"
    for index in range(3):
        yield f"convergence.convs.{index}.weight", f"fusion_final.{index}.conv.weight"


def _layers(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """Yield the divergence network's convolutions, all of which have a bias."""
    yield "divergence.sub_mean", "sub_mean"
    yield "divergence.add_mean", "add_mean"
    yield "divergence.head", "head.0"
    for ours, theirs in _BRANCHES.items():
        yield from _branch_layers(
            config, ours=f"divergence.branches.{ours}", theirs=f"body{theirs}"
        )
    stages = {2: 1, 3: 1, 4: 2, 8: 3}[config.scale]
    for leaf, name in enumerate(_LEAVES):
        for step in range(2):
            yield f"divergence.residuals.{leaf}.{step}", f"res_conv{2 * leaf + step + 1}"
        for stage in range(stages):  # a shuffle takes every second place
            yield f"divergence.tails.{leaf}.up.{stage}", f"tail{name}.0.{2 * stage}"
        yield f"divergence.tails.{leaf}.out", f"tail{name}.1"


def _branch_layers(config: ModelConfig, *, ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    """Yield the convolutions of one branch."""
    for group in range(config.groups):
        for block in range(config.blocks):
            for part, their_part in _BLOCK.items():
                yield (
                    f"{ours}.groups.{group}.blocks.{block}.{part}",
                    f"{theirs}.{group}.body.{block}.{their_part}",
                )
        yield f"{ours}.groups.{group}.conv", f"{theirs}.{group}.body.{config.blocks}"
    yield f"{ours}.conv", f"{theirs}.{config.groups}"


def _check(
    arrays: dict[str, PickledArray], names: dict[str, str], *, config: ModelConfig, path: Path
) -> None:
    """Refuse names that are missing or too many, and shapes that are not the network's."""
    errors = [f"{name} is missing" for name in names.values() if name not in arrays]
    errors += [f"{name} is not part of it" for name in arrays if name not in names.values()]
    if not errors:
        for ours, shape in expected_shapes(config).items():
            theirs, found = names[ours], arrays[names[ours]].shape
            expected = (1, *shape, 1, 1) if len(shape) == 1 else shape
            if found != expected:
                errors.append(f"{theirs} is of shape {found}, not {expected}")
    if errors:
        more = f" and {len(errors) - 3} more" if len(errors) > 3 else ""
        problem = f"it does not fit a network of its own sizes: {'; '.join(errors[:3])}{more}"
        raise CheckpointError(path, problem, remedy=_REMEDY)


def _tensor(array: PickledArray, ours: str) -> Float[Tensor, "..."]:
    """Return the weights under our name: biases flat, colours RGB."""
    values = array.values()
    if ours.endswith(".bias"):
        values = values.reshape(-1)
    if ours in _COLOUR_AXIS:
        axis = _COLOUR_AXIS[ours]
        order = np.arange(values.shape[axis]).reshape(-1, 3)[:, ::-1].ravel()
        values = values.take(order, axis=axis)
    return torch.from_numpy(values.copy())
