"""Benefit of registering City100's published pairs again: models of one recipe trained on both.

    d2csr align PAIRS/ -o SET/ --scale 3 --val 0 --test 0       # PAIRS has NAME_lr and NAME_hr
    D2CSR_DATA=DATA python benchmarks/registered_training.py SET

The published pairs are of the same scenes, cropped to the same part of LR, with the same masks:
only positions and colors of HR differ. Both models are tested on City100's test scenes as
published. Written to `results/registered_training-2026-11-23.json`.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

from realism_training import compare, store, train_once

from d2csr.core.manifest import MANIFEST_NAME, Manifest, read_manifest, write_manifest
from d2csr.images.reader import read_rgb8
from d2csr.images.writer import write_rgb8

RESULTS = Path(__file__).parent / "results" / "registered_training-2026-11-23.json"
BUILD = Path("build/registered")
PUBLISHED = "city100/nikon_d5500_x3/train"
TESTS = ("city100/nikon_d5500_x3/test", "city100/nikon_d5500_x3/val")
UNSET = "D2CSR_DATA is not set: set it to the folder that contains city100/"


def main() -> None:
    """Lay out both datasets, train, test and store the scores."""
    data = Path(os.environ.get("D2CSR_DATA") or sys.exit(UNSET))
    again = read_manifest(Path(sys.argv[1]) / MANIFEST_NAME)
    (BUILD / "again").mkdir(parents=True, exist_ok=True)
    write_manifest(again, BUILD / "again" / MANIFEST_NAME)
    lay_out_published(again, source=data / PUBLISHED, out=BUILD / "published")
    models = {
        "pairs registered again": train_once("registered_x3_again", BUILD / "again"),
        "pairs as published": train_once("registered_x3_published", BUILD / "published"),
    }
    tests = {folder: compare(models, data / folder, name=folder) for folder in TESTS}
    store(tests, RESULTS)


def lay_out_published(again: Manifest, *, source: Path, out: Path) -> None:
    """Write the published images of the same scenes, cropped to the same part of LR."""
    pairs = []
    for pair in again:
        if pair.transform is None:
            continue
        left, top, width, height = pair.transform["lr_region"]
        lr, hr = (read_rgb8(source / name) for name in pair.transform["sources"])
        hr_part = tuple(slice(3 * at, 3 * (at + n)) for at, n in ((top, height), (left, width)))
        paths = {end: out / "train" / f"{pair.name}_{end}.png" for end in ("LR3", "HR")}
        write_rgb8(paths["LR3"], lr[top : top + height, left : left + width])
        write_rgb8(paths["HR"], hr[hr_part])
        pairs.append(replace(pair, lr=paths["LR3"], hr=paths["HR"], sha256_lr="", sha256_hr=""))
    write_manifest(replace(again, pairs=tuple(pairs)), out / MANIFEST_NAME)


if __name__ == "__main__":
    main()
