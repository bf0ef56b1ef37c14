"""Displacement left in City100's pairs by `d2csr align`, measured by another estimator.

    d2csr align PAIRS/ -o SET/ --scale 3 --val 0 --test 0       # PAIRS has NAME_lr and NAME_hr
    python benchmarks/align_city100.py PUBLISHED/ SET/ -o benchmarks/results/align_city100-DATE.json

The displacement in the published pairs, and after another registration, is measured by phase
correlation on the same 64-px patches; `d2csr align` doesn't use phase correlation. Some pairs are
also moved by a known homography and darkened, to measure how exactly the movement is recovered.
"""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np

from d2csr import __version__
from d2csr.align.photo import Photo, read_pair
from d2csr.align.registration.transform import covered_region
from d2csr.align.registration.warp import to_gray01
from d2csr.align.steps import Settings, register
from d2csr.core.manifest import Pair, read_manifest
from d2csr.images.reader import read_rgb8


def moved_row(lr: Path, rng: np.random.Generator) -> dict:
    """Return the error on a City100 pair whose HR image was moved and darkened.

    The reference is this tool's registration of the published pair, moved: the error is that of the
    recovered movement, not that of the registration of the published pair.
    """
    wide, tele = read_pair(lr, lr.with_name(lr.name.replace("_LR3", "_HR")))
    width, height = tele.size
    move = np.eye(3) + np.array([[0.01, 0.012, 0], [-0.012, -0.008, 0], [0, 0, 0]]) * rng.normal()
    move[:2, 2] = rng.uniform(-12, 12, 2)
    move[2, :2] = rng.normal(0, 4e-6, 2)
    pixels = cv2.warpPerspective(tele.pixels, move, (width, height), flags=cv2.INTER_LANCZOS4)
    pixels = np.rint(255 * 0.9 * (pixels / 255.0) ** 1.1).astype(np.uint8)
    before = register(wide, tele, settings=Settings(3)).mapping
    after = register(wide, Photo(tele.path, pixels), settings=Settings(3)).mapping

    def truth(points: np.ndarray) -> np.ndarray:
        return cv2.perspectiveTransform(before(points).reshape(1, -1, 2), move).reshape(
            points.shape
        )

    region = covered_region(after, margin_px=5.0).shrunk(2, 2).times(3)
    x = np.linspace(region.left, region.right - 1, 60)
    y = np.linspace(region.top, region.bottom - 1, 40)
    apart = after.on_grid(x, y) - truth(np.stack(np.meshgrid(x, y), -1))
    error = np.hypot(*np.moveaxis(apart, -1, 0)) / after.tele_px_per_px
    return {"pair": lr.name, "rms_px": float(np.sqrt((error**2).mean()))}


PATCH_PX = 64


