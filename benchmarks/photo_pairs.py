"""Make the training pairs of the models for photographs, at one scale.

    D2CSR_DATA=... python benchmarks/photo_pairs.py --scale 4 --output PAIRS/x4

writes `camera`, `phone`, `web` and `bicubic` by the presets of `d2csr simulate` from the photos in
`$D2CSR_DATA/photos`, and `city100`: real pairs of both cameras, brought to the scale by resizing
one of the two images. The same scenes are held back from all of them, as splits `val` and `test`.
`choose` has windows of the `val` scenes. Recipes find the folder by `$D2CSR_PAIRS`, the parent of
x4. Sets that are there already are kept.
"""

import argparse
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from d2csr.core.files import atomic_folder
from d2csr.core.geometry import Size
from d2csr.core.manifest import MANIFEST_NAME, Manifest, Pair, read_manifest, write_manifest
from d2csr.data.pairs import load_pair
from d2csr.data.sources import open_pairs
from d2csr.images.resize import resize_bicubic
from d2csr.images.writer import write_rgb8
from d2csr.simulate.generate import SimulationOptions, simulate
from d2csr.simulate.presets import PRESETS
from d2csr.simulate.scene import find_photos

SHOTS = {"camera": 1, "phone": 1, "web": 2, "bicubic": 2}
MORE_SHOTS = {4: {"camera": 3}, 3: {"camera": 2}}  # where LR images are small
HELD_BACK = 0.05  # of the photos, for each of val and test
SEED = 7
CHOOSING_CROPS, WINDOW_PX = 20, 128
CITY100 = {"nikon_d5500_x3": 3, "iphone_x_x2": 2}
LICENCE = "of the photos, see photos/free/README.md and photos/clic2025/LICENSE"


def make_photo_pairs(output: Path, *, scale: int, photos: Path, workers: int = 1) -> None:
    """Write the sets made from photos that are not there yet."""
    sources = find_photos([photos], output=output)
    for preset, shots in (SHOTS | MORE_SHOTS.get(scale, {})).items():
        folder = output / preset
        if folder.exists():
            continue
        options = SimulationOptions(
            scale=scale,
            seed=SEED,
            shots=shots,
            val=HELD_BACK,
            test=HELD_BACK,
            licence=LICENCE,
            workers=workers,
            mixture=PRESETS[preset],
        )
        count = simulate(sources, folder, options=options)
        print(f"{folder}: {count} pairs", flush=True)


def make_city100_pairs(output: Path, *, scale: int, data: Path) -> None:
    """Write City100's pairs of both cameras at a scale that neither need have."""
    if output.exists():
        return
    with atomic_folder(output) as folder:
        pairs = [
            _rescaled(pair, folder, scale=scale, own_scale=own_scale)
            for camera, own_scale in CITY100.items()
            for split in ("train", "val", "test")
            for pair in open_pairs(data / "city100" / camera / split, scale=own_scale)
        ]
        manifest = Manifest(scale, "MIT", tuple(pairs), folder)
        write_manifest(manifest, folder / MANIFEST_NAME)
    print(f"{output}: {len(pairs)} pairs", flush=True)


def _rescaled(pair: Pair, folder: Path, *, scale: int, own_scale: int) -> Pair:
    """Write a pair at another scale; the split is the name of its folder."""
    lr, hr = rescale(*load_pair(pair, scale=own_scale), scale=scale)
    return _write_pair(pair, folder, lr=lr, hr=hr, split=pair.lr.parent.name)


def make_choosing_pairs(output: Path, *, scale: int, data: Path) -> None:
    """Write the set that chooses among checkpoints and networks, of all kinds, cut to windows.

    At x4 it begins with the 20 RealSR crops that may be used for this.
    """
    folder = output / "choose"
    if folder.exists():
        return
    manifests = [
        read_manifest(output / name / MANIFEST_NAME).of_split("val") for name in ("city100", *SHOTS)
    ]
    found = [pair for manifest in manifests for pair in manifest]
    if scale == 4:
        crops = sorted(open_pairs(data / "realsr_x4_crops" / "test"), key=lambda pair: pair.name)
        found = [*crops[:CHOOSING_CROPS], *found]
    with atomic_folder(folder) as temporary:
        pairs = tuple(_window(pair, temporary, scale=scale) for pair in found)
        write_manifest(Manifest(scale, LICENCE, pairs, temporary), temporary / MANIFEST_NAME)
    print(f"{folder}: {len(pairs)} pairs", flush=True)


def _window(pair: Pair, folder: Path, *, scale: int) -> Pair:
    """Write the middle of a pair, of at most `WINDOW_PX` LR pixels on each side."""
    lr, hr = load_pair(pair, scale=scale)
    height, width = (min(side, WINDOW_PX) for side in lr.shape[:2])
    top, left = (lr.shape[0] - height) // 2, (lr.shape[1] - width) // 2
    lr = lr[top : top + height, left : left + width]
    hr = hr[scale * top :, scale * left :][: scale * height, : scale * width]
    return _write_pair(pair, folder, lr=lr, hr=hr, split="val")


def _write_pair(
    pair: Pair,
    folder: Path,
    *,
    lr: UInt8[np.ndarray, "h w 3"],
    hr: UInt8[np.ndarray, "sh sw 3"],
    split: str,
) -> Pair:
    """Write the images of a pair, new ones under its name; return its manifest entry."""
    lr_path, hr_path = (folder / split / f"{pair.name}_{kind}.png" for kind in ("LR", "HR"))
    write_rgb8(lr_path, np.ascontiguousarray(lr))
    write_rgb8(hr_path, np.ascontiguousarray(hr))
    lr_size, hr_size = (Size(image.shape[1], image.shape[0]) for image in (lr, hr))
    return Pair(pair.name, split, lr_path, hr_path, lr_size, hr_size, camera=pair.camera)


def rescale(
    lr: UInt8[np.ndarray, "h w 3"], hr: UInt8[np.ndarray, "sh sw 3"], *, scale: int
) -> tuple[UInt8[np.ndarray, "h2 w2 3"], UInt8[np.ndarray, "sh2 sw2 3"]]:
    """Return a pair at another scale.

    For a larger one, the LR image is reduced where that leaves at least 3/4 of it (the HR image
    otherwise being the blurred one); for the rest, the HR image is resized to the LR image's size
    times the scale, and the LR image stays as the camera made it.
    """
    own_scale = hr.shape[0] // lr.shape[0]
    if scale == own_scale:
        return lr, hr
    if own_scale == 2:  # HR enlarged by 3/2 or 2 would hold no detail: reduce LR
        lr = resize_bicubic(lr, scale=Fraction(own_scale, scale))
        rows, columns = (
            min(side, other // scale)
            for side, other in zip(lr.shape[:2], hr.shape[:2], strict=True)
        )
        return lr[:rows, :columns], hr[: rows * scale, : columns * scale]
    return lr, resize_bicubic(hr, scale=(lr.shape[0] * scale, lr.shape[1] * scale))


def main() -> None:
    """Make all sets of one scale."""
    parser = argparse.ArgumentParser(description="Make the training pairs of one scale.")
    parser.add_argument("--scale", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    data = Path(os.environ["D2CSR_DATA"])
    make_city100_pairs(arguments.output / "city100", scale=arguments.scale, data=data)
    make_photo_pairs(
        arguments.output,
        scale=arguments.scale,
        photos=data / "photos",
        workers=arguments.workers,
    )
    make_choosing_pairs(arguments.output, scale=arguments.scale, data=data)


if __name__ == "__main__":
    main()
