"""Files that are many, large, or changed by others while a command reads them."""

import os
import random
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyvips

from d2csr.images.reader import read_rgb8
from d2csr.images.writer import write_rgb8
from reliability_cases.subjects import contents, finish, leftovers, noise, start, tiny_bundle

_SUFFIXES = ("png", "jpg", "webp", "tif", "avif", "gif")
_GROWTH_BYTES = 48 << 20  # of the memory over 5,000 images, allocators' caches included
_WIDE = (3000, 40_000)  # rows and columns


def changing_files(folder: Path, times: int) -> Iterator[str]:
    """Yield what was wrong after runs during which files were cut, removed, replaced, appended to.

    A result must be that of the file before or after its replacement.
    """
    bundle = tiny_bundle(folder / "tiny")
    versions = [_write_versions(folder / f"version{at}", seed=at) for at in range(2)]
    right = []
    for at in range(2):
        words = ["upscale", "-i", folder / f"version{at}", "-o", folder / f"right{at}"]
        ended = finish(start([*map(str, words), "-n", str(bundle)], cache=folder / "cache"))
        if problem := ended.problem(0):
            raise RuntimeError(problem)
        right.append(contents(folder / f"right{at}"))
    draw = random.Random(0)
    for at in range(times):
        source, output = folder / "in", folder / f"out{at}"
        shutil.rmtree(source, ignore_errors=True)
        shutil.copytree(folder / "version0", source)
        words = ["upscale", "-i", source, "-o", output, "-n", bundle]
        process = start(list(map(str, words)), cache=folder / "cache")
        changer = threading.Thread(
            target=_change, args=(process, source), kwargs={"other": versions[1], "draw": draw}
        )
        changer.start()
        ended = finish(process)
        changer.join()
        verdict = ended.problem(0, 1, 2)
        for name, data in contents(output).items():
            if data not in {each.get(name) for each in right}:
                verdict = verdict or f"{name} is neither that of the old file nor of the new one"
        left = leftovers(output)
        yield verdict or (f"left behind {left[0]}" if left else "")
        shutil.rmtree(output, ignore_errors=True)


def _write_versions(folder: Path, *, seed: int) -> Path:
    for at in range(24):
        path = folder / f"{at}.{_SUFFIXES[at % len(_SUFFIXES)]}"
        pixels = noise(240, 300, seed=100 * seed + at)
        if path.suffix == ".gif":
            path.parent.mkdir(exist_ok=True)
            pyvips.Image.new_from_array(pixels).write_to_file(str(path))
        else:
            write_rgb8(path, pixels)
    return folder


