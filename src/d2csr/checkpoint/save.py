"""Checkpoints and weights written so that a kill at any moment loses nothing already there.

A checkpoint is a folder: `model`, `ema` and `optimizer.safetensors`, each flat, and `state.json`.
It is written beside its place, flushed to the disk and then renamed.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from d2csr.checkpoint.sizes import METADATA_KEY, options_json
from d2csr.core.config import ModelConfig
from d2csr.core.files import atomic_path, flush_to_disk
from d2csr.models.d2csr import D2CSR

MODEL, EMA, OPTIMIZER, STATE = (
    "model.safetensors",
    "ema.safetensors",
    "optimizer.safetensors",
    "state.json",
)


def save_weights(network: D2CSR, path: Path) -> None:
    """Write a network's weights as one flat safetensors file, atomically."""
    with atomic_path(path) as beside:
        _write_tensors(beside, network.state_dict(), config=network.config)


def save_checkpoint(
    folder: Path,
    *,
    config: ModelConfig,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
) -> None:
    """Write a checkpoint folder; what stood under the name stays until the new one is whole.

    Args:
        folder: where it will stand.
        config: the network's configuration, kept with every tensor file.
        tensors: file name -> name -> tensor.
        state: plain JSON values.
    """
    beside = folder.with_name(f".{folder.name}.new")  # what a kill left there is in nobody's way
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for name, values in tensors.items():
        _write_tensors(beside / name, values, config=config)
    (beside / STATE).write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    for file in beside.iterdir():
        flush_to_disk(file)
    flush_to_disk(beside)
    old = retired(folder)
    if folder.exists():
        # no system renames over a full folder: between the two renames `old` counts
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    beside.rename(folder)
    flush_to_disk(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def retired(folder: Path) -> Path:
    """Return where the former checkpoint stands while a new one takes its name."""
    return folder.with_name(f".{folder.name}.old")


def _write_tensors(path: Path, values: Mapping[str, Tensor], *, config: ModelConfig) -> None:
    flat = {name: value.detach().cpu().contiguous() for name, value in values.items()}
    # not save_file, whose files only their owner may read
    path.write_bytes(save(flat, metadata={METADATA_KEY: options_json(config)}))
