"""Image files of every kind, made by Pillow, tifffile or by hand; by libvips where none can."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pillow_heif
import pyvips
import tifffile
from PIL import Image, ImageCms
from skimage.color import rgb2lab

from benchmarks.fuzz_files import HEIC

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (20, 30, 3), np.uint8)
GRAY = RGB[..., 0]
ALPHA = RNG.integers(0, 256, (20, 30), np.uint8)
SMOOTH = np.asarray(Image.fromarray(RGB[:4, :5]).resize((30, 20), Image.Resampling.BICUBIC))
RGB16 = RNG.integers(0, 65536, (20, 30, 3)).astype(np.uint16)
DARK16 = RGB16 % 200
GRAY16, ALPHA16 = RGB16[..., 0], RGB16[..., 1]
CMYK = np.dstack([RGB // 2, GRAY // 4])
PALETTED = Image.fromarray(SMOOTH).convert("P", palette=Image.Palette.ADAPTIVE, colors=32)


class Made(NamedTuple):
    """A file, and the pixels that must come of it: exactly, or within `off`."""

    suffix: str
    contents: bytes | None
    pixels: np.ndarray | None = None
    alpha: np.ndarray | None = None
    off: int = 0


def pillow(array, kind, **options):
    buffer = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def heic(array, mode, *, more=None, **options):
    """Return a HEIC file without loss, by pillow-heif; `more` is a second image in it."""
    file = pillow_heif.from_bytes(mode, array.shape[1::-1], array.tobytes())
    if more is not None:
        file.add_frombytes(mode, more.shape[1::-1], more.tobytes())
    buffer = io.BytesIO()
    coded = {"chroma": 444, "matrix_coefficients": 0} if array.ndim == 3 else {}
    file.save(buffer, quality=-1, **coded, **options)
    return buffer.getvalue()


def exif_turn(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def animated(kind, **options):
    frames = [Image.fromarray(SMOOTH[::-1])]
    return pillow(SMOOTH, kind, save_all=True, append_images=frames, **options)


def tiff(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def png(array, *, extra=(), claimed=None):
    """Return a PNG of gray, gray + alpha, RGB or RGBA, its rows unfiltered, written by hand."""
    bits = 8 * array.dtype.itemsize
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[array.shape[2] if array.ndim == 3 else 1]
    height, width = array.shape[:2]
    rows = array.astype(f">u{array.dtype.itemsize}").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    width, height = claimed or (width, height)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)), *extra]
    chunks += [(b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def tiff_by_hand(tags, rows):
    """Return a TIFF of one strip, from tags of one value each."""
    tags = {**tags, 273: (4, 8 + 2 + 12 * (len(tags) + 2) + 4), 279: (4, len(rows))}
    entries = (struct.pack("<HHII", n, kind, 1, v) for n, (kind, v) in sorted(tags.items()))
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    return head + b"".join(entries) + struct.pack("<I", 0) + rows


def packed(values, bits):
    """Return rows of values with this many bits each, each row filled up to whole bytes."""
    rows = []
    for row in values:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows.append(int(text, 2).to_bytes(len(text) // 8, "big"))
    return b"".join(rows)


def few_bits(bits, *, more=None):
    values = (GRAY >> (8 - bits)).astype(int) if bits <= 8 else (GRAY16 >> (16 - bits)).astype(int)
    tags = {256: (4, 30), 257: (4, 20), 258: (3, bits), 259: (3, 1), 262: (3, 1)}
    return tiff_by_hand(tags | {277: (3, 1), 278: (4, 20)} | (more or {}), packed(values, bits))


def vips(array, suffix, *, kind, icc=None, **options):
    """Return a file by libvips, for what nothing else here writes."""
    image = pyvips.Image.new_from_array(array).copy(interpretation=kind)
    if icc is not None:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc)
    return bytes(image.write_to_buffer(suffix, **options))


def cmyk_profile():
    return bytes(pyvips.Operation.call("profile_load", "cmyk"))


def cmyk_as_srgb():
    """Return the CMYK image in sRGB, by Pillow's own LittleCMS."""
    profile = ImageCms.ImageCmsProfile(io.BytesIO(cmyk_profile()))
    converted = ImageCms.profileToProfile(
        Image.fromarray(CMYK, "CMYK"),
        profile,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    return np.asarray(converted)


def lab16():
    """Return 16-bit CIELAB as TIFF 6.0, section 23 stores it."""
    lab = rgb2lab(RGB / 255.0)
    a, b = (np.rint(lab[..., each] * 256) % 65536 for each in (1, 2))
    return np.dstack([np.rint(lab[..., 0] * 655.35), a, b]).astype(np.uint16)


def weighted():
    """Return colors times alpha, alpha nowhere so small that they can't be found again."""
    alpha = ALPHA // 2 + 128
    return np.dstack([np.rint(RGB * (alpha[..., None] / 255)).astype(np.uint8), alpha])


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def shown(image):
    return np.asarray(image.convert("RGB"))


def decoded(contents):
    return np.asarray(Image.open(io.BytesIO(contents)))


def jpeg(array, **options):
    contents = pillow(array, "jpeg", quality=90, subsampling=0, **options)
    return Made(".jpg", contents, decoded(contents), off=2)


def jpeg_with_junk():
    whole = jpeg(RGB)
    return whole._replace(contents=whole.contents.replace(b"\xff\xda", b"junk\xff\xda"))


def avif12(array, *, bits):
    """Return a deep AVIF without loss, and its values with white at 65535."""
    kind = "grey16" if array.ndim == 2 else "rgb16"
    contents = vips(array, ".avif", kind=kind, lossless=True, bitdepth=bits)
    white = (1 << bits) - 1
    return Made(".avif", contents, np.rint((array >> (16 - bits)) * (65535 / white)))


def lossless_avif(array, **options):
    return pillow(array, "avif", quality=100, range="full", **({"subsampling": "4:4:4"} | options))


def transparent_gif():
    image = PALETTED.copy()
    image.info["transparency"] = 0
    contents = pillow(image, "gif", transparency=0)
    seen = np.asarray(Image.open(io.BytesIO(contents)).convert("RGBA"))
    return Made(".gif", contents, None, seen[..., 3])


NAN = np.where(GRAY > 99, np.float32("nan"), np.float32(0.5))
ANIMATED_GIF = animated("gif")
CASES: dict[str, Callable[[], Made]] = {
    "PNG, 8 bit": lambda: Made(".png", png(RGB), RGB),
    "PNG, 16 bit": lambda: Made(".png", png(RGB16), RGB16),
    "PNG, 16 bit, all of it dark": lambda: Made(".png", png(DARK16), DARK16),
    "PNG, gray": lambda: Made(".png", png(GRAY), GRAY),
    "PNG, gray, 16 bit": lambda: Made(".png", png(GRAY16), GRAY16),
    "PNG, gray, 1 bit": lambda: Made(".png", pillow(GRAY > 99, "png"), (GRAY > 99) * 255),
    "PNG, palette": lambda: Made(".png", pillow(PALETTED, "png"), shown(PALETTED)),
    "PNG, alpha": lambda: Made(".png", png(np.dstack([RGB, ALPHA])), RGB, ALPHA),
    "PNG, gray, alpha, 16 bit": lambda: Made(
        ".png", png(np.dstack([GRAY16, ALPHA16])), GRAY16, ALPHA16
    ),
    "PNG, one color see-through": lambda: Made(
        ".png",
        png(RGB, extra=[(b"tRNS", struct.pack(">HHH", *RGB[3, 4].tolist()))]),
        RGB,
        np.where((RGB[3, 4] == RGB).all(axis=2), 0, 255),
    ),
    "PNG, animated": lambda: Made(".png", animated("png"), SMOOTH),
    "PNG, gamma other than sRGB's": lambda: Made(
        ".png", png(RGB, extra=[(b"gAMA", struct.pack(">I", 100000))]), RGB
    ),
    "PNG, Display P3 by number": lambda: Made(
        ".png", png(RGB, extra=[(b"cICP", bytes([12, 13, 0, 1]))]), RGB
    ),
    "PNG, HDR": lambda: Made(".png", png(RGB16, extra=[(b"cICP", bytes([9, 16, 0, 1]))])),
    "JPEG": lambda: jpeg(SMOOTH),
    "JPEG, gray": lambda: jpeg(SMOOTH[..., 0]),
    "JPEG, progressive": lambda: jpeg(SMOOTH, progressive=True),
    "JPEG, CMYK with a profile": lambda: Made(
        ".jpg",
        vips(CMYK, ".jpg", kind="cmyk", icc=cmyk_profile(), Q=100, subsample_mode="off"),
        cmyk_as_srgb(),
        off=40,
    ),
    "JPEG, CMYK without one": lambda: Made(".jpg", pillow(Image.fromarray(CMYK, "CMYK"), "jpeg")),
    "WebP": lambda: Made(".webp", made := pillow(SMOOTH, "webp", quality=90), decoded(made), off=2),
    "WebP, lossless, alpha": lambda: Made(
        ".webp", pillow(np.dstack([RGB, ALPHA]), "webp", lossless=True, exact=True), RGB, ALPHA
    ),
    "WebP, animated": lambda: Made(".webp", animated("webp", lossless=True), SMOOTH),
    "TIFF, 8 bit": lambda: Made(".tif", tiff(RGB, photometric="rgb"), RGB),
    "TIFF, 16 bit": lambda: Made(".tif", tiff(RGB16, photometric="rgb"), RGB16),
    "TIFF, gray, 16 bit": lambda: Made(".tif", tiff(GRAY16), GRAY16),
    "TIFF, gray, 1 bit": lambda: Made(".tif", pillow(GRAY > 99, "tiff"), (GRAY > 99) * 255),
    "TIFF, gray, 4 bit": lambda: Made(".tif", few_bits(4), (GRAY >> 4) * 17),
    "TIFF, white is 0": lambda: Made(".tif", tiff(GRAY, photometric="miniswhite"), 255 - GRAY),
    "TIFF, channels apart": lambda: Made(
        ".tif",
        tiff(np.moveaxis(RGB, 2, 0).copy(), photometric="rgb", planarconfig="separate"),
        RGB,
    ),
    "TIFF, palette": lambda: Made(".tif", pillow(PALETTED, "tiff"), shown(PALETTED)),
    "TIFF, BigTIFF, tiles": lambda: Made(
        ".tif", tiff(RGB, photometric="rgb", bigtiff=True, tile=(16, 16)), RGB
    ),
    "TIFF, alpha": lambda: Made(
        ".tif",
        tiff(np.dstack([RGB, ALPHA]), photometric="rgb", extrasamples=["unassalpha"]),
        RGB,
        ALPHA,
    ),
    "TIFF, colors weighted by alpha": lambda: Made(
        ".tif",
        tiff(weighted(), photometric="rgb", extrasamples=["assocalpha"]),
        RGB,
        weighted()[..., 3],
        off=2,
    ),
    "TIFF, several pages": lambda: Made(
        ".tif", tiff(np.stack([RGB, RGB[::-1]]), photometric="rgb"), RGB
    ),
    "TIFF, CMYK with a profile": lambda: Made(
        ".tif", vips(CMYK, ".tif", kind="cmyk", icc=cmyk_profile()), cmyk_as_srgb(), off=1
    ),
    "TIFF, CIELAB, 16 bit": lambda: Made(
        ".tif", tiff(lab16(), photometric="cielab"), RGB.astype(int) * 257, off=80
    ),
    "TIFF, CIELAB, 8 bit": lambda: Made(".tif", tiff(RGB, photometric="cielab")),
    "TIFF, floating point": lambda: Made(".tif", tiff(RGB / np.float32(255), photometric="rgb")),
    "TIFF, floating point with NaN": lambda: Made(".tif", tiff(NAN)),
    "TIFF, 64-bit values": lambda: Made(".tif", tiff(GRAY.astype(np.float64))),
    "TIFF, 32-bit whole numbers": lambda: Made(".tif", tiff(GRAY.astype(np.uint32))),
    "TIFF, signed 16 bit": lambda: Made(".tif", tiff(GRAY.astype(np.int16))),
    "TIFF, 12 bit": lambda: Made(".tif", few_bits(12)),
    "TIFF, five channels": lambda: Made(
        ".tif", tiff(np.dstack([RGB, GRAY, GRAY]), photometric="rgb", planarconfig="contig")
    ),
    "Raw photo (DNG, NEF, CR2, ...)": lambda: Made(
        ".dng", few_bits(8, more={50706: (1, 0x00000401)})
    ),
    "GIF": lambda: Made(
        ".gif", made := pillow(PALETTED, "gif"), shown(Image.open(io.BytesIO(made)))
    ),
    "GIF, see-through": transparent_gif,
    "GIF, animated": lambda: Made(
        ".gif", ANIMATED_GIF, shown(Image.open(io.BytesIO(ANIMATED_GIF)))
    ),
    "AVIF": lambda: Made(".avif", made := lossless_avif(SMOOTH), decoded(made), off=2),
    "AVIF, gray": lambda: Made(
        ".avif", made := lossless_avif(GRAY, subsampling="4:0:0"), decoded(made), off=2
    ),
    "AVIF, alpha": lambda: Made(
        ".avif",
        made := lossless_avif(np.dstack([SMOOTH, ALPHA])),
        decoded(made)[..., :3],
        decoded(made)[..., 3],
        off=2,
    ),
    "AVIF, 10 bit": lambda: avif12(RGB16, bits=10),
    "AVIF, 12 bit": lambda: avif12(RGB16, bits=12),
    "AVIF, sequence": lambda: Made(
        ".avif", made := animated("avif", quality=100, subsampling="4:4:4"), decoded(made), off=2
    ),
    "HEIC (HEVC), of phones": lambda: Made(".heic", HEIC, np.full((16, 16, 3), 200, np.uint8)),
    "HEIC, gray": lambda: Made(".heic", heic(GRAY, "L"), GRAY),
    "HEIC, alpha": lambda: Made(".heic", heic(np.dstack([RGB, ALPHA]), "RGBA"), RGB, ALPHA),
    "HEIC, 10 bit": lambda: Made(
        ".heic", heic(RGB16, "RGB;16"), np.rint((RGB16 >> 6) * (65535 / 1023))
    ),
    "HEIC, turned": lambda: Made(".heic", heic(RGB, "RGB", exif=exif_turn(6)), np.rot90(RGB, -1)),
    "HEIC, two images": lambda: Made(".heic", heic(RGB, "RGB", more=RGB[:8, :8]), RGB),
    "1x1": lambda: Made(".png", png(RGB[:1, :1]), RGB[:1, :1]),
    "30,000 pixels wide": lambda: Made(
        ".png", png(np.tile(RGB, (1, 1000, 1))), np.tile(RGB, (1, 1000, 1))
    ),
    "Mislabelled: a WebP called .png": lambda: Made(
        ".png", pillow(RGB, "webp", lossless=True), RGB
    ),
    "Cut short": lambda: Made(".png", png(RGB)[:900]),
    "JPEG, cut short, with an end marker": lambda: Made(
        ".jpg", pillow(RGB, "jpeg")[:-300] + b"\xff\xd9"
    ),
    "JPEG, bytes between segments": jpeg_with_junk,
    "Empty": lambda: Made(".png", b""),
    "Missing": lambda: Made(".png", None),
    "Text": lambda: Made(".png", b"hello"),
    "BMP": lambda: Made(".bmp", pillow(RGB, "bmp")),
    "PDF": lambda: Made(".jpg", b"%PDF-1.7\n"),
    "SVG": lambda: Made(".png", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'),
    "Bomb: 100,000x100,000 by its header": lambda: Made(
        ".png", png(RGB, claimed=(100_000, 100_000))
    ),
}
