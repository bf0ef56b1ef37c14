"""Formats of picture files: suffixes, and the names libvips gives their readers."""

from pathlib import Path

# libvips calls its readers "pngload", "pngload_buffer", ...: what stands before "load" is the key
FORMATS: dict[str, tuple[str, ...]] = {
    "png": (".png",),
    "jpeg": (".jpg", ".jpeg", ".jpe"),
    "webp": (".webp",),
    "tiff": (".tif", ".tiff"),
    "gif": (".gif",),
}
IMAGE_SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)


def is_image_name(path: Path) -> bool:
    """Return whether a name ends as a picture's does and isn't hidden (`._x.png` of macOS is)."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def format_of_name(path: Path) -> str:
    """Return the format a file's suffix promises; empty for a suffix that is none of these."""
    suffix = path.suffix.lower()
    return next((name for name, suffixes in FORMATS.items() if suffix in suffixes), "")
