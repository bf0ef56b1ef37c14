"""Weights and checkpoints on disk, always as safetensors.

A checkpoint is a folder of `model`, `ema` and `optimizer.safetensors`, each flat, and `state.json`;
of an adversarial stage also `discriminator.safetensors`. It is written to a temporary folder,
flushed to the disk and then renamed, so that a kill at any moment loses nothing that was there.

The configuration of a network is read from its weights: sizes from names and shapes, and the
choices that shapes don't show (base, pooling, last ReLU, border) from a JSON object in the file's
metadata, `d2csr`. Without it, they are the paper's.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from d2csr.core.bundle import CARD_NAME, WEIGHTS_NAME, read_bundle, verify_bundle
from d2csr.core.config import ModelConfig
from d2csr.core.errors import CheckpointError, D2csrError, shorten
from d2csr.core.files import atomic_folder, atomic_path, backup_path, open_regular
from d2csr.core.typed_reader import STRICT, describe_error, parse_json, read_json
from d2csr.models.d2csr import D2CSR

METADATA_KEY = "d2csr"
_MAX_HEADER_BYTES = 4 << 20  # ten times that of the Adam state of the paper's largest network

Shapes = Mapping[str, tuple[int, ...]]


def options_json(config: ModelConfig) -> str:
    """Return the choices that shapes don't show, as the JSON of the metadata."""
    values = config.to_dict()
    return json.dumps({name: values[name] for name in _Options.model_fields}, sort_keys=True)


def config_from_shapes(shapes: Shapes, options: str | None, *, where: object) -> ModelConfig:
    """Return the configuration of the network in a weights file.

    Args:
        shapes: name -> shape of every tensor of the file.
        options: the JSON object of the metadata, if there is one.
        where: the file, for error messages.

    Raises:
        CheckpointError: the names or shapes are not those of a D2C-SR network.
    """
    try:
        config = ModelConfig.from_dict({**_sizes(shapes), **_chosen(options)})
        check_blocks(config, tensors=len(shapes))
        expected = expected_shapes(config)  # torch raises RuntimeError for sizes that overflow
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError, D2csrError) as error:
        problem = f"its tensors are not those of a D2C-SR network ({shorten(str(error), 300)})"
        raise CheckpointError(where, problem, remedy="Give weights that d2csr wrote.") from error
    names = sorted({*shapes, *expected})
    if unlike := [name for name in names if shapes.get(name) != expected.get(name)]:
        first = shorten(unlike[0], 100)
        problem = f"{len(unlike)} tensors are missing, extra or of another size: {first} first"
        raise CheckpointError(where, problem, remedy="Give weights that d2csr wrote.")
    return config


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor of a network, without allocating any."""
    with torch.device("meta"):
        network = D2CSR(config)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def check_blocks(config: ModelConfig, *, tensors: int) -> None:
    """Check that a file has the tensors of all blocks that a configuration promises.

    A few names can promise many blocks, which would all be built before they were missed.

    Args:
        config: as the names and shapes in the file have it.
        tensors: that the file has.

    Raises:
        LookupError: it has fewer than two convolutions with biases for each block.
    """
    if 4 * config.block_count > tensors:
        raise LookupError(f"{tensors} tensors are too few for {config.block_count} blocks")


class _Options(BaseModel):
    """The choices in the metadata; those that a file leaves out keep their default."""

    model_config = STRICT | ConfigDict(extra="forbid")

    base: str = ""
    tail_border: str = ""
    pooling_px: int | None = None
    convergence_last_relu: bool = True
    deep_residual: bool = True


def _chosen(options: str | None) -> dict[str, Any]:
    """Return the choices in the metadata; none where a file has no metadata."""
    if not options:
        return {}
    try:
        return parse_json(options, _Options).model_dump(exclude_unset=True)
    except ValueError as error:
        raise ValueError(f"its metadata {METADATA_KEY} {describe_error(error)}") from error


def _sizes(shapes: Shapes) -> dict[str, Any]:
    """Return every size, from the names of the branches and the shapes of the convolutions."""
    names = {name.split(".")[2] for name in shapes if name.startswith("divergence.branches.")}
    paths = [tuple(map(int, name.split("-"))) for name in names]
    depth, children = max(map(len, paths)), 1 + max(path[-1] for path in paths)
    nodes = Counter(map(len, paths)) | Counter({0: 1})
    if not all(nodes[level] == children * nodes[level - 1] for level in range(1, depth + 1)):
        raise ValueError(f"{len(paths)} branches are not a tree")  # checked before any is built
    channels = shapes["divergence.head.weight"][0]
    scale = _scale(shapes, channels)
    trunk_groups = _count(shapes, "divergence.trunk.groups.")
    group = "divergence.trunk.groups.0." if trunk_groups else "divergence.branches.0.groups.0."
    has_convergence = any(name.startswith("convergence.") for name in shapes)
    width, inputs = shapes["convergence.convs.0.weight"][:2] if has_convergence else (0, 0)
    # inputs of the convergence network: RGB of every leaf, of one or of scale^2 pixels
    on_lr_grid = has_convergence and inputs != 3 * children**depth
    collapsed = "divergence.tails.0.conv.weight" in shapes or "divergence.tails.0.weight" in shapes
    return {
        "scale": scale,
        "channels": channels,
        "depth": depth,
        "children": children,
        "groups": _count(shapes, "divergence.branches.0.groups."),
        "blocks": _count(shapes, f"{group}blocks."),
        "trunk_groups": trunk_groups,
        "attention": f"{group}blocks.0.attention.squeeze.weight" in shapes,
        "convergence_grid": "lr" if on_lr_grid else "sr",
        "convergence_channels": width,
        "mean": "convolution" if "divergence.sub_mean.weight" in shapes else "fixed",
        "tail": "collapsed" if collapsed else "expanded",
    }


def _count(shapes: Shapes, prefix: str) -> int:
    """Return the number of numbered modules under a prefix."""
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
    stages = [f"up.{stage}.weight" for stage in range(3)]  # at most, for x8
    outputs = [tail[name][0] for name in stages if name in tail]
    return math.prod(math.isqrt(count // channels) for count in outputs)


MODEL_FILE, EMA_FILE, OPTIMIZER_FILE, DISCRIMINATOR_FILE, STATE_FILE = (
    "model.safetensors",
    "ema.safetensors",
    "optimizer.safetensors",
    "discriminator.safetensors",
    "state.json",
)


def save_weights(network: D2CSR, path: Path) -> None:
    """Write a network's weights as one flat safetensors file, atomically."""
    with atomic_path(path) as temporary:
        _write_tensors(temporary, network.state_dict(), options=options_json(network.config))