def _change(
    process: "subprocess.Popen[str]", source: Path, *, other: Path, draw: random.Random
) -> None:
    """Change random files until a process has ended."""
    files = sorted(source.iterdir())
    time.sleep(draw.uniform(0, 1))
    while process.poll() is None:
        path = draw.choice(files)
        kind = draw.choice(("cut", "remove", "replace", "append", "empty"))
        try:
            if kind == "cut":
                os.truncate(path, path.stat().st_size * draw.randrange(10) // 10)
            elif kind == "remove":
                path.unlink()
            elif kind == "replace":
                shutil.copy(other / path.name, path.with_suffix(".new"))
                path.with_suffix(".new").replace(path)
            elif kind == "append":
                with path.open("ab") as file:
                    file.write(bytes(100))
            else:
                path.write_bytes(b"")
        except FileNotFoundError:
            pass
        time.sleep(draw.uniform(0.005, 0.05))


def many_files(folder: Path, times: int) -> Iterator[str]:
    """Yield for each of so many images whether its result is right; last, what grew meanwhile."""
    kinds = 20
    for at in range(times):
        path = folder / "in" / str(at % 7) / f"{at}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if at < kinds:
            write_rgb8(path, noise(8, 9, seed=at))
        else:
            shutil.copy(folder / "in" / str(at % kinds % 7) / f"{at % kinds}.png", path)
    words = ["upscale", "-i", folder / "in", "-o", folder / "out"]
    bundle = str(tiny_bundle(folder / "tiny"))
    process = start(
        [*map(str, words), "-n", bundle], cache=folder / "cache", stdout=None, stderr=None
    )
    early = late = None
    while process.poll() is None:
        done = sum(len(names) for _, _, names in os.walk(folder / "out"))
        seen = _held(process.pid)
        if done > times // 10 and early is None:
            early = seen
        late = seen or late
        time.sleep(0.2)
    results = contents(folder / "out")
    for at in range(times):
        same = at % kinds
        one = results.get(f"{at % 7}/{at}.png")
        is_right = one is not None and one == results.get(f"{same % 7}/{same}.png")
        yield "" if is_right else "a result is missing or wrong"
    yield _growth(early, late) or ("" if process.returncode == 0 else "it failed")


def _held(process_id: int) -> tuple[int, int] | None:
    """Return the resident memory and the open files of a process."""
    try:
        status = Path(f"/proc/{process_id}/status").read_text(encoding="ascii")
        handles = len(list(Path(f"/proc/{process_id}/fd").iterdir()))
    except OSError:
        return None
    sizes = [int(line.split()[1]) << 10 for line in status.splitlines() if "VmRSS" in line]
    return (sizes[0], handles) if sizes else None


def _growth(early: tuple[int, int] | None, late: tuple[int, int] | None) -> str:
    if early is None or late is None:
        return "not measured"
    memory, handles = late[0] - early[0], late[1] - early[1]
    print(f"memory {early[0] >> 20} -> {late[0] >> 20} MiB, files {early[1]} -> {late[1]}")
    if memory > _GROWTH_BYTES:
        return f"memory grew by {memory >> 20} MiB"
    return f"{handles} more open files" if handles > 8 else ""


def wide_image(folder: Path, times: int) -> Iterator[str]:
    """Yield whether an image of 40,000 x 3,000 px comes out as its parts do.

    It is made of equal tiles, so any of its places away from the borders tells of all others.
    """
    tile = noise(300, 400)
    rows, columns = _WIDE
    write_rgb8(folder / "wide.png", np.tile(tile, (rows // 300, columns // 400, 1)))
    write_rgb8(folder / "part.png", np.tile(tile, (3, 3, 1)))
    bundle = str(tiny_bundle(folder / "tiny", attention=False))  # that has no means of the whole
    part = np.empty(0)
    for at in range(times + 1):
        name = "wide" if at else "part"
        words = ["upscale", "-i", folder / f"{name}.png", "-o", folder / f"{name}_sr.png"]
        memory = ["--memory", "1500MB"]
        ended = finish(
            start([*map(str, words), "-n", bundle, *memory], cache=folder / "cache"),
            timeout_s=3600,
        )
        if problem := ended.problem(0):
            yield problem
        elif at == 0:
            part = read_rgb8(folder / "part_sr.png")[600:1200, 800:1600]
        else:
            yield _unlike(folder / "wide_sr.png", part)


def _unlike(path: Path, part: np.ndarray) -> str:
    """Return whether places of a large result differ from that of its part."""
    image = pyvips.Image.new_from_file(str(path))
    if (image.width, image.height) != (2 * _WIDE[1], 2 * _WIDE[0]):
        return f"is {image.width}x{image.height}"
    for left, top in ((800, 600), (40_000, 3000), (78_400, 4800)):
        place = image.crop(left, top, 800, 600).numpy()
        if not np.array_equal(place, part):
            return f"differs from its part at {left}, {top}"
    return ""


def memory_options(model: str, photo: Path) -> Callable[[Path, int], Iterator[str]]:
    """Return the case of a shipped model on a real photograph with little and with much memory."""

    def run(folder: Path, times: int) -> Iterator[str]:
        """Yield for each pair of runs whether both give the same bytes."""
        for _ in range(times):
            results = []
            for size in ("300MB", "4GiB"):
                words = ["upscale", "-i", photo, "-o", folder / f"{size}.png", "-n", model]
                command = [*map(str, words), "--memory", size]
                ended = finish(start(command, cache=folder / "cache"), timeout_s=3600)
                if problem := ended.problem(0):
                    yield f"--memory {size}: {problem}"
                    break
                results += contents(folder / f"{size}.png").values()
            else:
                yield "" if results[0] == results[1] else "the files differ"

    return run
