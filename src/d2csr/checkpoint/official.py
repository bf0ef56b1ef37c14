"""Conversion of the authors' checkpoints: their names, shapes and BGR pictures to ours.

Source: github.com/megvii-research/D2C-SR, `model/model.py`; its tree has depth 2 and 2 children.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from d2csr.checkpoint.pickled import PickledArray, read_pickled
from d2csr.checkpoint.sizes import empty_shapes
from d2csr.core.config import ModelConfig
from d2csr.core.errors import CheckpointError, D2csrError
from d2csr.models.d2csr import D2CSR

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
# BGR to RGB where a picture enters or leaves: our name -> the axis that counts colours
_COLOUR_AXIS = {
    "divergence.sub_mean.weight": 1,
    "divergence.add_mean.weight": 0,
    "divergence.add_mean.bias": 0,
    "convergence.convs.0.weight": 1,
}
_REMEDY = "Give the checkpoint that the authors' trainer saved."


def read_official(path: Path, *, scale: int | None = None) -> D2CSR:
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
    found = read_pickled(path)
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
    except (LookupError, D2csrError) as fault:
        problem = f"its arrays are not those of the authors' networks ({fault})"
        raise CheckpointError(path, problem, remedy=_REMEDY) from fault


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
    faults = [f"{name} is missing" for name in names.values() if name not in arrays]
    faults += [f"{name} is not part of it" for name in arrays if name not in names.values()]
    if not faults:
        for ours, shape in empty_shapes(config).items():
            theirs, found = names[ours], arrays[names[ours]].shape
            expected = (1, *shape, 1, 1) if len(shape) == 1 else shape
            if found != expected:
                faults.append(f"{theirs} is of shape {found}, not {expected}")
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        problem = f"it does not fit a network of its own sizes: {'; '.join(faults[:3])}{more}"
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
