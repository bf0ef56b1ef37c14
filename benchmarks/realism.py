"""Simulated zoom pairs compared with real ones: blur between HR and LR, sharpness and noise.

Real: City100's train scenes (Nikon D5500, x3). Simulated, from the photos of data/photos at the
same scale: one camera, set to resemble City100's; the same camera with a mosaic; the default
camera of `d2csr simulate`, sampled again for each scene. Also bicubic reductions.
`linear_on_real_val_db` is the PSNR of the `linear` baseline, fitted on each kind, on City100's val
scenes. Writes a dated JSON file into `results`.

    D2CSR_DATA=DATA python benchmarks/realism.py
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path

import numpy as np

from d2csr.core.files import write_atomically
from d2csr.core.manifest import Manifest
from d2csr.data.pairs import load_pair
from d2csr.data.sources import open_pairs
from d2csr.data.synthetic import make_bicubic_pairs
from d2csr.evaluation.linear_baseline import apply_filters, fit_filters
from d2csr.images.reader import read_rgb8
from d2csr.metrics.protocols import LUMA, score, to_channels
from d2csr.simulate.camera_config import CameraConfig, IspConfig, SensorConfig
from d2csr.simulate.generate import SimulationOptions, simulate
from d2csr.simulate.scene import find_photos

RESULTS = Path(__file__).parent / "results"
SCALE = 3
REAL = "city100/nikon_d5500_x3/train"
VAL = "city100/nikon_d5500_x3/val"
ONE = SensorConfig(olpf_um=(3.2, 3.2))
SHARPENED = IspConfig(sharpening=(0.6, 0.6))
CAMERAS = {
    "simulated, the default camera": CameraConfig(),
    "simulated, one camera": CameraConfig(sensor=ONE, isp=SHARPENED),
    "the same behind a mosaic": CameraConfig(
        sensor=ONE.model_copy(update={"mosaic": "rggb"}), isp=SHARPENED
    ),
}
PHOTOS = "photos/clic2025"
KERNEL_PX = 15  # side, on the HR grid
SPECTRUM_PX = 128
CROSS_PX = 64  # side of LR's tiles
BANDS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45)  # cycles per pixel
FREQUENCIES = tuple(round(0.02 * step, 2) for step in range(1, 13))  # cycles per HR pixel
UNSET = "D2CSR_DATA is not set: set it to the folder that contains city100/"

Luma = np.ndarray


def main() -> None:
    """Measure all kinds of pairs, print them side by side and store the values."""
    data = Path(os.environ.get("D2CSR_DATA") or sys.exit(UNSET))
    with tempfile.TemporaryDirectory() as folder:
        manifests = {"real": open_pairs(data / REAL)}
        for name, camera in CAMERAS.items():
            out = Path(folder) / name
            simulate(
                find_photos([data / PHOTOS], output=out),
                out,
                options=SimulationOptions(scale=SCALE, camera=camera),
            )
            manifests[name] = open_pairs(out)
        reduced = Path(folder) / "bicubic"
        manifests["bicubic reductions"] = make_bicubic_pairs(data / PHOTOS, reduced, scale=SCALE)
        val = open_pairs(data / VAL)
        rows = {
            kind: {**measure_pairs(manifest), "linear_on_real_val_db": linear_db(manifest, val)}
            for kind, manifest in manifests.items()
        }
    for kind, row in rows.items():
        row["pairs"] = f"$D2CSR_DATA/{REAL}" if kind == "real" else f"of $D2CSR_DATA/{PHOTOS}"
    for name in rows["real"]:
        print(f"{name:28}", *(f"{kind}: {row[name]}" for kind, row in rows.items()), sep="\n    ")
    day = date.today().isoformat()
    text = json.dumps({"date": day, "rows": rows}, indent=1)
    write_atomically(RESULTS / f"realism-{day}.json", f"{text}\n".encode())


def linear_db(manifest: Manifest, val: Manifest) -> float:
    """Return the PSNR (protocol `y`) on `val` of the linear filter fitted on `manifest`."""
    filters = fit_filters(manifest)
    scores = []
    for pair in val:
        lr, hr = load_pair(pair, scale=val.scale)
        sr = np.rint(np.clip(apply_filters(lr, filters), 0, 1) * 255).astype(np.uint8)
        scores.append(score(sr, hr, protocol="y", scale=val.scale).psnr_db)
    return round(float(np.mean(scores)), 2)


def measure_pairs(manifest: Manifest) -> dict[str, object]:
    """Return all properties to compare, over all pairs of a manifest."""
    images = [(luma(pair.hr), luma(pair.lr)) for pair in manifest]
    kernel = least_squares_kernel(images, manifest.scale)
    transfer = mtf(kernel)
    return {
        "pairs": "",
        "number": len(images),
        "mtf": {str(at): round(float(transfer(at)), 3) for at in FREQUENCIES},
        "mtf50_cycles_per_hr_px": round(mtf50(kernel), 4),
        "mtf_at_lr_nyquist": round(float(transfer(0.5 / manifest.scale)), 3),
        "kernel_width_hr_px": round(width(kernel), 2),
        **cross_spectrum(images, manifest.scale),
        "hr_spectrum_db": spectrum_db([hr for hr, _ in images]),
        "lr_spectrum_db": spectrum_db([lr for _, lr in images]),
        "hr_noise_levels": noise([hr for hr, _ in images]),
        "lr_noise_levels": noise([lr for _, lr in images]),
    }


def cross_spectrum(images: Sequence[tuple[Luma, Luma]], scale: int) -> dict[str, dict[str, float]]:
    """Return gain and coherence between LR and HR at the frequencies that both contain.

    `gain_to_hr` is the gain of the linear filter that brings LR nearest to HR; `coherence` is the
    share of LR's power that HR explains: the rest is noise, aliasing and misregistration.
    """
    side, step = CROSS_PX, np.fft.fftfreq(CROSS_PX) / scale
    radius, wide = np.hypot(step[:, None], step), side * scale
    shift = np.exp(-2j * np.pi * step * (scale - 1) / 2)  # the first LR pixel's centre, in HR's
    low = np.r_[0 : side // 2, wide - side // 2 : wide]
    lines = [
        np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in (wide, side)
    ]  # the same window, sampled at both grids' centres
    of_hr, of_lr = (np.outer(line, line) for line in lines)
    cross, hr_power, lr_power = (np.zeros((side, side)) for _ in range(3))
    for hr, lr in images:
        for top in range(0, lr.shape[0] - side + 1, side):
            for left in range(0, lr.shape[1] - side + 1, side):
                small = lr[top : top + side, left : left + side]
                large = hr[top * scale :, left * scale :][:wide, :wide]
                a = np.fft.fft2((small - small.mean()) * of_lr) / np.outer(shift, shift).conj()
                b = np.fft.fft2((large - large.mean()) * of_hr)[np.ix_(low, low)] / scale**2
                cross += (a * b.conj()).real
                hr_power, lr_power = hr_power + np.abs(b) ** 2, lr_power + np.abs(a) ** 2
    values: dict[str, dict[str, float]] = {"gain_to_hr": {}, "coherence": {}}
    for at in FREQUENCIES[:8]:
        band = np.abs(radius - at) < 0.01
        both, high, low_power = (power[band].sum() for power in (cross, hr_power, lr_power))
        values["gain_to_hr"][str(at)] = round(float(both / low_power), 3)
        values["coherence"][str(at)] = round(float(both**2 / (high * low_power)), 3)
    return values


def luma(path: Path) -> Luma:
    """Return the luma of an image, full range 0..255."""
    return to_channels(read_rgb8(path).astype(np.float64), LUMA, offset=0.0)[0] * 255 / 219


def least_squares_kernel(images: Iterable[tuple[Luma, Luma]], scale: int) -> np.ndarray:
    """Return the filter on the HR grid whose sampled output is nearest to the LR images."""
    half, first = KERNEL_PX // 2, (scale - 1) // 2
    unknowns = (2 * half + 1) ** 2 + 1
    normal, target = np.zeros((unknowns, unknowns)), np.zeros(unknowns)
    for hr, lr in images:
        edge = half // scale + 1
        rows, columns = (side - 2 * edge for side in lr.shape)
        offsets = [
            (edge * scale + first + y, edge * scale + first + x)
            for y in range(-half, half + 1)
            for x in range(-half, half + 1)
        ]
        taps = [
            hr[y : y + scale * rows : scale, x : x + scale * columns : scale].ravel()
            for y, x in offsets
        ]
        system = np.stack([*taps, np.ones(rows * columns)])
        normal = normal + system @ system.T
        target = target + system @ lr[edge : edge + rows, edge : edge + columns].ravel()
    solved = np.linalg.solve(normal + 100 * np.eye(len(normal)), target)[:-1]
    return solved.reshape(KERNEL_PX, KERNEL_PX) / solved.sum()


def mtf(kernel: np.ndarray) -> Callable[[float], float]:
    """Return a function of cycles per HR pixel: the kernel's transfer, mean of both axes."""
    offsets = np.arange(KERNEL_PX) - KERNEL_PX // 2

    def transfer(at: float) -> float:
        wave = np.exp(-2j * np.pi * at * offsets)
        return float(np.mean([abs(kernel.sum(axis) @ wave) for axis in (0, 1)]))

    return transfer


