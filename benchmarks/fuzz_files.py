"""Do damaged image files ever crash, hang, or leave half a file? Files of every kind, mutated.

Each file is read in a process of its own pool; what is read is written back, in every format in
turn, and read again. A file passes where it gives pixels or an error in plain words.

    python benchmarks/fuzz_files.py [files of each kind]
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
MEMORY_BYTES = 6 << 30  # address space of a reader: more is a bomb that went off
LIMIT_MP = 16.0
WRITTEN = (".png", ".jpg", ".webp", ".tif", ".avif")
LOSSLESS = (".png", ".tif")

# 16x16 gray pixels, 200, coded in HEVC as phones do: libvips' wheel reads the header, no pixels.
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
    """Return a small image with both smooth and busy parts, as libvips has it."""
    rng = np.random.default_rng(SEED)
    smooth = np.linspace(0, 200, 48 * 40).reshape(40, 48, 1) + np.arange(channels) * 15
    busy = smooth + rng.integers(0, 40, smooth.shape)
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1.0
    values = (busy / 255 * top).astype(dtype)
    image: Any = pyvips.Image.new_from_array(values)
    deep = dtype == np.uint16
    kinds = {1: "grey16", 2: "grey16"} if deep else {1: "b-w", 2: "b-w"}
    return image.copy(interpretation=kinds.get(channels, "rgb16" if deep else "srgb"), xres=10)


def documented(image: Any) -> Any:
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
    """Return two frames as libvips has them, one above the other."""
    image = pixels(3).copy()
    image.set_type(pyvips.GValue.gint_type, "page-height", 20)
    return image


def encoded(image: Any, suffix: str, **options: Any) -> bytes:
    """Return the bytes of a file."""
    return bytes(image.write_to_buffer(suffix, **options))


SEEDS: Mapping[str, Callable[[], bytes]] = {
    "png": lambda: encoded(pixels(3), ".png"),
    "png with everything": lambda: encoded(documented(pixels(3)), ".png"),
    "png gray": lambda: encoded(pixels(1), ".png"),
    "png 16 bit, alpha": lambda: encoded(pixels(4, dtype=np.uint16), ".png"),
    "png gray, alpha": lambda: encoded(pixels(2), ".png"),
    "png palette": lambda: encoded(pixels(3), ".png", palette=True),
    "png interlaced": lambda: encoded(pixels(3), ".png", interlace=True),
    "jpeg": lambda: encoded(documented(pixels(3)), ".jpg"),
    "jpeg progressive": lambda: encoded(pixels(3), ".jpg", interlace=True),
    "jpeg gray": lambda: encoded(pixels(1), ".jpg"),
    "jpeg cmyk": lambda: encoded(cmyk(), ".jpg"),
    "webp": lambda: encoded(documented(pixels(3)), ".webp"),
    "webp lossless, alpha": lambda: encoded(pixels(4), ".webp", lossless=True),
    "webp animated": lambda: encoded(pages(), ".webp"),
    "tiff": lambda: encoded(documented(pixels(3)), ".tif"),
    "tiff deflate": lambda: encoded(pixels(3), ".tif", compression="deflate"),
    "tiff lzw, 16 bit": lambda: encoded(pixels(1, dtype=np.uint16), ".tif", compression="lzw"),
    "tiff jpeg": lambda: encoded(pixels(3), ".tif", compression="jpeg"),
    "tiff tiled, big": lambda: encoded(pixels(4), ".tif", tile=True, bigtiff=True),
    "tiff 1 bit": lambda: encoded(pixels(1), ".tif", bitdepth=1, compression="ccittfax4"),
    "tiff float": lambda: encoded(pixels(3, dtype=np.float32), ".tif"),
    "tiff pages": lambda: encoded(pages(), ".tif"),
    "tiff cmyk": lambda: encoded(cmyk(), ".tif"),
    "gif": lambda: encoded(pixels(3), ".gif"),
    "gif animated": lambda: encoded(pages(), ".gif"),
    "avif": lambda: encoded(documented(pixels(3)), ".avif", effort=0),
    "avif alpha": lambda: encoded(pixels(4), ".avif", effort=0),
    "avif 10 bit": lambda: encoded(pixels(3, dtype=np.uint16), ".avif", bitdepth=10, effort=0),
    "heic": lambda: HEIC,
}


# --- damage ---------------------------------------------------------------------------------------


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    """Turn over some bits anywhere."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def edit_header(data: bytes, rng: random.Random) -> bytes:
    """Put numbers that programs stumble over into the first bytes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 2, 4))):
        number = rng.choice((0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 30000))
        width = rng.choice((1, 2, 4))
        at = rng.randrange(min(len(out), rng.choice((32, 128, 1024))))
        order = rng.choice(("little", "big"))
        out[at : at + width] = (number & ((1 << 8 * width) - 1)).to_bytes(width, order)
    return bytes(out)


def truncate(data: bytes, rng: random.Random) -> bytes:
    """Cut the end off."""
    return data[: rng.randrange(len(data))]


def swap_blocks(data: bytes, rng: random.Random) -> bytes:
    """Let two blocks change places."""
    a, b, c = sorted(rng.randrange(len(data)) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def cut_out(data: bytes, rng: random.Random) -> bytes:
    """Leave a block out of the middle."""
    a, b = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:a] + data[b:]


def repeat_block(data: bytes, rng: random.Random) -> bytes:
    """Say a block several times."""
    a, b = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:b] + data[a:b] * rng.choice((1, 2, 8)) + data[b:]


def overwrite(data: bytes, rng: random.Random) -> bytes:
    """Put noise, or nothing, over a block."""
    a, b = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:a] + (rng.randbytes(b - a) if rng.random() < 0.5 else bytes(b - a)) + data[b:]


def concatenate(data: bytes, rng: random.Random) -> bytes:
    """Put a file of another kind behind, or in the middle."""
    other = SEEDS[rng.choice(sorted(SEEDS))]()
    at = rng.choice((len(data), rng.randrange(len(data))))
    return data[:at] + other + data[at:]


def edit_png_chunk(data: bytes, rng: random.Random) -> bytes:
    """Change one chunk of a PNG and mend its checksum, so that readers go on to its content."""
    if not data.startswith(b"\x89PNG"):
        return flip_bits(data, rng)
    at, chunks = 8, []
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    chosen = rng.randrange(len(chunks))
    name, body = chunks[chosen]
    chunks[chosen] = (name, rng.choice((flip_bits, edit_header))(body, rng) if body else b"\0")
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


def mutated(kind: str, number: int) -> bytes:
    """Return the damaged file of this kind and number, always the same; never an empty one."""
    rng = random.Random(f"{SEED} {kind} {number}")
    data = SEEDS[kind]()
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(DAMAGES)(data, rng) or b"\0"
    return data


# --- reading --------------------------------------------------------------------------------------


def worker(out: Path) -> None:
    """Read the files named on the standard input, one line of JSON for each."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for count, line in enumerate(sys.stdin):
        answer = outcome(Path(line.rstrip("\n")), out / f"out{WRITTEN[count % len(WRITTEN)]}")
        print(json.dumps(answer), flush=True)


