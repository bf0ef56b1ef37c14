"""Weights of public code: unwrapped, checked, and renamed to ours.

A table per network gives the public name of each of our layers. Sizes are read from shapes and
counts; what a file promises is compared with what it holds before anything is allocated.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from d2csr.core.errors import CheckpointError, UsageError

# Pattern of our layer (or tensor) names -> the public one: a template with {0}, {1}, ... for the
# groups of the pattern, or a function of these groups (numbers as int).
LayerNames = Mapping[str, str | Callable[..., str]]
Network = TypeVar("Network", bound=nn.Module)

_WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model")
_PREFIX = "module."  # of torch's DataParallel
_MAX_TENSORS = 10_000  # the largest, RCAN, has 1,632; comparing this many takes seconds
_COUNTER = "num_batches_tracked"  # of batch normalization: it counts steps and computes nothing
_OTHER_NETWORK = "Give weights of this network, or name the system that they belong to."


def unwrap_state(loaded: object, *, where: object) -> dict[str, Tensor]:
    """Return the names and tensors inside what public code has saved.

    Dictionaries such as `{"params_ema": ...}` are opened, the averaged weights first, and the
    prefix `module.` is removed.

    Raises:
        CheckpointError: there is no dictionary of tensors inside.
    """
    for _ in range(3):  # wrappers inside wrappers; deeper ones are no known format
        if not isinstance(loaded, Mapping):
            break
        wrapper = next((name for name in _WRAPPERS if isinstance(loaded.get(name), Mapping)), None)
        if wrapper is None:
            break
        loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not loaded:
        problem = f"it holds no weights but {type(loaded).__name__}"
        raise CheckpointError(where, problem, "Give a state dict: names and tensors.")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            problem = f"{name!r} is {type(value).__name__}, not a tensor"
            raise CheckpointError(where, problem, "Give a state dict: names and tensors.")
    if all(name.startswith(_PREFIX) for name in loaded):
        return {name.removeprefix(_PREFIX): value for name, value in loaded.items()}
    return dict(loaded)


class PublicWeights:
    """The tensors of a public state dict, with questions about their shapes that fail clearly."""

    def __init__(self, state: Mapping[str, Tensor], *, where: object) -> None:
        """Check that each is a dense tensor of floating-point numbers, as large as it claims.

        Raises:
            CheckpointError: one isn't, or there are more than any of the networks has.
        """
        self.where = where
        if len(state) > _MAX_TENSORS:
            problem = f"it holds {len(state)} tensors, more than any of the networks"
            raise CheckpointError(where, problem, _OTHER_NETWORK)
        for name in state:
            if not isinstance(name, str):
                raise CheckpointError(where, f"{name!r} is no name", "Give undamaged weights.")
        self.tensors = {name: value for name, value in state.items() if not name.endswith(_COUNTER)}
        for name, value in self.tensors.items():
            if problem := _tensor_problem(value):
                raise CheckpointError(where, f"{name} {problem}", "Give undamaged weights.")

    def __contains__(self, name: str) -> bool:
        """Return whether there is a tensor of this name."""
        return name in self.tensors

    def shape(self, name: str, dimensions: int = 4) -> tuple[int, ...]:
        """Return the shape of a tensor.

        Raises:
            CheckpointError: it is missing, or has another number of dimensions.
        """
        tensor = self.tensors.get(name)
        if tensor is None:
            problem = f"{name} is missing{self._nearest(name)}"
            raise CheckpointError(self.where, problem, _OTHER_NETWORK)
        if tensor.ndim != dimensions:
            problem = f"{name} has the shape {list(tensor.shape)}, not {dimensions} dimensions"
            raise CheckpointError(self.where, problem, _OTHER_NETWORK)
        return tuple(tensor.shape)

    def count(self, template: str, *, start: int = 0, step: int = 1) -> int:
        """Return the number of names in a row, `{}` being `start`, `start + step`, and so on."""
        number = 0
        while template.format(start + step * number) in self.tensors:
            number += 1
        return number

    def enlargement(self, outputs: int, inputs: int, *, name: str) -> int:
        """Return r of a convolution whose outputs are r^2 times the channels that it feeds.

        Raises:
            CheckpointError: no r from 1 to 8 fits.
        """
        for factor in range(1, 9):
            if outputs == inputs * factor**2:
                return factor
        problem = f"{name} makes {outputs} channels of {inputs}, which no shuffle turns into pixels"
        raise CheckpointError(self.where, problem, _OTHER_NETWORK)

    def rename(self, layers: LayerNames) -> None:
        """Rename the layers of another public code by a table of its names.

        Raises:
            CheckpointError: the table has no row for one of them.
        """
        renamed: dict[str, Tensor] = {}
        for name, value in self.tensors.items():
            try:
                renamed[public_name(name, layers) or name] = value
            except KeyError as error:
                problem = f"{name} belongs to no layer"
                raise CheckpointError(self.where, problem, _OTHER_NETWORK) from error
        self.tensors = renamed

    def check_product(self, *counts: int) -> None:
        """Check that there are tensors for every part of every part, before any is built.

        Raises:
            CheckpointError: there are fewer tensors than parts, or none of a part.
        """
        parts = 1
        for count in counts:
            parts *= count
        if not 0 < parts <= len(self.tensors):
            problem = f"its names promise {parts} blocks, but it holds {len(self.tensors)} tensors"
            raise CheckpointError(self.where, problem, _OTHER_NETWORK)

    def check_against(self, expected: nn.Module, layers: LayerNames) -> None:
        """Check that names and shapes are those of a network, whose tensors need no memory.

        Raises:
            CheckpointError: a tensor is missing, has another shape, or isn't used.
        """
        unused = dict(self.tensors)
        for ours, value in expected.state_dict().items():
            theirs = public_name(ours, layers)
            if theirs is None:
                continue
            found = unused.pop(theirs, None)
            if found is None:
                problem = f"{theirs} is missing{self._nearest(theirs)}"
                raise CheckpointError(self.where, problem, _OTHER_NETWORK)
            if found.shape != value.shape:
                problem = f"{theirs} has the shape {list(found.shape)}, not {list(value.shape)}"
                raise CheckpointError(self.where, problem, _OTHER_NETWORK)
        if unused:
            some = ", ".join(sorted(unused)[:3])
            problem = f"{len(unused)} tensors belong to no layer, such as {some}"
            raise CheckpointError(self.where, problem, _OTHER_NETWORK)

    def _nearest(self, name: str) -> str:
        """Return the name that is most like the one missing, as a phrase."""
        names = list(self.tensors)[:1000]  # comparing strings is slow; a hint needs no more
        near = difflib.get_close_matches(name[:200], names, n=1, cutoff=0.6)
        return f"; the nearest name is {near[0]}" if near else ""


def _tensor_problem(value: object) -> str | None:
    """Return the problem of a tensor, as a predicate; None if it has none."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
        return "is not a dense tensor"
    if not value.is_floating_point():
        return f"holds {str(value.dtype).removeprefix('torch.')}, not floating-point numbers"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return "repeats a small memory to look large"
    if not value.isfinite().all():
        return "holds values that are infinite or not numbers"
    return None


