"""How faithful shipped models are to brightness and color: flat stays flat, gray stays gray.

For each model: the brightness shift on City100's test scenes of its scale and on Set5 at its scale;
the largest error on flat images, of the network alone and of SR; and the largest difference of R, G
and B in SR of Set5 in gray. Written to `results/faithful_color.json`, from which
docs/evaluation.md takes its table.

    D2CSR_DATA=DATA python benchmarks/faithful_color.py
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from d2csr.core.files import write_atomically
from d2csr.engine.model import Model, load, shipped_names
from d2csr.evaluation.evaluate import evaluate
from d2csr.images.reader import read_rgb8

RESULTS = Path(__file__).parent / "results" / "faithful_color.json"
CITY100 = {3: "city100/nikon_d5500_x3/test", 2: "city100/iphone_x_x2/test"}  # by scale
SET5 = "benchmarks/Set5"
SIDE_PX = 16  # of flat images
COLORS = (
    *((level, level, level) for level in range(256)),
    *((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)),
    *((200, 30, 90), (30, 144, 255), (224, 172, 105), (34, 60, 20)),
)
UNSET = "D2CSR_DATA is not set: set it to the folder that contains city100/ and benchmarks/"


def main() -> None:
    """Measure every shipped model, and store and print the numbers."""
    data = Path(os.environ.get("D2CSR_DATA") or sys.exit(UNSET))
    rows = [measure(load(name), data) for name in shipped_names()]
    text = json.dumps({"block_px": 32, "models": rows}, indent=1) + "\n"
    write_atomically(RESULTS, text.encode())
    print(text)


def measure(model: Model, data: Path) -> dict[str, Any]:
    """Return the numbers of one model."""
    sets = [folder for folder in (CITY100.get(model.scale), SET5) if folder is not None]
    gray = [_channel_difference(model, lr) for lr in _gray_images(data, scale=model.scale)]
    return {
        "model": model.name,
        "scale": model.scale,
        "weights_sha256": model.bundle.weights_sha256,
        "precision": model.engine.backend.precision,
        "brightness_shift": {folder: _shift(model, data / folder) for folder in sets},
        "flat_gray": _flat_errors(model, [color for color in COLORS if len(set(color)) == 1]),
        "flat_colors": _flat_errors(model, [color for color in COLORS if len(set(color)) > 1]),
        "gray_difference": {
            "p50": float(np.median(np.concatenate(gray))),
            "largest": int(np.concatenate(gray).max()),
        },
    }


def _shift(model: Model, folder: Path) -> dict[str, float]:
    """Return the means over the images of a set."""
    row = evaluate([model], folder, scale=model.scale).results[0]
    if row.brightness_shift is None:
        raise ValueError(f"{folder} has only images smaller than a block")
    return {**row.brightness_shift.model_dump(), "psnr_db": row.mean.psnr_db}


def _flat_errors(model: Model, colors: list[tuple[int, int, int]]) -> dict[str, float]:
    """Return the largest errors in levels: of the network alone, and of SR."""
    network, sr = 0.0, 0
    for color in colors:
        lr = np.full((SIDE_PX, SIDE_PX, 3), color, np.uint8)
        levels = model.engine.run(lr.astype(np.float32) / np.float32(255)).sr * 255
        network = max(network, float(np.abs(levels.clip(0, 255) - color).max()))
        sr = max(sr, int(np.abs(model.upscale(lr).astype(int) - color).max()))
    return {"network": network, "sr": sr}


def _gray_images(data: Path, *, scale: int) -> list[UInt8[np.ndarray, "h w 3"]]:
    """Return the luma of Set5's LR images, as three equal channels."""
    images = []
    for path in sorted((data / SET5 / "LR_bicubic" / f"X{scale}").iterdir()):
        luma = np.rint(read_rgb8(path) @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
        images.append(np.repeat(luma[..., None], 3, axis=2))
    return images


def _channel_difference(
    model: Model, lr: UInt8[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, " pixels"]:
    """Return the largest difference of two channels of SR, pixel by pixel."""
    sr = model.upscale(lr)
    return (sr.max(axis=2) - sr.min(axis=2)).ravel()


if __name__ == "__main__":
    main()