def save_checkpoint(
    folder: Path,
    *,
    options: str,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
) -> None:
    """Write a checkpoint folder; one already there stays until the new one is complete.

    Args:
        folder: of the checkpoint.
        options: JSON object that describes the network, written into every tensor file.
        tensors: file name -> name -> tensor.
        state: plain JSON values.
    """
    with atomic_folder(folder) as temporary:
        for name, values in tensors.items():
            _write_tensors(temporary / name, values, options=options)
        (temporary / STATE_FILE).write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")


def _write_tensors(path: Path, values: Mapping[str, Tensor], *, options: str) -> None:
    flat = {name: value.detach().cpu().contiguous() for name, value in values.items()}
    # not save_file, whose files only their owner can read
    path.write_bytes(save(flat, metadata={METADATA_KEY: options}))


CHECKPOINTS = "checkpoints"  # of a run: one folder per checkpoint, `step-00001234`
BEST = "best"  # of a run: the checkpoint with the best validation score
BUNDLE = "bundle"  # of a run: exported at its end


def load_network(folder: Path | str) -> D2CSR:
    """Return the network in a bundle, a checkpoint or a run, ready to predict.

    Args:
        folder: a bundle; a checkpoint, of which the averaged weights are taken if it has them; or
            a run, of which the bundle is taken, else the best checkpoint, else the newest one.

    Raises:
        CheckpointError: it has no weights, or not those of a D2C-SR network.
        BundleError: it is a bundle whose files aren't those that the card has the hashes of.
    """
    path = find_weights(Path(folder))
    if path.name == WEIGHTS_NAME and (path.parent / CARD_NAME).is_file():
        verify_bundle(read_bundle(path.parent))
    return load_weights(path)


