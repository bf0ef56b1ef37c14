"""How far an image computed in parts, with channel means of their own, is from the whole one.

That is what the engine does where neither memory nor the disk takes an image's maps. Shipped
models with means over the whole image, on photos of data/photos; parts of several heights.
Written to `results/windows.json`; `WINDOWS_LEVELS` of the engine is its largest figure, rounded up.

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
UNSET = "D2CSR_DATA is not set: name the folder that holds photos/ in it"


def main() -> None:
    """Measure, print, keep the figures."""
    data = Path(os.environ.get("D2CSR_DATA") or sys.exit(UNSET))
    photos = sorted((data / PHOTOS).glob("*.webp"))[:PHOTOS_USED]
    rows = [row for photo in photos for row in measured(photo)]
    found = {"largest_levels": max(row["largest_levels"] for row in rows), "photos": rows}
    write_atomically(RESULTS / "windows.json", f"{json.dumps(found, indent=1)}\n".encode())


def measured(photo: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each model and height of parts."""
    lr = read_rgb8(photo)[:768, :768].astype(np.float32).transpose(2, 0, 1)[None] / np.float32(255)
    for bundle in shipped_bundles():
        if bundle.card.receptive_field.trunk_lr_px is not None:
            continue  # of these, parts are exact
        engine = open_engine(bundle, precision="fp32")
        wanted = enlarged(engine, lr, rows=lr.shape[2])
        for rows in ROWS:
            levels = 255 * np.abs(enlarged(engine, lr, rows=rows) - wanted)
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


def enlarged(engine: Engine, lr: NchwArray, *, rows: int) -> np.ndarray:
    """Return SR (1, 3, S h, S w), clipped, its features from parts of so many rows."""
    runner = engine.runner
    reach_rows = runner.bundle.card.config.trunk_receptive_field_px
    trunk = TiledTrunk(runner.compile("trunk"), lr, rows=rows, reach_rows=reach_rows)
    parts = [trunk.read(at, min(at + rows, lr.shape[2])) for at in range(0, lr.shape[2], rows)]
    _, _, sr = runner.compile("tail")([np.concatenate(parts, axis=2), lr])
    return sr.clip(0, 1)


if __name__ == "__main__":
    main()
