"""Captures: whole wide and tele frames as a camera saves them, and the masks of the truth."""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from d2csr.core.files import write_atomically
from d2csr.images.write import write_gray8
from d2csr.simulate.develop import jpeg_bytes
from d2csr.simulate.exif import Facts, jpeg_with_exif, png_with_exif, tiff_with_exif
from d2csr.simulate.pairs import Order
from d2csr.simulate.shots import Photograph, couple
from d2csr.simulate.truth import Truth, parallax_mask, planes_seen, truth_of

SUFFIXES = {"jpeg": ".jpg", "png": ".png", "tiff": ".tif"}
_CLOCK = "%Y:%m:%d %H:%M:%S"


def make_capture(order: Order, folder: Path) -> Truth:
    """Write both frames and the masks; return the truth about them."""
    fields = min(order.camera.scene.wide_fields, order.scale)
    both = couple(
        order.source.picture(), order.camera, scale=order.scale, fields=fields, seed=order.seed
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


def _encoded(rgb8: UInt8[np.ndarray, "h w 3"], facts: Facts, *, order: Order) -> bytes:
    settings = order.camera.development
    if settings.format == "png":
        return png_with_exif(rgb8, facts)
    if settings.format == "tiff":
        return tiff_with_exif(rgb8, facts)
    return jpeg_with_exif(jpeg_bytes(rgb8, settings), facts)


def _facts(order: Order, wide: Photograph, *, photograph: Photograph, seconds: int) -> Facts:
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
