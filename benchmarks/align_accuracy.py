"""How exactly `d2csr align` recovers the grid, beside what people do now; stored as JSON.

    python benchmarks/align_accuracy.py --pairs 15 --large 1 --wrong 40 --city100 DIR -o FILE.json

Simulated pairs have a known truth. On City100's pairs, moved by a known homography and brightness
change, the movement is the truth; and what displacement the published pairs have, and have left
after a second registration, is measured by phase correlation, which this tool does not register by.
"""

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np

from d2csr import __version__
from d2csr.align.crop import covered_region
from d2csr.align.mapping import Mapping
from d2csr.align.photo import Photo, read_couple
from d2csr.align.reduced import gray01
from d2csr.align.refine import ROUNDS, Switches, refine
from d2csr.align.rejection import Rejection
from d2csr.align.rough import register_roughly
from d2csr.align.steps import Settings, align, register
from d2csr.align.trust import refuse_untrustworthy
from d2csr.core.grid import Size
from d2csr.simulate.run import Job, simulate
from d2csr.simulate.sources import Procedural
from d2csr.simulate.truth import Truth, read_truth

SCALES = (2, 3, 4, 8)
SMALL, LARGE = Size(2700, 1800), Size(9000, 6000)  # scenes of about 2 and 20 MP tele frames
Grays = tuple[np.ndarray, np.ndarray]


def rough_mapping(grays: Grays, scale: int) -> Mapping:
    """Return SIFT and a homography, once."""
    matrix = register_roughly(*grays, scale=scale).matrix
    return Mapping(scale, *sizes(grays), matrix)


def sizes(grays: Grays) -> tuple[Size, Size]:
    """Return the sizes of both pictures."""
    wide, tele = grays
    return Size(wide.shape[1], wide.shape[0]), Size(tele.shape[1], tele.shape[0])


def plain_sift(grays: Grays, scale: int) -> Mapping:
    """Return what people do now: SIFT on both pictures as they are, a homography by RANSAC."""
    finder = cv2.SIFT.create(nfeatures=8000)
    found = [finder.detectAndCompute((gray * 255).astype(np.uint8), None) for gray in grays]
    (wide, of_wide), (tele, of_tele) = found
    near = cv2.BFMatcher().knnMatch(of_tele, of_wide, k=2)
    good = [a for a, b in near if a.distance < 0.75 * b.distance]
    start = (np.array([wide[match.trainIdx].pt for match in good]) + 0.5) * scale - 0.5
    goal = np.array([tele[match.queryIdx].pt for match in good])
    matrix, _ = cv2.findHomography(start, goal, cv2.RANSAC, 3.0)
    return Mapping(scale, *sizes(grays), matrix)


def ecc_alone(grays: Grays, scale: int) -> Mapping:
    """Return OpenCV's ECC from the nominal zoom: the tele picture reduced, laid on the centre."""
    wide, tele = grays
    small = cv2.resize(tele, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
    corner = (np.array(wide.shape[::-1]) - small.shape[::-1]) / 2
    start = np.array([[1, 0, corner[0]], [0, 1, corner[1]], [0, 0, 1]], np.float32)
    steps = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 200, 1e-6)
    _, matrix = cv2.findTransformECC(
        small, wide, start, cv2.MOTION_HOMOGRAPHY, steps, np.full(small.shape, 255, np.uint8), 5
    )
    middle = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1]])
    full = middle @ np.linalg.inv(matrix.astype(np.float64)) @ np.linalg.inv(middle)
    return Mapping(scale, *sizes(grays), full / full[2, 2])


def this_tool(switches: Switches) -> Callable[[Grays, int], Mapping]:
    """Return this tool's registration with parts left out."""

    def registered(grays: Grays, scale: int) -> Mapping:
        return refine(*grays, mapping=rough_mapping(grays, scale), switches=switches).mapping

    return registered


METHODS: dict[str, Callable[[Grays, int], Mapping]] = {
    "d2csr align": this_tool(Switches()),
    "matrix alone, no lenses, no mesh": this_tool(Switches(radial=False, mesh=False)),
    "without HR blur": this_tool(Switches(blur=False)),
    "without brightness matching": this_tool(Switches(tone=False)),
    "without iteration": this_tool(Switches(rounds=ROUNDS[-1:])),
    "SIFT + homography once": plain_sift,
    "ECC alone": ecc_alone,
}


