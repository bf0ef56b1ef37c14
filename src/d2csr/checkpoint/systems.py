"""Weights of the compared systems on disk: safetensors, with the network's name and sizes in it.

The metadata of a file is a JSON object with `system`, `scale` and `sizes`, the constructor
arguments that `models/systems.py` builds the network from. What they promise is compared with the
tensors of the file before anything is allocated.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import save
from torch import Tensor

from d2csr.checkpoint.io import METADATA_KEY, find_weights, load_weights, read_file
from d2csr.core.bundle import CARD_NAME, WEIGHTS_NAME, read_bundle, verify_bundle
from d2csr.core.errors import CheckpointError, D2csrError, shorten
from d2csr.core.files import atomic_path
from d2csr.core.typed_reader import STRICT, describe_error, parse_json
from d2csr.models.d2csr import D2CSR
from d2csr.models.networks.base import SystemNetwork, check_sizes
from d2csr.models.systems import SYSTEMS, find_system

_REMEDY = "Give weights that d2csr wrote."
# Sizes that multiply layers, each of which has tensors of its own except for shared ones.
_COUNTS = (
    *("blocks", "groups", "layers", "units", "recursions", "mappings", "middle", "depth"),
    *("hourglasses", "tails", "steps"),
)
_MOST_SHARED = 1000  # layers of a file with few tensors, which applies one again and again
_MOST_WIDTH = 4096  # of any other size


class _SystemMetadata(BaseModel):
    """The JSON object in the metadata of a file."""

    model_config = STRICT | ConfigDict(extra="forbid")

    system: str
    scale: int
    sizes: dict[str, Any]


def load_network(folder: Path | str) -> D2CSR | SystemNetwork:
    """Return the network in a bundle, a checkpoint or a run, ready to predict.

    The network of a compared system has `native`, which takes and returns tensors in the
    convention of its public code.

    Args:
        folder: a bundle; a checkpoint, of which the averaged weights are taken if it has them; or
            a run, of which the bundle is taken, else the best checkpoint, else the newest one.

    Raises:
        CheckpointError: it has no weights, or not those of a network that d2csr has.
        BundleError: it is a bundle whose files aren't those that the card has the hashes of.
    """
    path = find_weights(Path(folder))
    if path.name == WEIGHTS_NAME and (path.parent / CARD_NAME).is_file():
        verify_bundle(read_bundle(path.parent))
    return load_network_file(path)


def load_network_file(path: Path) -> D2CSR | SystemNetwork:
    """Return the network in a weights file that d2csr wrote, of either kind, ready to predict.

    Raises:
        CheckpointError: missing, damaged, or not such a network's.
    """
    tensors, options = read_file(path)
    if is_system_options(options):
        return build_from_tensors(tensors, options, where=path)
    return load_weights(path)


def system_name(network: SystemNetwork) -> str:
    """Return the name of a network in the table of systems."""
    return next(name for name, spec in SYSTEMS.items() if spec.network is type(network))


def system_options_json(network: SystemNetwork) -> str:
    """Return the JSON object that goes into the metadata of a network's files."""
    values = {"system": system_name(network), "scale": network.scale, "sizes": network.sizes}
    return json.dumps(values, sort_keys=True)


def is_system_options(options: str | None) -> bool:
    """Return whether the metadata of a file are those of a compared system."""
    try:
        values = json.loads(options or "null")
    except (ValueError, RecursionError):
        return False
    return isinstance(values, dict) and "system" in values


def save_system_weights(network: SystemNetwork, path: Path) -> None:
    """Write a network's weights as one safetensors file, atomically."""
    metadata = {METADATA_KEY: system_options_json(network)}
    values = {name: each.detach().cpu().contiguous() for name, each in network.state_dict().items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(values, metadata=metadata))


def load_system_weights(path: Path) -> SystemNetwork:
    """Return the network in a weights file of a compared system, ready to predict.

    Raises:
        CheckpointError: missing, damaged, or not such a network's.
    """
    tensors, options = read_file(path)
    return build_from_tensors(tensors, options, where=path)


def build_from_tensors(
    tensors: Mapping[str, Tensor], options: str | None, *, where: object
) -> SystemNetwork:
    """Return the network of a file's tensors and metadata, ready to predict.

    Args:
        tensors: name -> tensor.
        options: the JSON object of the metadata.
        where: the file, for messages.

    Raises:
        CheckpointError: they aren't those of a network of the table of systems.
    """
    try:
        values = parse_json(options or "{}", _SystemMetadata)
    except ValueError as error:
        problem = f"its metadata {METADATA_KEY} {describe_error(error)}"
        raise CheckpointError(where, problem, _REMEDY) from error
    try:
        network_class = find_system(values.system).network
        if network_class is None:
            raise CheckpointError(where, f"{values.system} has no weights", _REMEDY)
        arguments = {"scale": values.scale, **values.sizes}
        check_sizes(network_class, arguments, where=values.system)
        _check_counts(values.sizes, tensors=len(tensors))
        with torch.device("meta"):  # shapes alone
            expected = network_class(**arguments)
    except (D2csrError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        problem = f"is no network of the system {values.system!r} ({shorten(str(error), 300)})"
        raise CheckpointError(where, problem, _REMEDY) from error
    _check_tensors(expected, tensors, where=where)
    network = network_class(**arguments)
    network.load_state_dict(dict(tensors))
    return network.eval()


def _check_counts(sizes: Mapping[str, Any], *, tensors: int) -> None:
    """Raise ValueError for sizes that promise more layers than the file can hold."""
    counts = [value for name, value in sizes.items() if name in _COUNTS and type(value) is int]
    if math.prod(counts) > max(_MOST_SHARED, tensors):
        raise ValueError(f"{tensors} tensors are too few for sizes {dict(sizes)}")
    for value in sizes.values():
        numbers = value if isinstance(value, list | tuple) else [value]
        if any(type(each) is int and each > _MOST_WIDTH for each in numbers):
            raise ValueError(f"sizes {dict(sizes)} have numbers above {_MOST_WIDTH}")


def _check_tensors(
    expected: SystemNetwork, tensors: Mapping[str, Tensor], *, where: object
) -> None:
    """Raise CheckpointError for tensors that are missing, extra, of another size or not finite."""
    shapes = {name: tuple(value.shape) for name, value in expected.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    names = sorted({*shapes, *found})
    if unlike := [name for name in names if shapes.get(name) != found.get(name)]:
        first = shorten(unlike[0], 100)
        problem = f"{len(unlike)} tensors are missing, extra or of another size: {first} first"
        raise CheckpointError(where, problem, _REMEDY)
    if wrong := [name for name, value in tensors.items() if not value.isfinite().all()]:
        problem = f"has values in {wrong[0]} that are infinite or not numbers"
        raise CheckpointError(where, problem, "Give weights from before training diverged.")
