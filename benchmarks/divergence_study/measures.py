"""What is measured on the results of a variant, image by image, and its means over seeds."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from d2csr.core.bundle import read_bundle
from d2csr.core.manifest import Manifest
from d2csr.data.pairs import load_pair
from d2csr.engine import open_engine
from d2csr.engine.engine import Engine
from d2csr.engine.tail import EngineOutput, disagreement
from d2csr.evaluation.bootstrap import interval95, paired_differences
from d2csr.metrics.protocols import LUMA, round_to_8_bit, score, to_channels
from d2csr.metrics.sparsification import block_means, gradient_magnitude, rank_correlation

PROTOCOL = "y"
PATCH_LR_PX = 8  # side of the patches in each of which the oracle takes the best prediction


class ImageMeasures(NamedTuple):
    """Measures of one image; None where there is a single prediction.

    Attributes:
        name: of the pair.
        psnr_db: of SR.
        oracle_gain_db: PSNR of the best prediction in each patch, minus that of SR.
        disagreement_levels: mean standard deviation of the predictions, in gray levels.
        disagreement_spearman: rank correlation of the disagreement with the squared error of SR,
            over blocks of 6x6 pixels.
        gradient_spearman: that of the gradient magnitude of SR.
    """

    name: str
    psnr_db: float
    oracle_gain_db: float | None
    disagreement_levels: float | None
    disagreement_spearman: float | None
    gradient_spearman: float


def open_bundles(bundles: Sequence[Path]) -> list[Engine]:
    """Return an engine per network of a variant."""
    return [open_engine(read_bundle(bundle)) for bundle in bundles]


def upscale(engines: Sequence[Engine], lr: UInt8[np.ndarray, "h w 3"]) -> EngineOutput:
    """Return the output of one network, or the average of several with all their predictions."""
    outputs = [engine.run(lr.astype(np.float32) / np.float32(255)) for engine in engines]
    if len(outputs) == 1:
        return outputs[0]
    return EngineOutput(
        sr=np.stack([each.sr for each in outputs]).mean(axis=0),
        predictions=np.concatenate([each.predictions for each in outputs]),
        weights=np.concatenate([each.weights for each in outputs]) / np.float32(len(outputs)),
    )


def measure(engines: Sequence[Engine], sets: Sequence[Manifest]) -> Iterator[ImageMeasures]:
    """Yield the measures of every pair of the sets."""
    for manifest in sets:
        for pair in manifest:
            lr, hr = load_pair(pair, scale=manifest.scale)
            yield measure_image(upscale(engines, lr), hr, name=pair.name, scale=manifest.scale)


def measure_image(
    output: EngineOutput, hr: UInt8[np.ndarray, "h w 3"], *, name: str, scale: int
) -> ImageMeasures:
    """Return the measures of one image; `scale` pixels are cut from each side."""
    psnr_db = score(output.sr, hr, protocol=PROTOCOL, scale=scale).psnr_db
    inside = np.s_[scale:-scale, scale:-scale]
    sr255 = round_to_8_bit(output.sr).astype(np.float64)
    error = block_means(np.square(sr255 - hr).mean(axis=2)[inside])
    gradient = gradient_magnitude(to_channels(sr255, LUMA, offset=0.0)[0])
    gradient_spearman = rank_correlation(block_means(gradient[inside]), error)
    if len(output.predictions) == 1:
        return ImageMeasures(name, psnr_db, None, None, None, gradient_spearman)
    best = best_patches(output.predictions, hr, side_px=PATCH_LR_PX * scale)
    spread = disagreement(output).astype(np.float64)
    return ImageMeasures(
        name,
        psnr_db,
        oracle_gain_db=score(best, hr, protocol=PROTOCOL, scale=scale).psnr_db - psnr_db,
        disagreement_levels=float(spread.mean()),
        disagreement_spearman=rank_correlation(block_means(spread[inside]), error),
        gradient_spearman=gradient_spearman,
    )


def best_patches(
    predictions: Float[np.ndarray, "p h w 3"], hr: UInt8[np.ndarray, "h w 3"], *, side_px: int
) -> Float[np.ndarray, "h w 3"]:
    """Return the image whose every patch is from the prediction nearest to HR there, on luma."""
    truth = to_channels(hr.astype(np.float64), LUMA, offset=0.0)[0]
    best = np.empty_like(predictions[0])
    luma = [to_channels(each.astype(np.float64) * 255, LUMA, offset=0.0)[0] for each in predictions]
    errors = np.square(np.stack(luma) - truth)
    for top in range(0, hr.shape[0], side_px):
        for left in range(0, hr.shape[1], side_px):
            patch = np.s_[top : top + side_px, left : left + side_px]
            nearest = errors[:, *patch].sum(axis=(1, 2)).argmin()
            best[patch] = predictions[nearest][patch]
    return best


def summarize(runs: Mapping[int, Sequence[ImageMeasures]]) -> dict[str, float | None]:
    """Return the mean of every measure over images and seeds; `seeds_psnr_db`: least and most.

    Args:
        runs: seed -> measures of all images.
    """
    rows = [image for images in runs.values() for image in images]
    means: dict[str, float | None] = {}
    for index, name in enumerate(ImageMeasures._fields[1:], start=1):
        values = [row[index] for row in rows]
        known = [float(value) for value in values if value is not None]
        means[name] = float(np.mean(known)) if known else None
    by_seed = [float(np.mean([image.psnr_db for image in images])) for images in runs.values()]
    return means | {"least_psnr_db": min(by_seed), "most_psnr_db": max(by_seed)}


def compare(
    first: Mapping[int, Sequence[ImageMeasures]], second: Mapping[int, Sequence[ImageMeasures]]
) -> dict[str, object] | None:
    """Return `first - second` in PSNR, paired over images, each image's mean over the seeds.

    Only seeds that both have count; None if there are none.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    ours, theirs = (
        np.mean([[image.psnr_db for image in runs[seed]] for seed in seeds], axis=0)
        for runs in (first, second)
    )
    differences = paired_differences(ours, theirs)
    return {
        "seeds": seeds,
        "diff_psnr_db": float(differences.mean()),
        "interval95": interval95(differences),
    }