def errors_px(mapping: Mapping, truth: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """Return RMS and 95th percentile of the grid's error, HR pixels, where both frames show."""
    region = covered_region(mapping, margin_px=5.0).shrunk(2, 2).times(mapping.scale)
    x = np.linspace(region.left, region.right - 1, 60)
    y = np.linspace(region.top, region.bottom - 1, 40)
    apart = mapping.on_grid(x, y) - truth(np.stack(np.meshgrid(x, y), -1))
    error = np.hypot(*np.moveaxis(apart, -1, 0)) / mapping.tele_px_per_px
    return {
        "rms_px": float(np.sqrt((error**2).mean())),
        "p95_px": float(np.percentile(error, 95)),
    }


def compared(grays: Grays, scale: int, *, truth: Callable[[np.ndarray], np.ndarray]) -> dict:
    """Return each method's error, or why it has none."""
    rows: dict[str, dict] = {}
    for name, method in METHODS.items():
        start = time.perf_counter()
        try:
            rows[name] = errors_px(method(grays, scale), truth)
        except (Rejection, cv2.error, np.linalg.LinAlgError, ValueError) as fault:
            rows[name] = {"failed": str(fault)[:200]}
        rows[name]["seconds"] = time.perf_counter() - start
    return rows


def simulated(folder: Path, *, pairs: int, large: int) -> list[tuple[int, Path, Truth]]:
    """Return captures of seeded scenes, `pairs` small and `large` large ones for each scale."""
    found = []
    for scale in SCALES:
        for size, count in ((SMALL, pairs), (LARGE, large)):
            if count:
                scenes = [Procedural(size, (scale, number)) for number in range(count)]
                out = folder / f"x{scale}_{size.width}"
                job = Job(scale=scale, captures=True, seed=scale, jobs=os.cpu_count() or 1)
                simulate(scenes, out, job=job)
                found += [(scale, out, truth) for truth in read_truth(out)]
    return found


def good_row(scale: int, folder: Path, *, truth: Truth) -> dict:
    """Return the verdict on a good pair and every method's error."""
    couple = read_couple(folder / truth.wide_file, folder / truth.tele_file)
    start = time.perf_counter()
    row = {"scale": scale, "tele": list(truth.tele.size), **verdict(couple, scale)}
    row["seconds"] = time.perf_counter() - start
    grays = gray01(couple[0].pixels), gray01(couple[1].pixels)
    return row | {"methods": compared(grays, scale, truth=truth.tele_position)}


def verdict(couple: tuple[Photo, Photo], scale: int) -> dict:
    """Return whether a pair is accepted, and its scores."""
    try:
        registered = register(*couple, settings=Settings(scale))
    except Rejection as rejection:
        return {"accepted": False, "reason": rejection.reason}
    scores = {"scores": registered.scores.as_json()}
    try:
        refuse_untrustworthy(registered.scores, scale=scale)
    except Rejection as rejection:
        return {"accepted": False, "reason": rejection.reason, **scores}
    return {"accepted": True, **scores}


def wrong_rows(good: list[tuple[int, Path, Truth]], count: int) -> list[dict]:
    """Return verdicts on wrong pairs: two scenes, mirrored, upside down, a blank wall."""
    rng = np.random.default_rng(0)
    rows: list[dict] = []
    for number in range(count):
        scale, folder, truth = good[int(rng.integers(len(good)))]
        wide, tele = read_couple(folder / truth.wide_file, folder / truth.tele_file)
        kind = ("two scenes", "mirrored", "flipped", "blank")[number % 4]
        pixels = tele.pixels
        if kind == "two scenes":
            others = [each for each in good if each[2] is not truth]
            _, place, other = others[int(rng.integers(len(others)))]
            pixels = read_couple(place / other.tele_file, place / other.tele_file)[0].pixels
        elif kind == "blank":
            noise = rng.normal(140, 4, pixels.shape).clip(0, 255)
            pixels = cv2.GaussianBlur(noise.astype(np.uint8), (0, 0), 1.0)
        else:
            pixels = np.ascontiguousarray(pixels[:, ::-1] if kind == "mirrored" else pixels[::-1])
        wrong = Photo(tele.path, pixels, tele.facts)
        rows.append({"kind": kind, "scale": scale, **verdict((wide, wrong), scale)})
    return rows


def moved_row(lr: Path, rng: np.random.Generator) -> dict:
    """Return the error on a City100 pair whose HR picture was moved and darkened.

    The truth is this tool's own registration of the published pair, moved: what is measured is how
    far the movement is recovered, not how well the published pair was registered.
    """
    wide, tele = read_couple(lr, lr.with_name(lr.name.replace("_LR3", "_HR")))
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

    return {"pair": lr.name, **errors_px(after, truth)}


PATCH_PX = 64


def displacement_px(lr: np.ndarray, hr: np.ndarray, *, scale: int) -> dict[str, float]:
    """Return what displacement is left between LR and HR, by phase correlation on 64-px patches.

    Phases below LR's Nyquist frequency only. `patch_*` has each patch's own noise in it. `common`
    has not: it is the root of the mean product of each patch's displacement with the mean of its
    four neighbours', which share no pixel with it: noise of LR (grain, aliasing) cancels.
    """
    enlarged = cv2.resize(gray01(lr), hr.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    field = phase_field(enlarged, gray01(hr), scale=scale)
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
        middle, reach, step = np.zeros(2), 2.0, 0.25
        quality = 0.0
        for _ in range(5):  # a grid of shifts about the best one, each finer than the last
            shifts = np.arange(-reach, reach + step / 2, step)
            x, y = middle[0] + shifts, middle[1] + shifts
            peak = (np.exp(2j * np.pi * np.outer(y, ky)) * cross) @ np.exp(
                2j * np.pi * np.outer(x, kx)
            ).T
            best = np.unravel_index(np.argmax(peak.real), peak.shape)
            middle, quality = np.array([x[best[1]], y[best[0]]]), peak.real[best] / len(kx)
            reach, step = step, step / 4
        if quality > 0.3:
            field[row, column] = -middle
    return field


def registered_again_row(lr: Path, rng: np.random.Generator) -> dict:
    """Return what displacement a City100 pair has as published, registered again, and by chance."""
    wide, tele = read_couple(lr, lr.with_name(lr.name.replace("_LR3", "_HR")))
    pair = align(wide, tele, settings=Settings(3))
    region = pair.registered.region
    published = tele.pixels[region.times(3).slices]
    blurred = cv2.GaussianBlur(pair.hr.astype(np.float32), (0, 0), 0.45 * 3)[1::3, 1::3]
    perfect = np.rint((blurred + rng.normal(0, 2, blurred.shape)).clip(0, 255)).astype(np.uint8)
    return {
        "pair": lr.name,
        "published": displacement_px(pair.lr, published, scale=3),
        "again": displacement_px(pair.lr, pair.hr, scale=3),
        "floor": displacement_px(perfect, pair.hr, scale=3),
    }


def summary(rows: list[dict]) -> dict:
    """Return medians by scale and method over accepted pairs."""
    result: dict[str, dict] = {}
    for scale in SCALES:
        of_scale = [row for row in rows if row["scale"] == scale]
        accepted = [row for row in of_scale if row["accepted"]]
        result[f"x{scale}"] = {"pairs": len(of_scale), "accepted": len(accepted)}
        for name in METHODS:
            found = [row["methods"][name] for row in accepted if "rms_px" in row["methods"][name]]
            if found:
                result[f"x{scale}"][name] = {
                    "median_rms_px": float(np.median([each["rms_px"] for each in found])),
                    "p95_rms_px": float(np.percentile([each["rms_px"] for each in found], 95)),
                    "median_p95_px": float(np.median([each["p95_px"] for each in found])),
                    "failed": len(accepted) - len(found),
                }
    return result


def main() -> None:
    """Measure what is asked for, print the summary and store everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15, help="small pairs for each scale")
    parser.add_argument("--large", type=int, default=0, help="20-megapixel pairs for each scale")
    parser.add_argument("--wrong", type=int, default=40)
    parser.add_argument("--city100", type=Path, help="folder of NAME_LR3 and NAME_HR pairs")
    parser.add_argument("--every", type=int, default=1, help="take each nth City100 pair")
    parser.add_argument("-o", "--out", type=Path, required=True)
    words = parser.parse_args()
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    stored: dict = {
        "date": datetime.now(UTC).date().isoformat(),
        "version": __version__,
        "machine": platform.platform(),
    }
    with tempfile.TemporaryDirectory() as folder:
        good = simulated(Path(folder), pairs=words.pairs, large=words.large)
        stored["good"] = [good_row(scale, place, truth=truth) for scale, place, truth in good]
        stored["wrong"] = wrong_rows(good, words.wrong) if good else []
    stored["summary"] = summary(stored["good"])
    stored["wrong_accepted"] = sum(row["accepted"] for row in stored["wrong"])
    if words.city100:
        pairs = sorted(words.city100.glob("*_LR3.*"))[:: words.every]
        stored["city100_moved"] = [moved_row(lr, rng) for lr in pairs]
        stored["city100_again"] = [registered_again_row(lr, rng) for lr in pairs]
        stored["city100"] = {
            "moved_median_rms_px": float(np.median([r["rms_px"] for r in stored["city100_moved"]])),
            **{
                f"{state}_{score}": float(
                    np.median([row[state][score] for row in stored["city100_again"]])
                )
                for state in ("published", "again", "floor")
                for score in ("patch_median_px", "patch_p95_px", "common_px")
            },
        }
    stored["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    words.out.write_text(json.dumps(stored, indent=1) + "\n")
    told = {name: stored.get(name) for name in ("summary", "wrong_accepted", "city100")}
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
