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
from d2csr.images.exif import (
    DATE_TIME,
    DATE_TIME_ORIGINAL,
    EXIF_VERSION,
    EXPOSURE_TIME,
    F_NUMBER,
    FOCAL_LENGTH,
    FOCAL_LENGTH_35MM,
    ISO,
    MAKE,
    MODEL,
    ORIENTATION,
    UNDEFINED,
    ExifTags,
    Tag,
    add_to_jpeg,
    ascii_tag,
    rational_tag,
    short_tag,
)  # fmt: skip
from d2csr.images.formats import PixelFormat
from d2csr.images.metadata import ImageMetadata
from d2csr.images.writer import ImageWriter, write_gray8, write_rgb8
from d2csr.simulate.camera_config import Camera, DevelopmentPart
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
        seconds = tele * order.camera.exif.seconds_between
        tags = _exif(order, both.wide, photograph=photograph, seconds=seconds)
        _write_frame(
            folder / name, photograph.take(both.scene), tags=tags, isp=order.camera.development
        )
    seen = planes_seen(both)
    write_gray8(folder / truth.planes_file, seen)
    write_gray8(folder / truth.parallax_file, parallax_mask(both, seen))
    return truth


def _write_frame(
    path: Path, rgb8: UInt8[np.ndarray, "h w 3"], *, tags: ExifTags, isp: DevelopmentPart
) -> None:
    """Write a captured frame with EXIF, in the camera's format."""
    if isp.format == "jpeg":
        write_atomically(path, add_to_jpeg(jpeg_bytes(rgb8, isp), tags))
        return
    size = Size(rgb8.shape[1], rgb8.shape[0])
    metadata = ImageMetadata(exif=tags)
    with ImageWriter(path, size=size, pixel_format=PixelFormat(), metadata=metadata) as writer:
        writer.write(rgb8)


def _exif(order: SceneJob, wide: Photograph, *, photograph: Photograph, seconds: int) -> ExifTags:
    """Return the EXIF of a frame; the exposure time follows from aperture, ISO and exposure."""
    exif = order.camera.exif
    lens = photograph.shot.lens
    apertures = (lens.f_number / wide.shot.lens.f_number) ** 2
    sensitivities = wide.exposure.iso / photograph.exposure.iso
    exposure_s = order.camera.exposure.exposure_s * 2**photograph.exposure.stops
    taken = datetime.strptime(exif.start, _CLOCK) + timedelta(minutes=order.number, seconds=seconds)
    date_time = ascii_tag(taken.strftime(_CLOCK))
    return ExifTags(
        main={
            MAKE: ascii_tag(exif.make),
            MODEL: ascii_tag(exif.model),
            ORIENTATION: short_tag(1),
            DATE_TIME: date_time,
        },
        exif={
            EXPOSURE_TIME: rational_tag(
                exposure_s * apertures * sensitivities, denominator=100_000
            ),
            F_NUMBER: rational_tag(round(lens.f_number, 1), denominator=10),
            ISO: short_tag(round(photograph.exposure.iso)),
            EXIF_VERSION: Tag(UNDEFINED, b"0232"),
            DATE_TIME_ORIGINAL: date_time,
            FOCAL_LENGTH: rational_tag(round(lens.focal_mm, 1), denominator=10),
            FOCAL_LENGTH_35MM: short_tag(round(lens.focal_mm * exif.crop_factor)),
        },
    )
