"""What libvips' encoders are told, by format; measured on photographs of 4.5 megapixels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyvips

from d2csr.images.layout import writable_format

# PNG: 0.14 s and 3.9 MB; level 6 with every filter tried saves 4% in twice the time.
# TIFF: 0.2 s and 3.8 MB. WebP: effort 0 takes 0.7 s, effort 2 saves 4% in 2.6 s.
# AVIF: 1.1 s; full colour resolution, as JPEG. Deep AVIF: 12 bit are slow whatever is told (10 s at
# this quality) and lossy ones put white beside white; without loss and effort it takes 5 s.
ENCODERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "png": {"compression": 3, "filter": "sub"},
    "jpeg": {"Q": 95, "subsample_mode": "off"},
    "webp": {"lossless": True, "effort": 0},
    "tiff": {"compression": "deflate", "predictor": "horizontal"},
    "avif": {"Q": 90, "subsample_mode": "off", "effort": 2, "compression": "av1"},
}
_BIGTIFF_BYTES: Final = 3_900_000_000  # below the 4 GiB that 4-byte places reach
# libvips' flags of what is kept: all, and all but EXIF, of which it would make up one of its own.
_ALL, _ALL_BUT_EXIF = 63, 62
_ONE_BLOCK_PX: Final = 8  # a side within one block of AV1: lossy, white would come back as 253
_AVIF_DEPTHS: Final[Mapping[str, Mapping[str, Any]]] = {
    "uchar": {"bitdepth": 8},
    "ushort": {"bitdepth": 12, "lossless": True, "effort": 0},
}


def encode(image: Any, path: Path) -> None:
    """Write a libvips image with all its metadata to a file, in the format the suffix names.

    Raises:
        ImageError: the suffix names none.
        OSError: the file can't be made.
        pyvips.Error: the encoder or the disk gave up.
    """
    content = writable_format(path)
    options = dict(ENCODERS[content])
    options["keep"] = _ALL if image.get_typeof("exif-data") else _ALL_BUT_EXIF
    if content == "tiff":
        samples = image.width * image.height * image.bands
        options["bigtiff"] = samples * (2 if image.format == "ushort" else 1) > _BIGTIFF_BYTES
    if content == "avif":
        options |= _AVIF_DEPTHS[image.format]
        if min(image.width, image.height) <= _ONE_BLOCK_PX:
            options["lossless"] = True
    saver = f"{'heif' if content == 'avif' else content}save_target"
    with path.open("w+b") as file:  # which any name opens; libvips keeps a descriptor of its own
        target = pyvips.Target.new_to_descriptor(file.fileno())
        getattr(image, saver)(target, **options)
