"""Strips against whole images: the `small` network of every compared system on a photograph.

Prints a table for docs/systems.md: what an SR pixel depends on, operations, the PSNR of bfloat16
against float32 on noise, and the largest difference of SR between both, in gray levels.

    python benchmarks/system_strips.py PHOTO --side 192
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from d2csr.core.bundle import Bundle, ModelMetadata
from d2csr.core.system_config import SystemConfig
from d2csr.engine.engine import open_engine
from d2csr.export.system_bundle import write_system_bundle
from d2csr.images.reader import read_rgb8
from d2csr.models.systems import SYSTEMS, build_system

SCALE = 3
STRIP_ROWS = 32


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path, help="an image of at least --side pixels")
    parser.add_argument("--side", type=int, default=192, help="rows and columns of it to take")
    parser.add_argument("--systems", nargs="*", default=list(SYSTEMS), help="names in the table")
    arguments = parser.parse_args()
    lr8 = read_rgb8(arguments.photo)[: arguments.side, : arguments.side]
    lr01 = lr8.astype(np.float32) / np.float32(255)
    print("| system | depends on, LR px | GFLOP/MP | bf16 dB | strips differ by |")
    print("| --- | --- | --- | --- | --- |", flush=True)
    for row in rows(arguments.systems, lr01):
        print(f"| {' | '.join(row)} |", flush=True)


def rows(names: list[str], lr01: np.ndarray) -> Iterator[tuple[str, ...]]:
    """Yield the row of each system that has a network."""
    for name in names:
        if SYSTEMS[name].network is None:
            continue
        print(name, file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            bundle = write_small(name, Path(folder) / name)
            config = bundle.card.config
            if not isinstance(config, SystemConfig):
                raise TypeError(f"{name} was written as another kind of model")
            reach = config.receptive_field_lr_px
            error = bundle.card.precisions.get("bf16")
            yield (
                SYSTEMS[name].title,
                "the image" if reach is None else str(reach),
                f"{config.gflop_per_lr_mp:.0f}",
                "" if error is None else f"{error.psnr_to_fp32_db:.1f}",
                "" if reach is None else f"{strip_difference(bundle, lr01):.1e}",
            )


def write_small(name: str, folder: Path) -> Bundle:
    """Return the bundle of a `small` network with random weights, always the same ones."""
    torch.manual_seed(0)
    network = build_system(name, scale=SCALE, size="small")
    metadata = ModelMetadata(name, licence="none", data="none: random weights")
    return write_system_bundle(network, folder, metadata=metadata)


def strip_difference(bundle: Bundle, lr01: np.ndarray) -> float:
    """Return the largest difference of SR between strips and the whole image, in gray levels."""
    engine = open_engine(bundle, backend="openvino", precision="fp32")
    whole = engine.run(lr01).sr
    strips = engine.with_strips(STRIP_ROWS).run(lr01).sr
    return 255 * float(np.abs(whole - strips).max())


if __name__ == "__main__":
    main()
