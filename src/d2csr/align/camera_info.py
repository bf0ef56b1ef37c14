"""What a camera says of a photograph: focal length, time, name; from EXIF, wherever that lies."""

import struct
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyvips

from d2csr.core.errors import ImageError
from d2csr.images.decode import detect_format, open_image
from d2csr.images.exif import ExifTags, Tag, read_tags

MIN_RATIO = 0.8  # of the scale: the least ratio of focal lengths that may be called it

MAKE, MODEL, DATE = 0x010F, 0x0110, 0x0132
EXPOSURE, F_NUMBER, ISO = 0x829A, 0x829D, 0x8827
DATE_TAKEN, SUBSECOND, DISTANCE = 0x9003, 0x9291, 0x9206
FOCAL, FOCAL_35, LENS = 0x920A, 0xA405, 0xA434
_RAW_HEAD_BYTES = 1 << 22  # tags of a RAW file lie at its head
_TIFF_MARKS = (b"II*\0", b"MM\0*")


@dataclass(frozen=True)
class CameraInfo:
    """What the file of a photograph tells; None or empty where it doesn't.

    Attributes:
        focal_mm: focal length.
        focal_35mm: the same in terms of 35 mm film.
        taken: when, by the camera's clock.
        make: of the camera.
        model: of the camera.
        lens: its name.
        f_number: aperture.
        exposure_s: time.
        iso: sensitivity.
        distance_m: of the subject.
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
        """Return the focal length to compare with others: in 35 mm terms where told.

        Phones have a sensor for each lens; only those terms tell their fields of view apart.
        """
        return self.focal_35mm or self.focal_mm


NO_FACTS = CameraInfo()


def focal_ratio(wide: CameraInfo, tele: CameraInfo) -> float | None:
    """Return the tele focal length by the wide one's; None where EXIF doesn't tell both alike."""
    if wide.focal_mm and tele.focal_mm and wide.model == tele.model:
        same_sensor = not (wide.focal_35mm and tele.focal_35mm) or (
            abs((tele.focal_35mm / tele.focal_mm) / (wide.focal_35mm / wide.focal_mm) - 1) < 0.1
        )
        if same_sensor:  # finer than 35 mm terms, which are rounded to whole millimetres
            return tele.focal_mm / wide.focal_mm
    if wide.focal_35mm and tele.focal_35mm:
        return tele.focal_35mm / wide.focal_35mm
    return None


def facts_of_file(path: Path) -> CameraInfo:
    """Return what a photograph's file tells; nothing where it has no readable EXIF."""
    try:
        tree = _tree(path)
    except (ValueError, OSError, pyvips.Error, ImageError):
        return NO_FACTS
    return facts_of(tree)


def facts_of(tree: ExifTags) -> CameraInfo:
    """Return the facts among EXIF tags."""
    return CameraInfo(
        focal_mm=_positive(tree.exif.get(FOCAL)),
        focal_35mm=_positive(tree.exif.get(FOCAL_35)),
        taken=_time(tree),
        make=_text(tree.main.get(MAKE)),
        model=_text(tree.main.get(MODEL)),
        lens=_text(tree.exif.get(LENS)),
        f_number=_positive(tree.exif.get(F_NUMBER)),
        exposure_s=_positive(tree.exif.get(EXPOSURE)),
        iso=_positive(tree.exif.get(ISO)),
        distance_m=_positive(tree.exif.get(DISTANCE)),
    )


def _tree(path: Path) -> ExifTags:
    with path.open("rb") as file:
        head = file.read(4)
    if head in _TIFF_MARKS:
        with path.open("rb") as file:
            data = file.read(_RAW_HEAD_BYTES)
        tree = read_tags(data)
        if tree.exif or path.stat().st_size <= _RAW_HEAD_BYTES:
            return tree
        return read_tags(path.read_bytes())  # some writers put the tags behind the pixels
    detect_format(path)
    image = open_image(path)
    if not image.get_typeof("exif-data"):
        return ExifTags()
    return read_tags(bytes(image.get("exif-data")).removeprefix(b"Exif\0\0"))


def _positive(tag: Tag | None) -> float | None:
    """Return a tag's first number, where it is one above 0."""
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


def _time(tree: ExifTags) -> datetime | None:
    text = _text(tree.exif.get(DATE_TAKEN)) or _text(tree.main.get(DATE))
    fraction = _text(tree.exif.get(SUBSECOND))
    try:
        taken = datetime.strptime(text, "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    return taken.replace(microsecond=int(f"{fraction:0<6}"[:6])) if fraction.isdigit() else taken
