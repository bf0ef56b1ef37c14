"""Fuzz test of reading and writing images: damaged files must not crash, hang or leave half a file.

Each file is read in a separate process. If that succeeds, the image is written, in each format in
turn, and read again. A file passes if it gives pixels or an error message of one line.

    python benchmarks/fuzz_files.py [files per kind]
"""

import base64
import binascii
import json
import platform
import random
import resource
import select
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyvips

from d2csr.core.errors import D2csrError
from d2csr.core.files import write_atomically
from d2csr.images.formats import format_limitations
from d2csr.images.reader import read_image
from d2csr.images.writer import ImageWriter

RESULTS = Path(__file__).parent / "results" / "fuzz_files.json"
SEED = 0
TIMEOUT_S = 20.0
MEMORY_BYTES = 6 << 30  # address space of a reader; a decompression bomb needs more
LIMIT_MP = 16.0
WRITTEN = (".png", ".jpg", ".webp", ".tif", ".avif")
LOSSLESS = (".png", ".tif")

# 16x16 gray pixels of value 200 in HEVC, as from phones: libvips' wheel can only read the header.
HEIC = base64.b64decode(
    b"AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAXxtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAA"
    b"AAAAAAAAAAACJpbG9jAAAAAERAAAEAAQAAAAABoAABAAAAAAAAACsAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAAB"
    b"AABodmMxAAAAAA5waXRtAAAAAAABAAAA/GlwcnAAAADcaXBjbwAAAHVodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADw"
    b"NgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQApQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqrprm4CGgwIAA"
    b"AAyAAAADAIRiAAEABkQBwXPBiQAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAAChjbGFwAA"
    b"AAEAAAAAEAAAAQAAAAAf///9AAAAAC////0AAAAAIAAAAQcGl4aQAAAAADCAgIAAAAGGlwbWEAAAAAAAAAAQABBYEC"
    b"AwWEAAAAM21kYXQAAAAnKAGvEyExlvhOUKeW+2EDNDJVMWi5T6Vz3QpQk3J+uP7yh5PFYoLg"
)


# --- files to damage ------------------------------------------------------------------------------


def pixels(channels: int, *, dtype: Any = np.uint8) -> Any:
    """Return a small libvips image with both smooth and noisy parts."""
    rng = np.random.default_rng(SEED)
    smooth = np.linspace(0, 200, 48 * 40).reshape(40, 48, 1) + np.arange(channels) * 15
    noisy = smooth + rng.integers(0, 40, smooth.shape)
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1.0
    values = (noisy / 255 * top).astype(dtype)
    image: Any = pyvips.Image.new_from_array(values)
    deep = dtype == np.uint16
    kinds = {1: "grey16", 2: "grey16"} if deep else {1: "b-w", 2: "b-w"}
    return image.copy(interpretation=kinds.get(channels, "rgb16" if deep else "srgb"), xres=10)


def with_metadata(image: Any) -> Any:
    """Return an image with a profile, EXIF and XMP."""
    image = image.copy()
    profile = pyvips.Operation.call("profile_load", "srgb")
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + struct.pack("<HHIHH", 274, 3, 1, 6, 0)
    exif += struct.pack("<HHI4sI", 271, 2, 4, b"abc\0", 0)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>'
    for name, blob in {"icc-profile-data": profile, "exif-data": exif, "xmp-data": xmp}.items():
        image.set_type(pyvips.GValue.blob_type, name, bytes(blob))
    return image


def cmyk() -> Any:
    """Return a CMYK image with its profile."""
    image = pixels(4).copy(interpretation="cmyk")
    profile = bytes(pyvips.Operation.call("profile_load", "cmyk"))
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    return image


def pages() -> Any:
    """Return a libvips image of two pages, one above the other."""
    image = pixels(3).copy()
    image.set_type(pyvips.GValue.gint_type, "page-height", 20)
    return image


def encode(image: Any, suffix: str, **options: Any) -> bytes:
    """Return the image encoded as a file."""
    return bytes(image.write_to_buffer(suffix, **options))


