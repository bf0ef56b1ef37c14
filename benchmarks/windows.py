"""Error of an image that is computed in tiles with separate channel means.

The engine does this if neither memory nor disk can hold the feature maps of an image. Measured for
the shipped models with means over the whole image, on photos of data/photos, for tiles of several
heights. Writes `results/windows.json`; `TILING_ERROR_LEVELS` of the engine is its maximum, rounded
up.

    D2CSR_DATA=DATA python benchmarks/windows.py
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from d2csr.core.files import write_atomically
from d2csr.engine.backends.base import NchwArray
from d2csr.engine.engine import Engine, open_engine
from d2csr.engine.model import shipped_bundles
from d2csr.engine.streaming import TiledTrunk
from d2csr.images.reader import read_rgb8

RESULTS = Path(__file__).parent / "results"
PHOTOS = "photos/clic2025"
PHOTOS_USED = 5
ROWS = (32, 128, 512)
UNSET = "D2CSR_DATA is not set: set it to the folder that contains photos/"


def main() -> None:
    """Measure, print and store the errors."""
    data = Path(os.environ.get("D2CSR_DATA") or sys.exit(UNSET))
    photos = sorted((data / PHOTOS).glob("*.webp"))[:PHOTOS_USED]
    rows = [row for photo in photos for row in measure(photo)]
    results = {"largest_levels": max(row["largest_levels"] for row in rows), "photos": rows}
    write_atomically(RESULTS / "windows.json", f"{json.dumps(results, indent=1)}\n".encode())


def measure(photo: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each model and height of tiles."""
    lr = read_rgb8(photo)[:768, :768].astype(np.float32).transpose(2, 0, 1)[None] / np.float32(255)
    for bundle in shipped_bundles():
        if bundle.card.receptive_field.trunk_lr_px is not None:
            continue  # tiles are exact for these
        engine = open_engine(bundle, precision="fp32")
        whole = upscale(engine, lr, rows=lr.shape[2])
        for rows in ROWS:
            levels = 255 * np.abs(upscale(engine, lr, rows=rows) - whole)
            row = {
                "photo": photo.stem,
                "model": bundle.card.name,
                "rows": rows,
                "largest_levels": round(float(levels.max()), 2),
                "p99_9_levels": round(float(np.quantile(levels, 0.999)), 2),
                "mean_levels": round(float(levels.mean()), 4),
            }
            print(row, flush=True)
            yield row


def upscale(engine: Engine, lr: NchwArray, *, rows: int) -> np.ndarray:
    """Return SR (1, 3, S h, S w), clipped, with features computed in tiles of `rows` rows."""
    backend = engine.backend
    halo_rows = backend.bundle.card.d2csr_config.trunk_receptive_field_px
    trunk = TiledTrunk(backend.compile("trunk"), lr, rows=rows, halo_rows=halo_rows)
    parts = [trunk.read(at, min(at + rows, lr.shape[2])) for at in range(0, lr.shape[2], rows)]
    _, _, sr = backend.compile("tail")([np.concatenate(parts, axis=2), lr])
    return sr.clip(0, 1)


if __name__ == "__main__":
    main()