def mtf50(kernel: np.ndarray) -> float:
    """Return the lowest frequency at which the transfer falls below one half."""
    transfer = mtf(kernel)
    fine = np.linspace(0, 0.5, 2001)
    return float(next((at for at in fine if transfer(at) < 0.5), 0.5))


def width(kernel: np.ndarray) -> float:
    """Return the full width at half maximum of the kernel along the axes, in HR pixels."""
    line = (kernel.sum(0) + kernel.sum(1)) / 2
    fine = np.interp(np.linspace(0, KERNEL_PX - 1, 2000), np.arange(KERNEL_PX), line)
    return float((fine > fine.max() / 2).mean() * (KERNEL_PX - 1))


def spectrum_db(images: Sequence[Luma]) -> list[float]:
    """Return the power in bands of frequency, in dB relative to the lowest band."""
    window = np.outer(np.hanning(SPECTRUM_PX), np.hanning(SPECTRUM_PX))
    step = np.fft.fftfreq(SPECTRUM_PX)
    radius = np.hypot(step[:, None], step)
    power = np.zeros_like(radius)
    for image in images:
        spectra = [np.abs(np.fft.fft2((part - part.mean()) * window)) ** 2 for part in tiles(image)]
        power += np.sum(spectra, axis=0) / np.sum(spectra)
    powers = [power[np.abs(radius - band) < 0.02].mean() for band in BANDS]
    return [round(10 * float(np.log10(each / powers[0])), 1) for each in powers]


