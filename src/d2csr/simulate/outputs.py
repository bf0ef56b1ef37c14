"""Captures: whole wide and tele frames as a camera saves them, and the masks of the truth.

Brightness and colour of the tele image brought to the wide one's, as a registration does it.

Both are exposed alike, but detail that a lens blurs becomes brighter in sRGB, as light is averaged
before its curve; by 1 to 4% in dense texture, which a network would learn as a change of tone.

Training pairs: the wide image as it is, the tele one as perfect registration would make it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from d2csr.core.files import write_atomically
from d2csr.core.geometry import Size
from d2csr.core.manifest import Pair
from d2csr.images.exif_simulated import Facts, jpeg_with_exif, png_with_exif, tiff_with_exif
from d2csr.images.writer import write_gray8, write_rgb8
from d2csr.simulate.camera_config import Camera
from d2csr.simulate.ground_truth import (
    GroundTruth,
    parallax_mask,
    planes_seen,
    sampled_parameters,
    truth_of,
)
from d2csr.simulate.isp import jpeg_bytes, through_jpeg
from d2csr.simulate.photographs import Photograph, plan_pair
from d2csr.simulate.scene import Source

BLOCK_PX = 8  # of the LR grid; their means hardly depend on sharpness
CLIPPED = (5.0, 245.0)  # means beyond say nothing of the line


def match_color(
    hr: UInt8[np.ndarray, "sh sw 3"], lr: UInt8[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "sh sw 3"]:
    """Return HR, each channel along the straight line that brings its blocks nearest to LR's.

    A channel without at least two tones between black and white is moved by a constant, if at all.
    """
    scale = len(hr) // len(lr)
    result = np.empty_like(hr)
    for channel in range(3):
        x = _block_means(hr[..., channel], BLOCK_PX * scale)
        y = _block_means(lr[..., channel], BLOCK_PX)
        usable = (CLIPPED[0] < x) & (x < CLIPPED[1]) & (CLIPPED[0] < y) & (y < CLIPPED[1])
        slope, start = _line(x[usable], y[usable])
        moved = hr[..., channel] * np.float32(slope) + np.float32(start)
        result[..., channel] = np.clip(np.rint(moved), 0, 255)
    return result


def _block_means(channel: UInt8[np.ndarray, "h w"], side: int) -> Float64[np.ndarray, " n"]:
    height, width = (max(length // side, 1) for length in channel.shape)
    tall, wide = (min(side, length) for length in channel.shape)
    cut = channel[: height * tall, : width * wide].astype(np.float64)
    return cut.reshape(height, tall, width, wide).mean(axis=(1, 3)).ravel()


def _line(x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " n"]) -> tuple[float, float]:
    """Return slope and start of the least-squares line from x to y."""
    if not len(x):
        return 1.0, 0.0
    spread = float(x.var())
    slope = float(((x - x.mean()) * (y - y.mean())).mean()) / spread if spread > 1 else 1.0
    return slope, float(y.mean() - slope * x.mean())


@dataclass(frozen=True)
class SceneJob:
    """One scene to take: of what, what with, and every draw decided.

    Attributes:
        source: the photo, or the procedural scene.
        name: of its files.
        split: train, val or test.
        scale: tele by wide focal length.
        camera: what it is taken with.
        seed: numbers that decide every draw.
        number: its place among all, from 0.
    """

    source: Source
    name: str
    split: str
    scale: int
    camera: Camera
    seed: tuple[int, ...]
    number: int


def make_pair(order: SceneJob, folder: Path) -> Pair:
    """Write `SPLIT/NAME_HR.png` and `SPLIT/NAME_LRs.png`; return the manifest's entry."""
    both = plan_pair(
        order.source.image(), order.camera, scale=order.scale, fields=1.0, seed=order.seed
    )
    settings = order.camera.development
    lr = through_jpeg(both.wide.take(both.scene), settings)
    hr = through_jpeg(match_color(both.registered.take(both.scene), lr), settings)
    lr_path = folder / order.split / f"{order.name}_LR{order.scale}.png"
    hr_path = folder / order.split / f"{order.name}_HR.png"
    write_rgb8(lr_path, lr)
    write_rgb8(hr_path, hr)
    return Pair(
        order.name,
        order.split,
        lr_path,
        hr_path,
        Size(lr.shape[1], lr.shape[0]),
        Size(hr.shape[1], hr.shape[0]),
        transform={
            "simulated_from": order.source.name,
            "view": both.wide.shot.view.to_json(),
            "planes_m": [plane.distance_m for plane in both.scene.planes],
            "wide": sampled_parameters(both.wide),
            "tele": sampled_parameters(both.tele),
        },
        camera=order.camera.exif.model,
    )


SUFFIXES = {"jpeg": ".jpg", "png": ".png", "tiff": ".tif"}
_CLOCK = "%Y:%m:%d %H:%M:%S"


def make_capture(order: SceneJob, folder: Path) -> GroundTruth:
    """Write both frames and the masks; return the truth about them."""
    fields = min(order.camera.scene.wide_fields, order.scale)
    both = plan_pair(
        order.source.image(), order.camera, scale=order.scale, fields=fields, seed=order.seed
    )
    suffix = SUFFIXES[order.camera.development.format]
    truth = truth_of(both, order.name, suffix=suffix)
    for tele, name in enumerate((truth.wide_file, truth.tele_file)):
        photograph = both.tele if tele else both.wide
        facts = _facts(
            order,
            both.wide,
            photograph=photograph,
            seconds=tele * order.camera.exif.seconds_between,
        )
        contents = _encoded(photograph.take(both.scene), facts, order=order)
        write_atomically(folder / name, contents)
    seen = planes_seen(both)
    write_gray8(folder / truth.planes_file, seen)
    write_gray8(folder / truth.parallax_file, parallax_mask(both, seen))
    return truth


def _encoded(rgb8: UInt8[np.ndarray, "h w 3"], facts: Facts, *, order: SceneJob) -> bytes:
    settings = order.camera.development
    if settings.format == "png":
        return png_with_exif(rgb8, facts)
    if settings.format == "tiff":
        return tiff_with_exif(rgb8, facts)
    return jpeg_with_exif(jpeg_bytes(rgb8, settings), facts)


def _facts(order: SceneJob, wide: Photograph, *, photograph: Photograph, seconds: int) -> Facts:
    """Return what the camera would write; the time follows from aperture, ISO and exposure."""
    exif = order.camera.exif
    lens = photograph.shot.lens
    apertures = (lens.f_number / wide.shot.lens.f_number) ** 2
    sensitivities = wide.exposure.iso / photograph.exposure.iso
    exposure_s = order.camera.exposure.exposure_s * 2**photograph.exposure.stops
    taken = datetime.strptime(exif.start, _CLOCK) + timedelta(minutes=order.number, seconds=seconds)
    return Facts(
        make=exif.make,
        model=exif.model,
        date_time=taken.strftime(_CLOCK),
        focal_mm=lens.focal_mm,
        focal_35mm=lens.focal_mm * exif.crop_factor,
        f_number=lens.f_number,
        exposure_s=exposure_s * apertures * sensitivities,
        iso=photograph.exposure.iso,
    )
