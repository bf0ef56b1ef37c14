"""Camera information of a photograph from EXIF: focal length, time, camera and lens."""

import struct
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyvips

from d2csr.core.errors import ImageError, first_line
from d2csr.images.decode import detect_format, open_image
from d2csr.images.exif import (
    DATE_TIME,
    DATE_TIME_ORIGINAL,
    EXPOSURE_TIME,
    F_NUMBER,
    FOCAL_LENGTH,
    FOCAL_LENGTH_35MM,
    ISO,
    MAKE,
    MODEL,
    ExifTags,
    Tag,
    read_file_tags,
    read_tags,
)

MIN_RATIO = 0.8  # smallest ratio of the focal lengths, as a share of the scale

SUBJECT_DISTANCE, SUBSECOND_ORIGINAL, LENS_MODEL = 0x9206, 0x9291, 0xA434
_RAW_HEADER_BYTES = 1 << 22  # RAW files have their tags at the beginning
_TIFF_SIGNATURES = (b"II*\0", b"MM\0*")


@dataclass(frozen=True)
class CameraInfo:
    """Camera settings of a photograph; None or empty where EXIF lacks them.

    Attributes:
        focal_mm: focal length.
        focal_35mm: focal length equivalent on 35 mm film.
        taken: date and time by the clock of the camera.
        make: manufacturer of the camera.
        model: model of the camera.
        lens: model of the lens.
        f_number: aperture.
        exposure_s: exposure time.
        iso: sensitivity.
        distance_m: distance of the subject.
    """

    focal_mm: float | None = None
    focal_35mm: float | None = None
    taken: datetime | None = None
    make: str = ""
    model: str = ""
    lens: str = ""
    f_number: float | None = None
    exposure_s: float | None = None
    iso: float | None = None
    distance_m: float | None = None

    @property
    def focal(self) -> float | None:
        """Return the focal length for comparisons: the 35 mm equivalent if there is one.

        The lenses of a phone have different sensors, so that only the equivalents compare.
        """
        return self.focal_35mm or self.focal_mm


UNKNOWN_CAMERA = CameraInfo()


def focal_ratio(wide: CameraInfo, tele: CameraInfo) -> float | None:
    """Return the tele focal length divided by the wide one; None if EXIF lacks one of them."""
    if wide.focal_mm and tele.focal_mm and wide.model == tele.model:
        same_sensor = not (wide.focal_35mm and tele.focal_35mm) or (
            abs((tele.focal_35mm / tele.focal_mm) / (wide.focal_35mm / wide.focal_mm) - 1) < 0.1
        )
        if same_sensor:  # more exact than 35 mm equivalents, which are rounded to millimetres
            return tele.focal_mm / wide.focal_mm
    if wide.focal_35mm and tele.focal_35mm:
        return tele.focal_35mm / wide.focal_35mm
    return None


def read_camera_info(path: Path) -> CameraInfo:
    """Return the camera info of a photograph; empty where the file has no EXIF.

    Raises:
        ImageError: the file, or its EXIF, can't be read.
    """
    try:
        return parse_camera_info(_read_exif(path))
    except OSError as error:
        raise ImageError(path, f"can't be read ({error.strerror})", "Check the file.") from error
    except (ValueError, pyvips.Error) as error:
        problem = f"has EXIF that can't be read ({first_line(error)})"
        remedy = "Repair or replace the file, or give both photographs by name."
        raise ImageError(path, problem, remedy) from error


def parse_camera_info(tags: ExifTags) -> CameraInfo:
    """Return the camera info in EXIF tags."""
    return CameraInfo(
        focal_mm=_positive(tags.exif.get(FOCAL_LENGTH)),
        focal_35mm=_positive(tags.exif.get(FOCAL_LENGTH_35MM)),
        taken=_time(tags),
        make=_text(tags.main.get(MAKE)),
        model=_text(tags.main.get(MODEL)),
        lens=_text(tags.exif.get(LENS_MODEL)),
        f_number=_positive(tags.exif.get(F_NUMBER)),
        exposure_s=_positive(tags.exif.get(EXPOSURE_TIME)),
        iso=_positive(tags.exif.get(ISO)),
        distance_m=_positive(tags.exif.get(SUBJECT_DISTANCE)),
    )


def _read_exif(path: Path) -> ExifTags:
    with path.open("rb") as file:
        is_tiff = file.read(4) in _TIFF_SIGNATURES
    if is_tiff:
        with path.open("rb") as file:
            data = file.read(_RAW_HEADER_BYTES)
        tags = read_tags(data)
        if tags.exif or path.stat().st_size <= _RAW_HEADER_BYTES:
            return tags
        return read_file_tags(path)  # some writers put the tags after the pixels
    detect_format(path)
    image = open_image(path)
    if not image.get_typeof("exif-data"):
        return ExifTags()
    return read_tags(bytes(image.get("exif-data")).removeprefix(b"Exif\0\0"))


def _positive(tag: Tag | None) -> float | None:
    """Return the first number of a tag, or None unless it is above 0."""
    if tag is None:
        return None
    if tag.kind in (5, 10) and len(tag.data) >= 8:
        top, bottom = struct.unpack_from("<II", tag.data)
        value = top / bottom if bottom else 0.0
    elif tag.kind in (1, 3, 4):
        value = float(tag.number)
    else:
        return None
    return value if 0 < value < 1e7 else None


def _text(tag: Tag | None) -> str:
    return "" if tag is None else tag.data.split(b"\0")[0].decode("ascii", "replace").strip()


def _time(tags: ExifTags) -> datetime | None:
    text = _text(tags.exif.get(DATE_TIME_ORIGINAL)) or _text(tags.main.get(DATE_TIME))
    fraction = _text(tags.exif.get(SUBSECOND_ORIGINAL))
    try:
        taken = datetime.strptime(text, "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    return taken.replace(microsecond=int(f"{fraction:0<6}"[:6])) if fraction.isdigit() else taken
