"""Formats of picture files: their suffixes, and their marks in a file's first bytes."""

from pathlib import Path

FORMATS: dict[str, tuple[str, ...]] = {
    "png": (".png",),
    "jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "webp": (".webp",),
    "tiff": (".tif", ".tiff"),
    "gif": (".gif",),
    "avif": (".avif",),
    "heif": (".heic", ".heif", ".hif"),
}
IMAGE_SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
WRITABLE_FORMATS = ("png", "jpeg", "webp", "tiff", "avif")

DEFAULT_LIMIT_MP = 256.0  # above the largest sensors of phones and cameras; 1.5 GB at 16 bit

HEAD_BYTES = 64  # enough for every mark below
# (place, bytes there, what the file is); names outside `FORMATS` are what messages call the rest
_MARKS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (8, b"WEBP", "webp"),
    (8, b"CR\x02\x00", "a raw photo (CR2)"),
    (0, b"II*\x00", "tiff"),
    (0, b"MM\x00*", "tiff"),
    (0, b"II+\x00", "tiff"),
    (0, b"MM\x00+", "tiff"),
    (0, b"GIF8", "gif"),
    (4, b"ftypcrx", "a raw photo (CR3)"),
    (0, b"FUJIFILMCCD-RAW", "a raw photo (RAF)"),
    (0, b"IIU\x00", "a raw photo (RW2)"),
    (0, b"BM", "a BMP picture"),
    (0, b"%PDF", "a PDF document"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (0, b"#?RADIANCE", "a Radiance picture"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"<?xml", "an XML document"),
    (0, b"PK\x03\x04", "a zip archive"),
)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")


def is_image_name(path: Path) -> bool:
    """Return whether a name ends as a picture's does and isn't hidden (`._x.png` of macOS is)."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def format_of_name(path: Path) -> str:
    """Return the format a file's suffix promises; empty for a suffix that is none of these."""
    suffix = path.suffix.lower()
    return next((name for name, suffixes in FORMATS.items() if suffix in suffixes), "")


def format_of_bytes(head: bytes) -> str:
    """Return the format a file's first bytes show: a key of `FORMATS`, other words, or nothing."""
    brands = {head[at : at + 4] for at in (8, *range(16, HEAD_BYTES, 4))}
    if head[4:8] == b"ftyp" and brands & {*_AVIF_BRANDS}:
        return "avif"
    if head[4:8] == b"ftyp" and brands & {*_HEIF_BRANDS}:
        return "heif"
    return next((name for at, mark, name in _MARKS if head.startswith(mark, at)), "")