def load_weights(path: Path) -> D2CSR:
    """Return the network in a weights file; its sizes are read from names and shapes.

    Raises:
        CheckpointError: missing, damaged, or not a D2C-SR network's.
    """
    tensors, config = read_tensors(path)
    if wrong := [name for name, value in tensors.items() if not value.isfinite().all()]:
        problem = f"has values in {wrong[0]} that are infinite or not numbers"
        raise CheckpointError(path, problem, "Give weights from before training diverged.")
    network = D2CSR(config)
    network.load_state_dict(tensors)
    return network.eval()


def read_tensors(path: Path) -> tuple[dict[str, Tensor], ModelConfig]:
    """Return the tensors of a weights file and the configuration of their network."""
    tensors, options = read_file(path)
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    return tensors, config_from_shapes(shapes, options, where=path)


def read_file(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Return every tensor of a safetensors file and the options in its metadata."""
    try:
        _check_header(path)
        with safe_open(path, framework="pt") as file:
            options = (file.metadata() or {}).get(METADATA_KEY)
            return {name: file.get_tensor(name) for name in file.keys()}, options  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        problem = "is missing, damaged, or no safetensors file"
        raise CheckpointError(path, problem, remedy="Check the path, or copy it again.") from error


def _check_header(path: Path) -> None:
    """Raise OSError for a header that is larger than any network's.

    Names without data cost 5 microseconds each: the format allows a million of them.
    """
    with open_regular(path) as file:
        header_bytes = int.from_bytes(file.read(8), "little")
    if header_bytes > _MAX_HEADER_BYTES:
        raise OSError(f"its header has {header_bytes:,} bytes, more than {_MAX_HEADER_BYTES:,}")


class _Best(BaseModel):
    """The best validation so far: its PSNR is -inf before the first."""

    model_config = ConfigDict(strict=True)

    step: int
    psnr_db: float


class _State(BaseModel):
    """The plain values of a checkpoint; those that older ones lack have a default."""

    model_config = ConfigDict(strict=True, extra="allow")

    step: int = Field(ge=0)
    earlier_steps: int = Field(default=0, ge=0)
    stage: int = Field(default=0, ge=0)
    best: _Best = _Best(step=-1, psnr_db=-math.inf)
    machine: str | None = None
    precision: str = "auto"


def read_state(folder: Path) -> dict[str, Any]:
    """Return the plain values of a checkpoint folder.

    Raises:
        CheckpointError: they are missing, damaged, or of wrong types.
    """
    remedy = "Resume from another checkpoint."
    path = folder / STATE_FILE
    state = read_json(path, _State, error_type=CheckpointError, remedy=remedy)
    return state.model_dump(exclude_unset=True)


def trained_steps(folder: Path) -> int:
    """Return the training steps of the weights that `load_network` reads; 0 where unknown.

    Raises:
        CheckpointError: the folder has no weights.
        BundleError: the bundle with the weights is damaged.
    """
    parent = find_weights(folder).parent
    if (parent / CARD_NAME).is_file():
        return read_bundle(parent).card.metadata.steps or 0
    if not (parent / STATE_FILE).is_file():
        return 0
    state = read_state(parent)
    return state.get("earlier_steps", 0) + state["step"]


def last_checkpoint(run: Path) -> Path | None:
    """Return a run's newest checkpoint folder, or None where it has none."""
    folders = sorted((run / CHECKPOINTS).glob("step-*"))
    return folders[-1] if folders else None


def find_weights(folder: Path) -> Path:
    """Return the weights file of a bundle, checkpoint or run; a file is returned as it is."""
    if folder.is_file():
        return folder
    best = folder / BEST  # its backup is left by a kill while a better one took its name
    folders = [folder, folder / BUNDLE, best, backup_path(best), last_checkpoint(folder)]
    for parent in folders:
        for name in (EMA_FILE, MODEL_FILE):
            if parent is not None and (parent / name).is_file():
                return parent / name
    problem = f"no {MODEL_FILE} in it, nor in its {BUNDLE}, {BEST} or {CHECKPOINTS}"
    remedy = "Give a bundle, a checkpoint or a run folder."
    raise CheckpointError(folder, problem, remedy=remedy)
