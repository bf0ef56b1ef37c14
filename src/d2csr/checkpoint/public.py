"""Weights of public code, read from its files: .pth and .pt, or .safetensors.

A .pth file is a pickle, which is a program. torch's own reader of weights runs it with the names
of tensors and of their dictionaries alone. That doesn't bound what such a program costs, so the
file is looked through first: its size, what a zip archive unpacks to, and the pickle's operations.
"""

import pickletools
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from d2csr.checkpoint.io import read_file
from d2csr.core.errors import CheckpointError, D2csrError, UsageError, first_line, shorten
from d2csr.core.files import open_regular
from d2csr.models.networks.base import SystemNetwork
from d2csr.models.networks.public_weights import unwrap_state
from d2csr.models.systems import SYSTEMS, find_system

MAX_BYTES = 2 << 30  # three times the largest checkpoint of the papers with its optimizer
_MAX_PICKLE_BYTES = 16 << 20  # without the numbers themselves, which lie behind it
_MAX_OPCODES = 300_000  # twice those of RCAN, which has the most tensors, with the state of Adam
_MAX_NESTING = 12  # of tuples, lists and dictionaries; optimizers need five
_PICKLE_NAME = "data.pkl"  # in a zip archive
_NOT_TENSORS = "Give a file of weights alone: names and tensors."


def load_public_system(path: Path, system: str, *, options: Mapping[str, Any]) -> SystemNetwork:
    """Return the network of a system with the weights in a file of its public code.

    Args:
        path: a .pth, .pt or .safetensors file.
        system: the name in the table of systems, or an alias.
        options: constructor arguments that weights don't determine.

    Raises:
        CheckpointError: the file is damaged, holds anything but tensors, or is of another network;
            the error names the one that it fits, if any.
        UsageError: there is no such system or option, or one must be given.
    """
    spec = find_system(system)
    if spec.network is None:
        problem = f"{spec.title} has no public weights that this command reads"
        raise UsageError(path, problem, "For those of D2C-SR, use `d2csr convert official`.")
    state = read_public_state(path)
    try:
        return spec.network.from_public(state, where=path, **options)
    except D2csrError as error:
        fitting = fitting_systems(state)
        if spec.name in fitting:
            raise
        problem = f"these are no weights of {spec.name} ({shorten(error.problem, 200)})"
        remedy = "They fit no other system either: give weights of its public code."
        if fitting:
            remedy = f"They fit {' or '.join(fitting)}: name that system."
        raise CheckpointError(path, problem, remedy) from error


