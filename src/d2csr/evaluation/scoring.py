"""Scores of one system on all pairs, with one image in memory at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from d2csr.core.manifest import Manifest
from d2csr.core.results import BrightnessShift, ImageScore
from d2csr.data.pairs import load_pair
from d2csr.evaluation.systems import System
from d2csr.evaluation.uncertainty import ImageCalibration, calibrate
from d2csr.images.resize import enlarge_bicubic
from d2csr.images.writer import write_rgb8
from d2csr.metrics.brightness import brightness_shift
from d2csr.metrics.protocols import Image, round_to_8_bit, score
from d2csr.metrics.registered_psnr import register, registered_psnr_db


@dataclass(frozen=True)
class ScoringOptions:
    """Options that apply to every system of an evaluation.

    Attributes:
        protocols: names of protocols.
        calibration: also compare the predictors of the error with the true one.
        save: folder for the SR images, with one subfolder per system.
        skip_registration: leave out PSNR after registration.
        on_image: called after each image.
    """

    protocols: tuple[str, ...]
    calibration: bool = False
    save: Path | None = None
    skip_registration: bool = False
    on_image: Callable[[], None] = lambda: None


class SystemScores(NamedTuple):
    """Scores of one system.

    Attributes:
        images: for each protocol, one score per pair.
        calibration: one entry per pair; empty if it wasn't requested or the system has no
            predictor of its error.
    """

    images: dict[str, list[ImageScore]]
    calibration: list[ImageCalibration]


def score_system(system: System, manifest: Manifest, *, options: ScoringOptions) -> SystemScores:
    """Return the scores of one system on every pair under every protocol.

    Raises:
        D2csrError: an image can't be read or written, or the system can't upscale it.
    """
    scores = SystemScores({protocol: [] for protocol in options.protocols}, [])
    folder = None if options.save is None else options.save / safe_name(system.name)
    upscale = system.open(manifest)
    for pair in manifest:
        lr, hr = load_pair(pair, scale=manifest.scale)
        upscaled = upscale(pair, lr)
        image_scores = _image_scores(
            upscaled.sr,
            hr,
            name=pair.name,
            options=options,
            scale=manifest.scale,
            shift=_brightness_shift(upscaled.sr, lr, scale=manifest.scale),
        )
        for protocol, image_score in image_scores:
            scores.images[protocol].append(image_score)
        if options.calibration and system.predicts_error:
            scores.calibration.append(
                calibrate(upscaled, hr, name=pair.name, border_px=manifest.scale)
            )
        if folder is not None:
            write_rgb8(folder / f"{safe_name(pair.name)}.png", round_to_8_bit(upscaled.sr))
        options.on_image()
    return scores


def safe_name(name: str) -> str:
    """Return a name, which may be a path, with characters replaced that a file name can't have."""
    safe = "".join(letter if letter.isalnum() or letter in "-_.+" else "_" for letter in name)
    return safe.strip("._") or "model"


def _image_scores(
    sr: Image,
    hr: UInt8[np.ndarray, "h w 3"],
    *,
    name: str,
    options: ScoringOptions,
    scale: int,
    shift: BrightnessShift | None,
) -> Iterator[tuple[str, ImageScore]]:
    """Yield one image's score under each protocol; registration and shift are shared by all."""
    registered = None if options.skip_registration else register(sr, hr)
    for protocol in options.protocols:
        psnr_db, ssim = score(sr, hr, protocol=protocol, scale=scale)
        yield (
            protocol,
            ImageScore(
                name=name,
                psnr_db=psnr_db,
                ssim=ssim,
                psnr_registered_db=None
                if registered is None
                else registered_psnr_db(registered, protocol=protocol),
                brightness_shift=shift,
            ),
        )


def _brightness_shift(
    sr: Image, lr: UInt8[np.ndarray, "lr_h lr_w 3"], *, scale: int
) -> BrightnessShift | None:
    """Return the shift of one image from the bicubic enlargement of its LR image."""
    shift = brightness_shift(round_to_8_bit(sr), enlarge_bicubic(lr, scale))
    return None if shift is None else BrightnessShift(p50=shift.p50, p95=shift.p95)
