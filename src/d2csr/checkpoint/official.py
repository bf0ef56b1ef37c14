"""Conversion of the authors' checkpoints: their names, shapes and BGR images to ours.

Source: github.com/megvii-research/D2C-SR, `model/model.py`; its tree has depth 2 and 2 children.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from d2csr.checkpoint.io import check_blocks, expected_shapes
from d2csr.checkpoint.restricted_pickle import MAX_BYTES, PickledArray, load_restricted
from d2csr.core.config import ModelConfig
from d2csr.core.errors import CheckpointError, D2csrError, quote
from d2csr.models.d2csr import D2CSR

_Arrays = dict[str, Float32[np.ndarray, "..."]]

_STATES = ("state_dict_D", "state_dict_C")
_IGNORED = ("psnr",)  # their loader prints it; their trainer no longer writes it
_NAME_CHARACTERS = 200  # of an array's name at most; the longest of theirs has 40
_REMEDY = "Give the checkpoint that the authors' trainer saved."

# Our layers -> the authors'. `{node}` is the path of a branch or leaf, counted from 1: our `0-1` is
# their `12`. The convolution behind the groups of a branch, or the blocks of a group, has the next
# number; residuals are numbered through; in a tail every second number is a shuffle.
_BRANCH, _THEIR_BRANCH = r"divergence\.branches\.(?P<path>[\d-]+)", "body{node}"
_BLOCK = _BRANCH + r"\.groups\.(?P<group>\d+)\.blocks\.(?P<block>\d+)"
_THEIR_BLOCK = _THEIR_BRANCH + ".{group}.body.{block}"
_LAYERS = {
    r"divergence\.(?P<mean>sub_mean|add_mean)": "{mean}",
    r"divergence\.head": "head.0",
    _BLOCK + r"\.conv1": _THEIR_BLOCK + ".body.0",
    _BLOCK + r"\.conv2": _THEIR_BLOCK + ".body.2",
    _BLOCK + r"\.attention\.squeeze": _THEIR_BLOCK + ".body.3.conv_du.0",
    _BLOCK + r"\.attention\.excite": _THEIR_BLOCK + ".body.3.conv_du.2",
    _BRANCH + r"\.groups\.(?P<group>\d+)\.conv": _THEIR_BRANCH + ".{group}.body.{blocks}",
    _BRANCH + r"\.conv": _THEIR_BRANCH + ".{groups}",
    r"divergence\.residuals\.(?P<leaf>\d)\.(?P<step>\d)": "res_conv{residual}",
    r"divergence\.tails\.(?P<leaf>\d)\.up\.(?P<stage>\d)": "tail{node}.0.{shuffled}",
    r"divergence\.tails\.(?P<leaf>\d)\.out": "tail{node}.1",
    r"convergence\.convs\.(?P<index>\d)": "fusion_final.{index}.conv",
}
# BGR to RGB where an image enters or leaves: our name -> the axis that counts colors
_COLOUR_AXIS = {
    "divergence.sub_mean.weight": 1,
    "divergence.add_mean.weight": 0,
    "divergence.add_mean.bias": 0,
    "convergence.convs.0.weight": 1,
}


def official_name(ours: str, config: ModelConfig) -> str:
    """Return the name in the authors' code of one of our tensors.

    Raises:
        KeyError: no tensor of the network has this name.
    """
    layer, _, kind = ours.rpartition(".")
    for pattern, theirs in _LAYERS.items():
        if found := re.fullmatch(pattern, layer):
            return f"{theirs.format(**_parts(found.groupdict(), config))}.{kind}"
    raise KeyError(ours)


def _parts(parts: Mapping[str, str], config: ModelConfig) -> dict[str, str | int]:
    """Return the parts of one of our names with those that the authors' name is made of."""
    leaf, step, stage = (int(parts.get(name, 0)) for name in ("leaf", "step", "stage"))
    path = parts["path"].split("-") if "path" in parts else config.leaf_paths[leaf]
    return {
        **parts,
        "groups": config.groups,
        "blocks": config.blocks,
        "node": "".join(str(int(child) + 1) for child in path),
        "residual": config.residuals * leaf + step + 1,
        "shuffled": 2 * stage,
    }


def load_official(path: Path, *, scale: int | None = None) -> D2CSR:
    """Return the authors' network with its trained weights, RGB in and out, ready to predict.

    Args:
        path: the pickle that their trainer saved; it is read as data and runs nothing.
        scale: the scale that the weights must have; None takes any.

    Raises:
        CheckpointError: the file is damaged, or holds other weights or those of another scale.
    """
    arrays = _arrays(path)
    config = _config(arrays, path)
    if scale not in (None, config.scale):
        problem = f"its weights enlarge x{config.scale}, not x{scale}"
        raise CheckpointError(path, problem, f"Leave the scale out, or give {config.scale}.")
    names = {ours: official_name(ours, config) for ours in expected_shapes(config)}
    _check(arrays, names, config=config, path=path)
    network = D2CSR(config)
    network.load_state_dict({ours: _tensor(arrays[theirs], ours) for ours, theirs in names.items()})
    for name, value in network.state_dict().items():
        if not value.isfinite().all():
            problem = f"{names[name]} holds values that are infinite or not numbers"
            remedy = "Give a checkpoint from before training diverged."
            raise CheckpointError(path, problem, remedy)
    return network.eval()