def tiles(image: Luma) -> Iterable[Luma]:
    """Yield the square tiles of an image."""
    side = SPECTRUM_PX
    for top in range(0, image.shape[0] - side + 1, side):
        for left in range(0, image.shape[1] - side + 1, side):
            yield image[top : top + side, left : left + side]


def noise(images: Sequence[Luma]) -> float:
    """Return the median over images of the noise in their flattest 16x16 blocks, in levels of 255.

    The noise is the standard deviation after the mask of Immerkaer (1996), which removes slopes and
    edges along the axes.
    """
    return round(float(np.median([flat_noise(image) for image in images])), 2)


def flat_noise(image: Luma) -> float:
    """Return the 1st percentile over blocks that are neither black nor white."""
    p = image
    mask = p[1:-1, 1:-1] * 4 + p[:-2, :-2] + p[2:, 2:] + p[:-2, 2:] + p[2:, :-2]
    mask = (mask - 2 * (p[1:-1, :-2] + p[1:-1, 2:] + p[:-2, 1:-1] + p[2:, 1:-1])) / 6
    blocks, means = squares(mask), squares(p[1:-1, 1:-1]).mean(axis=1)
    usable = (means > 20) & (means < 235)
    return float(np.percentile(np.sqrt((blocks[usable] ** 2).mean(axis=1)), 1))


def squares(image: np.ndarray, side: int = 16) -> np.ndarray:
    """Return the square blocks of an image, one per row."""
    height, width = (length // side * side for length in image.shape)
    cut = image[:height, :width].reshape(height // side, side, width // side, side)
    return cut.transpose(0, 2, 1, 3).reshape(-1, side * side)


if __name__ == "__main__":
    main()