SEEDS: Mapping[str, Callable[[], bytes]] = {
    "png": lambda: encode(pixels(3), ".png"),
    "png with everything": lambda: encode(with_metadata(pixels(3)), ".png"),
    "png gray": lambda: encode(pixels(1), ".png"),
    "png 16 bit, alpha": lambda: encode(pixels(4, dtype=np.uint16), ".png"),
    "png gray, alpha": lambda: encode(pixels(2), ".png"),
    "png palette": lambda: encode(pixels(3), ".png", palette=True),
    "png interlaced": lambda: encode(pixels(3), ".png", interlace=True),
    "jpeg": lambda: encode(with_metadata(pixels(3)), ".jpg"),
    "jpeg progressive": lambda: encode(pixels(3), ".jpg", interlace=True),
    "jpeg gray": lambda: encode(pixels(1), ".jpg"),
    "jpeg cmyk": lambda: encode(cmyk(), ".jpg"),
    "webp": lambda: encode(with_metadata(pixels(3)), ".webp"),
    "webp lossless, alpha": lambda: encode(pixels(4), ".webp", lossless=True),
    "webp animated": lambda: encode(pages(), ".webp"),
    "tiff": lambda: encode(with_metadata(pixels(3)), ".tif"),
    "tiff deflate": lambda: encode(pixels(3), ".tif", compression="deflate"),
    "tiff lzw, 16 bit": lambda: encode(pixels(1, dtype=np.uint16), ".tif", compression="lzw"),
    "tiff jpeg": lambda: encode(pixels(3), ".tif", compression="jpeg"),
    "tiff tiled, big": lambda: encode(pixels(4), ".tif", tile=True, bigtiff=True),
    "tiff 1 bit": lambda: encode(pixels(1), ".tif", bitdepth=1, compression="ccittfax4"),
    "tiff float": lambda: encode(pixels(3, dtype=np.float32), ".tif"),
    "tiff pages": lambda: encode(pages(), ".tif"),
    "tiff cmyk": lambda: encode(cmyk(), ".tif"),
    "gif": lambda: encode(pixels(3), ".gif"),
    "gif animated": lambda: encode(pages(), ".gif"),
    "avif": lambda: encode(with_metadata(pixels(3)), ".avif", effort=0),
    "avif alpha": lambda: encode(pixels(4), ".avif", effort=0),
    "avif 10 bit": lambda: encode(pixels(3, dtype=np.uint16), ".avif", bitdepth=10, effort=0),
    "heic": lambda: HEIC,
}


# --- damage ---------------------------------------------------------------------------------------


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    """Flip some bits anywhere."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def edit_header(data: bytes, rng: random.Random) -> bytes:
    """Write numbers that often break parsers into the first bytes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 2, 4))):
        number = rng.choice((0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 30000))
        width = rng.choice((1, 2, 4))
        at = rng.randrange(min(len(out), rng.choice((32, 128, 1024))))
        order = rng.choice(("little", "big"))
        out[at : at + width] = (number & ((1 << 8 * width) - 1)).to_bytes(width, order)
    return bytes(out)


def truncate(data: bytes, rng: random.Random) -> bytes:
    """Remove the end of the file."""
    return data[: rng.randrange(len(data))]


def swap_blocks(data: bytes, rng: random.Random) -> bytes:
    """Swap two adjacent blocks."""
    a, b, c = sorted(rng.randrange(len(data)) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def cut_out(data: bytes, rng: random.Random) -> bytes:
    """Remove a block from the middle."""
    a, b = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:a] + data[b:]


def repeat_block(data: bytes, rng: random.Random) -> bytes:
    """Repeat a block several times."""
    a, b = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:b] + data[a:b] * rng.choice((1, 2, 8)) + data[b:]


def overwrite(data: bytes, rng: random.Random) -> bytes:
    """Overwrite a block with noise or zeros."""
    a, b = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:a] + (rng.randbytes(b - a) if rng.random() < 0.5 else bytes(b - a)) + data[b:]


def concatenate(data: bytes, rng: random.Random) -> bytes:
    """Insert a file of another kind at the end or in the middle."""
    other = SEEDS[rng.choice(sorted(SEEDS))]()
    at = rng.choice((len(data), rng.randrange(len(data))))
    return data[:at] + other + data[at:]


def edit_png_chunk(data: bytes, rng: random.Random) -> bytes:
    """Change one chunk of a PNG and correct its checksum, so that readers parse its content."""
    if not data.startswith(b"\x89PNG"):
        return flip_bits(data, rng)
    at, chunks = 8, []
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    index = rng.randrange(len(chunks))
    name, body = chunks[index]
    chunks[index] = (name, rng.choice((flip_bits, edit_header))(body, rng) if body else b"\0")
    if rng.random() < 0.2:
        rng.shuffle(chunks)
    pieces = (
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", binascii.crc32(name + body))
        for name, body in chunks
    )
    return data[:8] + b"".join(pieces)


DAMAGES = (
    *(flip_bits, edit_header, edit_header, truncate, swap_blocks, cut_out, repeat_block),
    *(overwrite, concatenate, edit_png_chunk),
)


def damaged_file(kind: str, number: int) -> bytes:
    """Return the damaged file of this kind and number, always the same and never empty."""
    rng = random.Random(f"{SEED} {kind} {number}")
    data = SEEDS[kind]()
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(DAMAGES)(data, rng) or b"\0"
    return data


# --- reading --------------------------------------------------------------------------------------


