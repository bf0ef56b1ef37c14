"""Outputs: training pairs, registered and color-matched, and captured frames with EXIF and truth.

Color matching brings the tele image to the wide one's brightness and color, as registration does.
Both are exposed alike, but blurred detail becomes brighter in sRGB, because light is averaged
before the tone curve: by 1 to 4% in dense texture, which a network would learn as a tone change.
"""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

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
from d2csr.simulate.camera_config import CameraConfig, IspConfig
from d2csr.simulate.ground_truth import (
    GroundTruth,
    build_truth,
    parallax_mask,
    sampled_parameters,
    visibility_mask,
    visible_planes,
)
from d2csr.simulate.isp import compress_jpeg, encode_jpeg
from d2csr.simulate.photographs import Photograph, plan_pair
from d2csr.simulate.presets import Kind
from d2csr.simulate.scene import Source
from d2csr.simulate.web import WebConfig, cut_hr, draw_history, make_lr

_BLOCK_PX = 8  # on the LR grid; means of blocks hardly depend on sharpness
_UNCLIPPED = (5.0, 245.0)  # means outside are left out of the fit


def match_color(
    hr: UInt8[np.ndarray, "sh sw 3"], lr: UInt8[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "sh sw 3"]:
    """Return HR with each channel mapped linearly so that its block means fit LR's best.

    A channel with fewer than two tones between black and white is shifted by a constant, if at all.
    """
    scale = len(hr) // len(lr)
    result = np.empty_like(hr)
    for channel in range(3):
        x = _block_means(hr[..., channel], _BLOCK_PX * scale)
        y = _block_means(lr[..., channel], _BLOCK_PX)
        low, high = _UNCLIPPED
        is_used = (low < x) & (x < high) & (low < y) & (y < high)
        slope, offset = _fit_line(x[is_used], y[is_used])
        matched = hr[..., channel] * np.float32(slope) + np.float32(offset)
        result[..., channel] = np.clip(np.rint(matched), 0, 255)
    return result


def _block_means(channel: UInt8[np.ndarray, "h w"], side: int) -> Float64[np.ndarray, " n"]:
    height, width = (max(length // side, 1) for length in channel.shape)
    tall, wide = (min(side, length) for length in channel.shape)
    cut = channel[: height * tall, : width * wide].astype(np.float64)
    return cut.reshape(height, tall, width, wide).mean(axis=(1, 3)).ravel()


def _fit_line(x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " n"]) -> tuple[float, float]:
    """Return slope and offset of the least-squares line from x to y."""
    if not len(x):
        return 1.0, 0.0
    spread = float(x.var())
    slope = float(((x - x.mean()) * (y - y.mean())).mean()) / spread if spread > 1 else 1.0
    return slope, float(y.mean() - slope * x.mean())


@dataclass(frozen=True)
class SceneJob:
    """One scene to photograph.

    Attributes:
        source: a photo, or a procedural scene.
        name: of its files.
        split: train, val or test.
        scale: tele focal length divided by wide focal length.
        kind: the camera that photographs it, or the kind of web image made of it.
        seed: numbers that determine every random value.
        index: among all scenes, from 0; it decides the time in EXIF.
    """

    source: Source
    name: str
    split: str
    scale: int
    kind: Kind
    seed: tuple[int, ...]
    index: int

    @property
    def camera(self) -> CameraConfig:
        """Return the camera; only kinds that are one have captures."""
        if not isinstance(self.kind, CameraConfig):
            raise TypeError(f"{self.kind.name} is not a camera")
        return self.kind


def kind_name(kind: Kind) -> str:
    """Return the name of a camera or of a kind of web image."""
    return kind.name if isinstance(kind, WebConfig) else kind.exif.model


def make_pair(job: SceneJob, folder: Path) -> Pair:
    """Write `SPLIT/NAME_HR.png` and `SPLIT/NAME_LRs.png`; return the manifest's entry."""
    photo = job.source.load()
    make = _make_web_images if isinstance(job.kind, WebConfig) else _photograph
    lr, hr, drawn = make(photo, job)
    lr_path = folder / job.split / f"{job.name}_LR{job.scale}.png"
    hr_path = folder / job.split / f"{job.name}_HR.png"
    write_rgb8(lr_path, lr)
    write_rgb8(hr_path, hr)
    return Pair(
        job.name,
        job.split,
        lr_path,
        hr_path,
        Size(lr.shape[1], lr.shape[0]),
        Size(hr.shape[1], hr.shape[0]),
        transform={"simulated_from": job.source.name, **drawn},
        camera=kind_name(job.kind),
    )


Images = tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "sh sw 3"], dict[str, Any]]


