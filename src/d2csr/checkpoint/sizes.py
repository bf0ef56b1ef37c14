"""A network's configuration read back from its weights: sizes from names and shapes.

What no shape tells (base, pooling, whether the last ReLU is there, which border) is one JSON object
in the file's metadata, `d2csr`; without it the paper's choices hold.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from types import UnionType
from typing import Any

import torch

from d2csr.core.config import ModelConfig
from d2csr.core.errors import CheckpointError, D2csrError
from d2csr.models.d2csr import D2CSR

METADATA_KEY = "d2csr"
_OPTIONS: dict[str, type | UnionType] = {
    "base": str,
    "tail_border": str,
    "pooling_px": int | None,
    "convergence_last_relu": bool,
    "deep_residual": bool,
}

Shapes = Mapping[str, tuple[int, ...]]


def options_json(config: ModelConfig) -> str:
    """Return the choices that no shape tells, as the metadata holds them."""
    values = config.to_dict()
    return json.dumps({name: values[name] for name in _OPTIONS}, sort_keys=True)


def config_from_shapes(shapes: Shapes, options: str | None, *, where: object) -> ModelConfig:
    """Return the configuration that a weights file was saved with.

    Args:
        shapes: name -> shape of every tensor of the file.
        options: the metadata's JSON object, if there is one.
        where: what errors name.

    Raises:
        CheckpointError: the names or shapes are not those of a D2C-SR network.
    """
    try:
        config = ModelConfig.from_dict({**_sizes(shapes), **_chosen(options)})
        expected = empty_shapes(config)  # torch has a RuntimeError for sizes beyond counting
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError, D2csrError) as fault:
        problem = f"its tensors are not those of a D2C-SR network ({fault!r})"
        raise CheckpointError(where, problem, remedy="Give weights that d2csr wrote.") from fault
    names = sorted({*shapes, *expected})
    if unlike := [name for name in names if shapes.get(name) != expected.get(name)]:
        problem = f"{len(unlike)} tensors are missing, extra or of another size: {unlike[0]} first"
        raise CheckpointError(where, problem, remedy="Give weights that d2csr wrote.")
    return config


def empty_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor of a network, none of them allocated."""
    with torch.device("meta"):
        network = D2CSR(config)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _chosen(options: str | None) -> dict[str, Any]:
    """Return the choices that the metadata holds, none where a file has no metadata."""
    chosen = json.loads(options) if options else {}
    if not isinstance(chosen, dict) or not set(chosen) <= set(_OPTIONS):
        raise ValueError(f"its metadata holds {chosen!r}, not choices out of {_OPTIONS}")
    for name, kind in _OPTIONS.items():
        if name in chosen and not isinstance(chosen[name], kind):
            raise ValueError(f"its metadata says {name} {chosen[name]!r}")
    return chosen


def _sizes(shapes: Shapes) -> dict[str, Any]:
    """Return every size, from the names of the branches and the shapes of the convolutions."""
    names = {name.split(".")[2] for name in shapes if name.startswith("divergence.branches.")}
    paths = [tuple(map(int, name.split("-"))) for name in names]
    depth, children = max(map(len, paths)), 1 + max(path[-1] for path in paths)
    width = Counter(map(len, paths)) | Counter({0: 1})
    if not all(width[level] == children * width[level - 1] for level in range(1, depth + 1)):
        raise ValueError(f"{len(paths)} branches are no tree")  # seen before any is built
    channels = shapes["divergence.head.weight"][0]
    collapsed = "divergence.tails.0.conv.weight" in shapes or "divergence.tails.0.weight" in shapes
    return {
        "scale": _scale(shapes, channels),
        "channels": channels,
        "depth": depth,
        "children": children,
        "groups": _count(shapes, "divergence.branches.0.groups."),
        "blocks": _count(shapes, "divergence.branches.0.groups.0.blocks."),
        "convergence_channels": shapes["convergence.convs.0.weight"][0],
        "mean": "convolution" if "divergence.sub_mean.weight" in shapes else "fixed",
        "tail": "collapsed" if collapsed else "expanded",
    }


def _count(shapes: Shapes, prefix: str) -> int:
    """Return how many numbered modules stand under a name."""
    return len({name[len(prefix) :].split(".")[0] for name in shapes if name.startswith(prefix)})


def _scale(shapes: Shapes, channels: int) -> int:
    """Return the scale from the outputs of the first tail's convolutions."""
    tail = {
        name[len("divergence.tails.0.") :]: shape
        for name, shape in shapes.items()
        if name.startswith("divergence.tails.0.")
    }
    if "weight" in tail:  # nine kernels, each to 3 s^2 channels
        return math.isqrt(tail["weight"][1] // 3)
    if "conv.weight" in tail:
        return math.isqrt(tail["conv.weight"][0] // 3)
    stages = [
        shape[0] for name, shape in tail.items() if name.startswith("up.") and len(shape) == 4
    ]
    return math.prod(math.isqrt(outputs // channels) for outputs in stages)