def _arrays(path: Path) -> _Arrays:
    """Return the arrays of both networks in one dictionary; no name occurs in both."""
    found = load_restricted(path)
    if not isinstance(found, dict) or not set(_STATES) <= set(found) <= {*_STATES, *_IGNORED}:
        names = quote(list(found)) if isinstance(found, dict) else type(found).__name__
        problem = f"it holds {names or 'nothing'} where {' and '.join(_STATES)} should be"
        raise CheckpointError(path, problem, _REMEDY)
    states = [found[state] for state in _STATES]
    for name, values in zip(_STATES, states, strict=True):
        is_state = isinstance(values, dict) and all(
            isinstance(value, PickledArray) and value.array is not None for value in values.values()
        )
        if not is_state:
            raise CheckpointError(path, f"{name} is not a dictionary of arrays", _REMEDY)
    _check_arrays(states, path)
    return {name: value.to_float32() for values in states for name, value in values.items()}


def _check_arrays(states: list[dict[str, PickledArray]], path: Path) -> None:
    """Raise an error for more arrays, or longer names, than any network of the paper has.

    A pickle may name one array a thousand times; as tensors, it would be a thousand arrays.
    """
    arrays = [value for values in states for value in values.values()]
    problem = ""
    if len({id(value) for value in arrays}) < len(arrays):
        problem = "it has one array under several names"
    elif sum(value.bytes for value in arrays) > MAX_BYTES:
        problem = f"its arrays take more than {MAX_BYTES:,} bytes"
    elif max((len(name) for values in states for name in values), default=0) > _NAME_CHARACTERS:
        problem = f"it has a name of more than {_NAME_CHARACTERS} characters"
    if problem:
        raise CheckpointError(path, problem, _REMEDY)


def _config(arrays: _Arrays, path: Path) -> ModelConfig:
    """Return the configuration read from names and shapes; `_check` compares the rest."""
    try:
        channels = arrays["head.0.weight"].shape[0]
        groups = {name.split(".")[1] for name in arrays if name.startswith("body1.")}
        blocks = {name.split(".")[3] for name in arrays if name.startswith("body1.0.body.")}
        config = ModelConfig(
            scale=_scale(arrays, channels),
            channels=channels,
            groups=len(groups) - 1,  # the last is the convolution of the branch
            blocks=len(blocks) - 1,  # the last is the convolution of the group
            convergence_channels=arrays["fusion_final.0.conv.weight"].shape[0],
            mean="convolution",
            tail_border="each",
        )
        check_blocks(config, tensors=len(arrays))
        return config
    except (LookupError, D2csrError) as error:
        problem = f"its arrays are not those of the authors' networks ({error})"
        raise CheckpointError(path, problem, _REMEDY) from error


def _scale(arrays: _Arrays, channels: int) -> int:
    """Return the product of the factors of the first tail's shuffles, of which x8 has three."""
    names = [f"tail11.0.{2 * stage}.weight" for stage in range(3)]
    outputs = [arrays[name].shape[0] for name in names if name in arrays]
    return math.prod(math.isqrt(count // channels) for count in outputs)


def _check(arrays: _Arrays, names: dict[str, str], *, config: ModelConfig, path: Path) -> None:
    """Raise an error for names that are missing or unknown, and for shapes that differ."""
    theirs = set(names.values())
    errors = [f"{name} is missing" for name in names.values() if name not in arrays]
    errors += [f"{name} is not part of it" for name in arrays if name not in theirs]
    if not errors:
        for ours, shape in expected_shapes(config).items():
            name, found = names[ours], arrays[names[ours]].shape
            expected = (1, *shape, 1, 1) if len(shape) == 1 else shape
            if found != expected:
                errors.append(f"{name} is of shape {found}, not {expected}")
    if errors:
        more = f" and {len(errors) - 3} more" if len(errors) > 3 else ""
        problem = f"it does not fit the network of its own sizes: {'; '.join(errors[:3])}{more}"
        raise CheckpointError(path, problem, _REMEDY)


def _tensor(values: Float32[np.ndarray, "..."], ours: str) -> Float[Tensor, "..."]:
    """Return an array as our tensor of a name: biases flat, colors in RGB order."""
    if ours.endswith(".bias"):
        values = values.reshape(-1)
    if ours in _COLOUR_AXIS:
        axis = _COLOUR_AXIS[ours]
        order = np.arange(values.shape[axis]).reshape(-1, 3)[:, ::-1].ravel()
        values = values.take(order, axis=axis)
    return torch.from_numpy(values.copy())