def displacement_px(lr: np.ndarray, hr: np.ndarray, *, scale: int) -> dict[str, float]:
    """Return the displacement between LR and HR, by phase correlation on 64-px patches.

    Only phases below the Nyquist frequency of LR are used. `patch_*` includes the noise of each
    patch. `common` doesn't: it is the root of the mean product of each patch's displacement and the
    mean of its four neighbors', which share no pixels, so that noise of LR cancels.
    """
    enlarged = cv2.resize(to_gray01(lr), hr.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    field = phase_field(enlarged, to_gray01(hr), scale=scale)
    size = np.hypot(field[..., 0], field[..., 1])
    products = []
    for row, column in np.ndindex(*size.shape):
        near = [
            field[r, c]
            for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
            if 0 <= r < size.shape[0] and 0 <= c < size.shape[1] and np.isfinite(size[r, c])
        ]
        if near and np.isfinite(size[row, column]):
            products.append(float(field[row, column] @ np.mean(near, axis=0)))
    known = size[np.isfinite(size)]
    return {
        "patch_median_px": float(np.median(known)),
        "patch_p95_px": float(np.percentile(known, 95)),
        "common_px": float(np.sqrt(max(0.0, np.mean(products)))),
    }


def phase_field(a: np.ndarray, b: np.ndarray, *, scale: int) -> np.ndarray:
    """Return the displacement of each 64-px patch, rows x columns x (x, y); nan: none found."""
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(12) + 0.5) / 12)
    window = np.concatenate([ramp, np.ones(PATCH_PX - 24), ramp[::-1]])
    window = np.outer(window, window)
    fx, fy = np.fft.fftfreq(PATCH_PX)[None], np.fft.fftfreq(PATCH_PX)[:, None]
    used = (np.hypot(fx, fy) < 0.45 / scale) & (np.hypot(fx, fy) > 0)
    kx, ky = (np.broadcast_to(f, used.shape)[used] for f in (fx, fy))
    rows, columns = (side // PATCH_PX for side in a.shape)
    field = np.full((rows, columns, 2), np.nan)
    for row, column in np.ndindex(rows, columns):
        part = np.s_[row * PATCH_PX :, column * PATCH_PX :]
        patches = [image[part][:PATCH_PX, :PATCH_PX] for image in (a, b)]
        if patches[1].std() < 0.02:
            continue
        first, second = (np.fft.fft2((patch - patch.mean()) * window)[used] for patch in patches)
        cross = first * second.conj()
        cross /= np.abs(cross) + 1e-12
        middle, radius, step = np.zeros(2), 2.0, 0.25
        quality = 0.0
        for _ in range(5):  # a grid of shifts about the best one, each finer than the last
            shifts = np.arange(-radius, radius + step / 2, step)
            x, y = middle[0] + shifts, middle[1] + shifts
            peak = (np.exp(2j * np.pi * np.outer(y, ky)) * cross) @ np.exp(
                2j * np.pi * np.outer(x, kx)
            ).T
            best = np.unravel_index(np.argmax(peak.real), peak.shape)
            middle, quality = np.array([x[best[1]], y[best[0]]]), peak.real[best] / len(kx)
            radius, step = step, step / 4
        if quality > 0.3:
            field[row, column] = -middle
    return field


def again_row(pair: Pair, folder: Path, *, rng: np.random.Generator) -> dict:
    """Return the displacement of a pair as published, registered again, and of a perfect pair."""
    transform = pair.transform or {}
    left, top, width, height = (3 * side for side in transform["lr_region"])
    source = folder / transform["sources"][1]
    published = read_rgb8(source)[top : top + height, left : left + width]
    lr, hr = read_rgb8(pair.lr), read_rgb8(pair.hr)
    blurred = cv2.GaussianBlur(hr.astype(np.float32), (0, 0), 0.45 * 3)[1::3, 1::3]
    perfect = np.rint((blurred + rng.normal(0, 2, blurred.shape)).clip(0, 255)).astype(np.uint8)
    return {
        "pair": source.name,
        "published": displacement_px(lr, published, scale=3),
        "again": displacement_px(lr, hr, scale=3),
        "floor": displacement_px(perfect, hr, scale=3),
    }


def main() -> None:
    """Measure every pair of the set, and some moved ones; print medians and store everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("published", type=Path)
    parser.add_argument("registered", type=Path)
    parser.add_argument("--moved", type=int, default=10, help="pairs to move")
    parser.add_argument("--output", "-o", type=Path, required=True)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    pairs = read_manifest(arguments.registered / "manifest.json").pairs
    again = [again_row(pair, arguments.published, rng=rng) for pair in pairs]
    names = sorted(arguments.published.glob("*_LR3.*"))
    moved = [moved_row(lr, rng) for lr in names[:: max(1, len(names) // arguments.moved)]]
    summary = {
        f"{state}_{score}": float(np.median([row[state][score] for row in again]))
        for state in ("published", "again", "floor")
        for score in ("patch_median_px", "patch_p95_px", "common_px")
    }
    ratios = [
        row["again"]["common_px"] / row["published"]["common_px"]
        for row in again
        if row["published"]["common_px"] > 0
    ]
    summary |= {
        "median_ratio": float(np.median(ratios)),
        "moved_median_rms_px": float(np.median([row["rms_px"] for row in moved])),
        "moved_p95_rms_px": float(np.percentile([row["rms_px"] for row in moved], 95)),
    }
    stored = {"date": datetime.now(UTC).date().isoformat(), "version": __version__}
    stored |= {"summary": summary, "again": again, "moved": moved}
    arguments.output.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