def _photograph(photo: UInt8[np.ndarray, "ph pw 3"], job: SceneJob) -> Images:
    """Return LR and HR as the camera takes them, and everything that was drawn."""
    pair = plan_pair(photo, job.camera, scale=job.scale, fields=1.0, seed=job.seed)
    wide, registered = pair.wide, pair.registered
    lr = compress_jpeg(wide.take(pair.scene), wide.isp.config)
    hr = compress_jpeg(match_color(registered.take(pair.scene), lr), registered.isp.config)
    drawn = {
        "view": wide.shot.view.to_json(),
        "planes_m": [plane.distance_m for plane in pair.scene.planes],
        "wide": sampled_parameters(wide),
        "tele": sampled_parameters(pair.tele),
        "hr": sampled_parameters(registered),
    }
    return lr, hr, drawn


def _make_web_images(photo: UInt8[np.ndarray, "ph pw 3"], job: SceneJob) -> Images:
    """Return a part of the photo as HR, LR with its history, and everything that was drawn."""
    if not isinstance(job.kind, WebConfig):
        raise TypeError(f"{kind_name(job.kind)} is a camera")
    rng = np.random.default_rng(job.seed)
    history = draw_history(job.kind, rng)
    hr, corner = cut_hr(photo, job.kind, history=history, scale=job.scale, rng=rng)
    return make_lr(hr, history, scale=job.scale), hr, {**asdict(history), "corner_px": corner}


_SUFFIXES = {"jpeg": ".jpg", "png": ".png", "tiff": ".tif"}
_TIME_FORMAT = "%Y:%m:%d %H:%M:%S"


def make_capture(job: SceneJob, folder: Path) -> GroundTruth:
    """Write both frames and the masks; return their ground truth."""
    photo = job.source.load()
    fields = min(job.camera.scene.wide_fields, job.scale)
    pair = plan_pair(photo, job.camera, scale=job.scale, fields=fields, seed=job.seed)
    truth = build_truth(pair, job.name, suffix=_SUFFIXES[job.camera.isp.format])
    start = datetime.strptime(job.camera.exif.start_time, _TIME_FORMAT)
    time = start + timedelta(minutes=job.index)
    frames = (
        (truth.wide_file, pair.wide, time),
        (truth.tele_file, pair.tele, time + timedelta(seconds=job.camera.exif.seconds_between)),
    )
    for name, photograph, taken in frames:
        tags = _exif(job.camera, photograph, wide=pair.wide, taken=taken)
        rgb8 = photograph.take(pair.scene)
        isp = photograph.isp.config.model_copy(update={"format": job.camera.isp.format})
        _write_frame(folder / name, rgb8, tags=tags, isp=isp)
    visible = visible_planes(pair)
    write_gray8(folder / truth.planes_file, visible)
    write_gray8(folder / truth.parallax_file, parallax_mask(pair, visible))
    write_gray8(folder / truth.visible_file, visibility_mask(pair, visible))
    return truth


def _write_frame(
    path: Path, rgb8: UInt8[np.ndarray, "h w 3"], *, tags: ExifTags, isp: IspConfig
) -> None:
    """Write a captured frame with EXIF, in the camera's format."""
    if isp.format == "jpeg":
        write_atomically(path, add_to_jpeg(encode_jpeg(rgb8, isp), tags))
        return
    size = Size(rgb8.shape[1], rgb8.shape[0])
    metadata = ImageMetadata(exif=tags)
    with ImageWriter(path, size=size, pixel_format=PixelFormat(), metadata=metadata) as writer:
        writer.write(rgb8)


def _exif(
    camera: CameraConfig, photograph: Photograph, *, wide: Photograph, taken: datetime
) -> ExifTags:
    """Return the EXIF of a frame; the exposure time follows from aperture, ISO and exposure."""
    lens, exposure = photograph.shot.lens, photograph.exposure
    apertures = (lens.f_number / wide.shot.lens.f_number) ** 2
    sensitivities = wide.exposure.iso / exposure.iso
    time_s = camera.exposure.time_s * 2**exposure.stops * apertures * sensitivities
    date_time = ascii_tag(taken.strftime(_TIME_FORMAT))
    return ExifTags(
        main={
            MAKE: ascii_tag(camera.exif.make),
            MODEL: ascii_tag(camera.exif.model),
            ORIENTATION: short_tag(1),
            DATE_TIME: date_time,
        },
        exif={
            EXPOSURE_TIME: rational_tag(time_s, denominator=100_000),
            F_NUMBER: rational_tag(round(lens.f_number, 1), denominator=10),
            ISO: short_tag(round(exposure.iso)),
            EXIF_VERSION: Tag(UNDEFINED, b"0232"),
            DATE_TIME_ORIGINAL: date_time,
            FOCAL_LENGTH: rational_tag(round(lens.focal_mm, 1), denominator=10),
            FOCAL_LENGTH_35MM: short_tag(round(lens.focal_mm * camera.exif.crop_factor)),
        },
    )