def outcome(path: Path, target: Path) -> dict[str, Any]:
    """Return what came of one file; a bug of ours raises."""
    try:
        image = read_image(path, limit_mp=LIMIT_MP)
    except D2csrError as error:
        if "\n" in str(error) or not error.remedy:
            raise ValueError(f"no plain words: {error}") from error
        return {"read": False, "problem": error.problem[:60]}
    layout, height = image.pixel_format, image.size.height
    try:
        format_limitations(layout, target, size=image.size)
    except D2csrError:  # too large for the format, and said before any work
        target = target.with_suffix(".png")
    rows = image.pixels
    if image.alpha is not None:
        rows = np.dstack([rows, image.alpha])
    try:
        with ImageWriter(
            target, size=image.size, pixel_format=layout, metadata=image.metadata, scale=2.0
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
    """What came of all files."""

    read: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    unwritten: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    most_memory_mb: float = 0.0

    @property
    def sound(self) -> bool:
        """Return whether nothing went wrong."""
        return not (self.crashes or self.hangs or self.leftovers or self.unwritten)


class Reader:
    """A process that reads files, started anew after a crash or a hang."""

    def __init__(self, out: Path) -> None:
        """Start it."""
        self.out = out
        self.errors = (out / "errors").open("w+")
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, __file__, "--worker", str(self.out / "written")]
        (self.out / "written").mkdir(exist_ok=True)
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.errors, text=True)

    def read(self, path: Path, *, name: str, findings: Findings) -> None:
        """Have one file read and note what came of it."""
        started = time.monotonic()
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise ValueError("the reader has no pipes")
        stdin.write(f"{path}\n")
        stdin.flush()
        ready, _, _ = select.select([stdout], [], [], TIMEOUT_S)
        answer = stdout.readline() if ready else ""
        if not answer:
            (findings.crashes if ready else findings.hangs).append(f"{name}: {self._last_words()}")
            self.process.kill()
            self.process.wait()
            self.process = self._start()
        else:
            kind, told = name.rsplit(" #", 1)[0], json.loads(answer)
            (findings.read if told["read"] else findings.refused)[kind] += 1
            if told.get("written") is False:
                findings.unwritten.append(f"{name}: {told['problem']}")
            findings.slowest_s = max(findings.slowest_s, time.monotonic() - started)
            findings.most_memory_mb = max(findings.most_memory_mb, self._peak_mb())
        for left in (self.out / "written").iterdir():
            findings.leftovers.append(f"{name}: {left.name}")
            left.unlink()

    def close(self) -> None:
        """End it."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(timeout=TIMEOUT_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.errors.close()

    def _last_words(self) -> str:
        self.process.poll()
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines() or [""]
        return f"exit {self.process.returncode}, {lines[-1][:200]}"

    def _peak_mb(self) -> float:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        return 0.0


def fuzz(files_of_each_kind: int, folder: Path) -> Findings:
    """Return what came of damaged files of every kind, each written into the folder and removed."""
    findings = Findings()
    reader = Reader(folder)
    for number in range(files_of_each_kind):
        for kind in SEEDS:
            path = folder / "damaged.bin"
            path.write_bytes(mutated(kind, number))
            reader.read(path, name=f"{kind} #{number}", findings=findings)
    reader.close()
    return findings


def main() -> None:
    """Run the question and keep the answer."""
    if "--worker" in sys.argv:
        worker(Path(sys.argv[2]))
        return
    each = int(sys.argv[1]) if len(sys.argv) > 1 else 80
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        findings = fuzz(each, Path(folder))
    versions = [str(pyvips.version(part)) for part in range(3)]
    answer = {
        "files": each * len(SEEDS),
        "seed": SEED,
        "sound": findings.sound,
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
        "command": f"python benchmarks/fuzz_files.py {each}",
    }
    text = json.dumps(answer, indent=1)
    write_atomically(RESULTS, f"{text}\n".encode())
    print(text)
    sys.exit(0 if findings.sound else 1)


if __name__ == "__main__":
    main()