def complete_sizes(
    inferred: Mapping[str, Any],
    options: Mapping[str, Any],
    *,
    names: tuple[str, ...],
    hints: Mapping[str, str],
    where: object,
) -> dict[str, Any]:
    """Return a network's constructor arguments: those inferred from weights, and the options.

    Args:
        inferred: arguments that the weights determine.
        options: arguments that the user gave.
        names: all arguments of the constructor.
        hints: arguments that no weights determine, and what to choose; they must be given.
        where: the file, for messages.

    Raises:
        UsageError: an argument is missing, or an option contradicts the weights.
    """
    for name, value in options.items():
        if name in inferred and inferred[name] != value:
            problem = f"its weights have {name}={inferred[name]}, not {value}"
            raise UsageError(where, problem, remedy=f"Leave out {name}, or give {inferred[name]}.")
    for name in names:
        if name in hints and name not in options and name not in inferred:
            problem = f"{name} can't be read from the weights"
            remedy = f"Give {name}={hints[name]}. On the command line: --set {name}=VALUE."
            raise UsageError(where, problem, remedy)
    return {**inferred, **options}


def public_name(ours: str, layers: LayerNames) -> str | None:
    """Return the public name of one of our tensors; None if public code doesn't store it.

    Raises:
        KeyError: the table has no row for it.
    """
    if ours.endswith(_COUNTER):
        return None
    layer, _, kind = ours.rpartition(".")
    for pattern, theirs in layers.items():
        for name, suffix in ((layer, f".{kind}"), (ours, "")):
            if found := re.fullmatch(pattern, name):
                groups = [int(part) if part.isdigit() else part for part in found.groups()]
                public = theirs.format(*groups) if isinstance(theirs, str) else theirs(*groups)
                return public + suffix if public else None
    raise KeyError(ours)


def load_public(network: Network, weights: PublicWeights, *, layers: LayerNames) -> Network:
    """Return the network with the weights, which `check_against` has compared with it."""
    state = network.state_dict()
    for ours in state:
        theirs = public_name(ours, layers)
        if theirs is not None:
            state[ours] = weights.tensors[theirs].detach().float()
    network.load_state_dict(state)
    return network
