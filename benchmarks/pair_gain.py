"""The gain from LR to HR by spatial frequency: how alike simulated and real pairs are.

    python benchmarks/pair_gain.py PAIRS/x4/camera DATA/realsr_x4_crops/test --output gain.json

For every pair, the least-squares gain from bicubic enlargement to HR (luma) in bands of cycles per
HR pixel, and how much of HR it explains. Printed and stored by camera: the median over the pairs,
and the standard deviation. Above 1, a network has to sharpen; below 1, LR is sharpened more than HR
is. A network trained on pairs of another gain sharpens too much or too little.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from d2csr.core.files import write_atomically
from d2csr.core.manifest import Pair
from d2csr.data.pairs import load_pair
from d2csr.data.sources import open_pairs
from d2csr.images.resize import enlarge_bicubic
from d2csr.metrics.protocols import LUMA

EDGES = (0.003, 0.008, 0.013, 0.02, 0.03, 0.04, 0.05, 0.06, 0.075, 0.09, 0.11)  # cycles / HR px
WINDOW_PX = 400
LEAST_EXPLAINED = 0.5  # in the band from 0.06; pairs of less are noise or sky


def main() -> None:
    """Measure the pairs of each folder, print the gains, and store them."""
    parser = argparse.ArgumentParser(description="Measure the gain from LR to HR.")
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--limit", type=int, default=40, help="pairs of each camera")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    cameras: dict[str, list[Pair]] = defaultdict(list)
    for folder in arguments.folders:
        for pair in open_pairs(folder, scale=arguments.scale):
            cameras[f"{'/'.join(folder.parts[-2:])}, {pair.camera or 'unknown'}"].append(pair)
    rows = {
        name: measure(pairs[: arguments.limit], scale=arguments.scale)
        for name, pairs in cameras.items()
    }
    for name, row in rows.items():
        print(f"{name}: {row['pairs'][0]} pairs")
        for figure in ("gain", "deviation", "explained"):
            print(f"  {figure:10s}", *(f"{value:6.2f}" for value in row[figure]))
    if arguments.output:
        text = json.dumps({"edges_cycles_per_hr_px": EDGES, "cameras": rows}, indent=1)
        write_atomically(arguments.output, f"{text}\n".encode())


def measure(pairs: list[Pair], *, scale: int) -> dict[str, list[float]]:
    """Return the median gain, its deviation and the explained share in each band."""
    powers = np.array([band_powers(pair, scale=scale) for pair in pairs])
    of_hr, of_lr, common = np.moveaxis(powers, 1, 0)
    gain, explained = common / of_lr, common**2 / (of_hr * of_lr)
    used = explained[:, 7] > LEAST_EXPLAINED
    return {
        "pairs": [int(used.sum())],
        "gain": np.median(gain[used], axis=0).round(3).tolist(),
        "deviation": gain[used].std(axis=0).round(3).tolist(),
        "explained": np.median(explained[used], axis=0).round(3).tolist(),
    }


def band_powers(pair: Pair, *, scale: int) -> np.ndarray:
    """Return the power of HR, of enlarged LR, and what they share (3, bands)."""
    lr, hr = load_pair(pair, scale=scale)
    images = [image @ np.asarray(LUMA[0]) for image in (hr, enlarge_bicubic(lr, scale))]
    side = min(WINDOW_PX, *hr.shape[:2])
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)
    bands = np.digitize(np.hypot(fy, fx), EDGES)
    powers = np.zeros((3, len(EDGES) - 1))
    for top in range(0, hr.shape[0] - side + 1, side):
        for left in range(0, hr.shape[1] - side + 1, side):
            one, other = (_spectrum(i[top : top + side, left : left + side]) for i in images)
            shares = (np.abs(one) ** 2, np.abs(other) ** 2, np.real(one * other.conj()))
            powers += [
                [share[bands == band].sum() for band in range(1, len(EDGES))] for share in shares
            ]
    return powers


def _spectrum(window: np.ndarray) -> np.ndarray:
    taper = np.hanning(len(window))
    return np.fft.rfft2((window - window.mean()) * np.outer(taper, taper))


if __name__ == "__main__":
    main()