def fitting_systems(state: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the systems whose public code has these tensors."""
    return [
        name
        for name, spec in SYSTEMS.items()
        if spec.network is not None and spec.network.fits_public(state)
    ]


def read_public_state(path: Path) -> dict[str, Tensor]:
    """Return the names and tensors in a file of public code, without what they are wrapped in.

    Raises:
        CheckpointError: the file is missing, damaged, too large, or holds anything but tensors.
    """
    if path.suffix == ".safetensors":
        return unwrap_state(read_file(path)[0], where=path)
    try:
        with open_regular(path) as file:
            _check_costs(file, path)
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of old formats
                loaded = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        problem = f"it can't be read ({error.strerror or first_line(error)})"
        raise CheckpointError(path, problem, "Check the path.") from error
    except CheckpointError:
        raise
    except Exception as error:  # damaged pickles raise whatever their operations do
        problem = f"is damaged, or holds more than tensors ({shorten(first_line(error), 200)})"
        raise CheckpointError(path, problem, _NOT_TENSORS) from error
    return unwrap_state(loaded, where=path)


def _check_costs(file: BinaryIO, path: Path) -> None:
    """Raise CheckpointError for a file that would cost more than any checkpoint does."""
    size = file.seek(0, 2)
    file.seek(0)
    if size > MAX_BYTES:
        raise CheckpointError(path, f"has {size:,} bytes, over {MAX_BYTES:,}", _NOT_TENSORS)
    if not zipfile.is_zipfile(file):
        file.seek(0)
        _check_old_format(file, path)
        return
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if sum(each.file_size for each in entries) > MAX_BYTES:
            raise CheckpointError(path, f"unpacks to over {MAX_BYTES:,} bytes", _NOT_TENSORS)
        pickles = [each for each in entries if Path(each.filename).name == _PICKLE_NAME]
        if len(pickles) != 1:
            raise CheckpointError(path, "is a zip archive without weights", _NOT_TENSORS)
        if pickles[0].file_size > _MAX_PICKLE_BYTES:
            problem = f"its pickle has {pickles[0].file_size:,} bytes"
            raise CheckpointError(path, problem, _NOT_TENSORS)
        _check_pickle(archive.read(pickles[0]), path)


def _check_old_format(file: BinaryIO, path: Path) -> None:
    """Check the pickles in a row that files of torch before 1.6 begin with.

    They are two numbers, facts about the machine, the weights, and the names of their memory.
    """
    start = 0
    contents = file.read(_MAX_PICKLE_BYTES)
    for _ in range(5):
        start += _check_pickle(contents[start:], path)


def _check_pickle(program: bytes, path: Path) -> int:
    """Return the length of the pickle at the start of some bytes.

    Raises:
        CheckpointError: it has too many operations, or values nested too deeply: the hash of a
            tuple in a tuple in a tuple, each twice, takes 2^n steps.
    """
    stack = _Nesting()
    try:
        for step, (opcode, argument, position) in enumerate(pickletools.genops(program)):
            if step == _MAX_OPCODES or stack.apply(opcode, argument) > _MAX_NESTING:
                problem = "its pickle has too many operations, or values nested too deeply"
                raise CheckpointError(path, problem, _NOT_TENSORS)
            if opcode.name == "STOP":
                return (position or 0) + 1
    except (ValueError, IndexError, KeyError) as error:
        problem = f"is no file of weights, or damaged ({shorten(first_line(error), 100)})"
        raise CheckpointError(path, problem, _NOT_TENSORS) from error
    raise CheckpointError(path, "is cut short", _NOT_TENSORS)


# Operations that put values into the container below them, which stays on the stack.
_FILLING = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")


class _Nesting:
    """How deeply the values on a pickle's stack are nested; None marks the start of a group."""

    def __init__(self) -> None:
        self.stack: list[int | None] = []
        self.memo: dict[int, int] = {}

    def apply(self, opcode: pickletools.OpcodeInfo, argument: Any) -> int:
        """Follow an operation and return the nesting of the value that it leaves on top."""
        name = opcode.name
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            index = len(self.memo) if name == "MEMOIZE" else int(argument)
            self.memo[index] = self._top()
            return self._top()
        if name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[int(argument)])
            return self._top()
        if name == "DUP":
            self.stack.append(self._top())
            return self._top()
        if name == "MARK":
            self.stack.append(None)
            return 0
        taken = self._pop_inputs(opcode)
        if name in _FILLING:
            self.stack.append(max([taken[-1], *(each + 1 for each in taken[:-1])]))
        else:
            inner = max(taken) + 1 if taken else 0
            self.stack += [inner] * len(opcode.stack_after)
        return self._top()

    def _pop_inputs(self, opcode: pickletools.OpcodeInfo) -> list[int]:
        """Remove the values that an operation takes, and return their nesting, topmost first."""
        before = [each.name for each in opcode.stack_before]
        taken: list[int | None] = []
        if "mark" in before:
            while (value := self.stack.pop()) is not None:
                taken.append(value)
            before = before[: before.index("mark")]
        taken += [self.stack.pop() for _ in before]
        return [each or 0 for each in taken]

    def _top(self) -> int:
        return (self.stack[-1] or 0) if self.stack else 0
