"""How much of the damage to image files is noticed: refused or told, by format and by damage.

Files of a photograph in every format are damaged at random places. Those whose pixels came out
wrong are counted, and among them those that were refused, or read with a warning.

    python benchmarks/damaged_files.py [files per cell]
"""

import io
import json
import random
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pyvips
from PIL import Image

from d2csr.core.errors import ImageError
from d2csr.core.files import write_atomically
from d2csr.images.reader import read_image

RESULTS = Path(__file__).parent / "results" / "damaged_files.json"
PHOTO = Path(__file__).parent.parent / "examples" / "city100_nikon_001_lr3.png"
SEED = 0
_HEADER_BYTES = 1000  # where damage begins: the header is a smaller part of larger photographs
_SECTOR_BYTES = 512


def _pillow(kind: str, **options: Any) -> Callable[[Image.Image], bytes]:
    def encode(photo: Image.Image) -> bytes:
        buffer = io.BytesIO()
        photo.save(buffer, kind, **options)
        return buffer.getvalue()

    return encode


def _vips(suffix: str, **options: Any) -> Callable[[Image.Image], bytes]:
    def encode(photo: Image.Image) -> bytes:
        image: Any = pyvips.Image.new_from_array(np.asarray(photo))
        return bytes(image.write_to_buffer(suffix, **options))

    return encode


def _heic(photo: Image.Image) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(photo).save(buffer, quality=90)
    return buffer.getvalue()


KINDS: Mapping[str, Callable[[Image.Image], bytes]] = {
    "JPEG": _pillow("jpeg", quality=92),
    "JPEG, progressive": _pillow("jpeg", quality=92, progressive=True),
    "JPEG, restart markers": _pillow("jpeg", quality=92, restart_marker_rows=1),
    "PNG": _pillow("png"),
    "WebP": _pillow("webp", quality=90),
    "WebP, lossless": _pillow("webp", lossless=True),
    "TIFF, not compressed": _vips(".tif"),
    "TIFF, LZW": _vips(".tif", compression="lzw"),
    "TIFF, Deflate": _vips(".tif", compression="deflate"),
    "TIFF, JPEG": _vips(".tif", compression="jpeg", Q=92),
    "GIF": _pillow("gif"),
    "AVIF": _pillow("avif", quality=90),
    "HEIC": _heic,
}


def _cut_short(data: bytes, at: int) -> bytes:
    return data[:at]


def _early_end(data: bytes, at: int) -> bytes:
    """Return a file cut short whose last 12 bytes, the end marker of JPEG and PNG, are there."""
    return data[:at] + data[-12:]


def _missing(data: bytes, at: int) -> bytes:
    return data[:at] + data[at + len(data) // 20 :]


def _zeroed(data: bytes, at: int) -> bytes:
    length = min(len(data) // 10, len(data) - at)
    return data[:at] + bytes(length) + data[at + length :]


def _sector(data: bytes, at: int) -> bytes:
    length = min(_SECTOR_BYTES, len(data) - at)
    return data[:at] + bytes(length) + data[at + length :]


def _byte_missing(data: bytes, at: int) -> bytes:
    return data[:at] + data[at + 1 :]


def _bit(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1 << at % 8,)) + data[at + 1 :]


DAMAGES: Mapping[str, Callable[[bytes, int], bytes]] = {
    "cut short": _cut_short,
    "cut short, end added": _early_end,
    "5% missing": _missing,
    "10% zeroed": _zeroed,
    "512 bytes zeroed": _sector,
    "1 byte missing": _byte_missing,
    "1 bit flipped": _bit,
}


def count(kind: str, damage: str, *, files: int, folder: Path) -> dict[str, int]:
    """Return the number of damaged files refused, warned of, read right, and silently wrong."""
    whole = KINDS[kind](Image.open(PHOTO).convert("RGB"))
    path = folder / "photo"
    path.write_bytes(whole)
    expected = read_image(path).pixels
    found = {"refused": 0, "told": 0, "right": 0, "wrong": 0}
    usual = read_image(path).warnings  # of the missing suffix
    rng = random.Random(f"{SEED} {kind} {damage}")
    for _ in range(files):
        at = rng.randrange(min(_HEADER_BYTES, len(whole) // 2), len(whole) - 12)
        path.write_bytes(DAMAGES[damage](whole, at))
        try:
            image = read_image(path)
        except ImageError:
            found["refused"] += 1
            continue
        is_right = np.array_equal(image.pixels, expected)
        found["right" if is_right else "told" if image.warnings != usual else "wrong"] += 1
    return found


def main() -> None:
    """Count and store the results."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with tempfile.TemporaryDirectory() as folder:
        counts = {
            kind: {
                damage: count(kind, damage, files=files, folder=Path(folder)) for damage in DAMAGES
            }
            for kind in KINDS
        }
    results = {
        "files": files,
        "counts": counts,
        "date": date.today().isoformat(),
        "versions": {
            "libvips": ".".join(str(pyvips.version(part)) for part in range(3)),
            "pillow-heif": pillow_heif.__version__,
            "simplejpeg": version("simplejpeg"),
        },
        "command": f"python benchmarks/damaged_files.py {files}",
    }
    text = json.dumps(results, indent=1)
    write_atomically(RESULTS, f"{text}\n".encode())
    print(text)


if __name__ == "__main__":
    main()