def worker(out: Path) -> None:
    """Read the files named on standard input and print a line of JSON for each."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for count, line in enumerate(sys.stdin):
        result = read_and_write(
            Path(line.rstrip("\n")), out / f"out{WRITTEN[count % len(WRITTEN)]}"
        )
        print(json.dumps(result), flush=True)


def read_and_write(path: Path, target: Path) -> dict[str, Any]:
    """Return the result for one file; a bug raises any other error than `D2csrError`."""
    try:
        image = read_image(path, limit_mp=LIMIT_MP)
    except D2csrError as error:
        if "\n" in str(error) or not error.remedy:
            raise ValueError(f"not a message of one line: {error}") from error
        return {"read": False, "problem": error.problem[:60]}
    pixel_format, height = image.pixel_format, image.size.height
    try:
        format_limitations(pixel_format, target, size=image.size)
    except D2csrError:  # too large for the format, which is checked before writing
        target = target.with_suffix(".png")
    rows = image.pixels
    if image.alpha is not None:
        rows = np.dstack([rows, image.alpha])
    try:
        with ImageWriter(
            target, size=image.size, pixel_format=pixel_format, metadata=image.metadata, scale=2.0
        ) as strips:
            for top in range(0, height, 7):
                strips.write(rows[top : top + 7])
    except D2csrError as error:
        if target.exists():
            raise ValueError(f"half a file is left after {error}") from error
        return {"read": True, "written": False, "problem": error.problem[:200]}
    again = read_image(target)
    if target.suffix in LOSSLESS and not np.array_equal(again.pixels, image.pixels):
        raise ValueError(f"{target.suffix} changed the pixels")
    target.unlink()
    return {"read": True, "written": True}


@dataclass
class Findings:
    """Results of all files."""

    read: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    unwritten: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    most_memory_mb: float = 0.0

    @property
    def passed(self) -> bool:
        """Return whether there were no failures."""
        return not (self.crashes or self.hangs or self.leftovers or self.unwritten)


class Reader:
    """A process that reads files, restarted after a crash or a hang."""

    def __init__(self, out: Path) -> None:
        """Start the process."""
        self.out = out
        self.errors = (out / "errors").open("w+")
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, __file__, "--worker", str(self.out / "written")]
        (self.out / "written").mkdir(exist_ok=True)
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.errors, text=True)

    def read(self, path: Path, *, name: str, findings: Findings) -> None:
        """Read one file in the process and add the result to the findings."""
        started = time.monotonic()
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise ValueError("the reader has no pipes")
        stdin.write(f"{path}\n")
        stdin.flush()
        ready, _, _ = select.select([stdout], [], [], TIMEOUT_S)
        line = stdout.readline() if ready else ""
        if not line:
            (findings.crashes if ready else findings.hangs).append(
                f"{name}: {self._describe_failure()}"
            )
            self.process.kill()
            self.process.wait()
            self.process = self._start()
        else:
            kind, result = name.rsplit(" #", 1)[0], json.loads(line)
            (findings.read if result["read"] else findings.refused)[kind] += 1
            if result.get("written") is False:
                findings.unwritten.append(f"{name}: {result['problem']}")
            findings.slowest_s = max(findings.slowest_s, time.monotonic() - started)
            findings.most_memory_mb = max(findings.most_memory_mb, self._peak_mb())
        for left in (self.out / "written").iterdir():
            findings.leftovers.append(f"{name}: {left.name}")
            left.unlink()

    def close(self) -> None:
        """End the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(timeout=TIMEOUT_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.errors.close()

    def _describe_failure(self) -> str:
        self.process.poll()
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines() or [""]
        return f"exit {self.process.returncode}, {lines[-1][:200]}"

    def _peak_mb(self) -> float:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        return 0.0


def fuzz(files_per_kind: int, folder: Path) -> Findings:
    """Return the findings for damaged files of every kind."""
    findings = Findings()
    reader = Reader(folder)
    for number in range(files_per_kind):
        for kind in SEEDS:
            path = folder / "damaged.bin"
            path.write_bytes(damaged_file(kind, number))
            reader.read(path, name=f"{kind} #{number}", findings=findings)
    reader.close()
    return findings


def main() -> None:
    """Run the test and store the results."""
    if "--worker" in sys.argv:
        worker(Path(sys.argv[2]))
        return
    files_per_kind = int(sys.argv[1]) if len(sys.argv) > 1 else 80
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        findings = fuzz(files_per_kind, Path(folder))
    versions = [str(pyvips.version(part)) for part in range(3)]
    results = {
        "files": files_per_kind * len(SEEDS),
        "seed": SEED,
        "sound": findings.passed,
        "crashes": findings.crashes,
        "hangs": findings.hangs,
        "half_written": findings.leftovers,
        "read_but_not_written": findings.unwritten,
        "kinds": {
            kind: {"read": findings.read[kind], "refused": findings.refused[kind]} for kind in SEEDS
        },
        "slowest_s": round(findings.slowest_s, 2),
        "most_memory_mb": round(findings.most_memory_mb),
        "seconds": round(time.monotonic() - started, 1),
        "libvips": ".".join(versions),
        "python": platform.python_version(),
        "command": f"python benchmarks/fuzz_files.py {files_per_kind}",
    }
    text = json.dumps(results, indent=1)
    write_atomically(RESULTS, f"{text}\n".encode())
    print(text)
    sys.exit(0 if findings.passed else 1)


if __name__ == "__main__":
    main()
