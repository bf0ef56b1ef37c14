"""Scores of one system on all pairs, one image in memory at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from d2csr.core.manifest import Manifest, Pair
from d2csr.core.results import ImageScore
from d2csr.data.pairs import load_pair
from d2csr.evaluation.systems import System, Upscaled
from d2csr.evaluation.uncertainty import ImageCalibration, calibrate
from d2csr.images.writer import write_rgb8
from d2csr.metrics.protocols import Image, round_to_8_bit, score
from d2csr.metrics.registered_psnr import register, registered_psnr_db


@dataclass(frozen=True)
class ScoringOptions:
    """What is asked of every system alike.

    Attributes:
        protocols: names of protocols.
        calibration: compare disagreement with the error as well.
        save: folder for the SR images, one folder a system in it.
        image_done: called after each image.
    """

    protocols: tuple[str, ...]
    calibration: bool = False
    save: Path | None = None
    image_done: Callable[[], None] = lambda: None


class SystemScores(NamedTuple):
    """One system's figures.

    Attributes:
        images: for each protocol, one entry a pair.
        calibrated: one entry a pair; empty where it wasn't asked for.
    """

    images: dict[str, list[ImageScore]]
    calibrated: list[ImageCalibration]


def score_system(system: System, manifest: Manifest, *, task: ScoringOptions) -> SystemScores:
    """Return the figures of one system on every pair, under every protocol.

    Raises:
        D2csrError: an image can't be read or written, or the system can't do it.
    """
    scored = SystemScores({protocol: [] for protocol in task.protocols}, [])
    folder = None if task.save is None else task.save / folder_name(system.name)
    for pair, hr, enlarged in _enlarged(system, manifest):
        figures_of = _figures(enlarged.sr, hr, name=pair.name, task=task, scale=manifest.scale)
        for protocol, figures in figures_of:
            scored.images[protocol].append(figures)
        if task.calibration and enlarged.disagreement is not None:
            guessed = calibrate(enlarged, hr, name=pair.name, border_px=manifest.scale)
            scored.calibrated.append(guessed)
        if folder is not None:
            write_rgb8(folder / f"{folder_name(pair.name)}.png", round_to_8_bit(enlarged.sr))
        task.image_done()
    return scored


def folder_name(name: str) -> str:
    """Return a name, which may be a path, without what can't be in a file name."""
    safe = "".join(letter if letter.isalnum() or letter in "-_.+" else "_" for letter in name)
    return safe.strip("._") or "model"


def _enlarged(
    system: System, manifest: Manifest
) -> Iterator[tuple[Pair, UInt8[np.ndarray, "sh sw 3"], Upscaled]]:
    """Return pair after pair with its HR and what the system made of its LR."""
    enlarge = system.open(manifest)
    for pair in manifest:
        lr, hr = load_pair(pair, scale=manifest.scale)
        yield pair, hr, enlarge(pair, lr)


def _figures(
    sr: Image, hr: UInt8[np.ndarray, "h w 3"], *, name: str, task: ScoringOptions, scale: int
) -> Iterator[tuple[str, ImageScore]]:
    """Return one image's figures under each protocol; the registration is the same for all."""
    registered = register(sr, hr)
    for protocol in task.protocols:
        psnr_db, ssim = score(sr, hr, protocol=protocol, scale=scale)
        beside = registered_psnr_db(registered, protocol=protocol)
        figures = ImageScore(name=name, psnr_db=psnr_db, ssim=ssim, psnr_registered_db=beside)
        yield protocol, figures
