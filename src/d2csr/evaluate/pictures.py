"""A folder of finished pictures as a system: whatever made them, by the pairs' names."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import final

from d2csr.core.errors import D2csrError, DataError, ImageError
from d2csr.core.manifest import Manifest, Pair
from d2csr.evaluate.system import Enlarge, Enlarged
from d2csr.images.formats import is_image_name
from d2csr.images.read import image_size, read_rgb8

REMEDY = "Put one picture a pair there, named NAME.png, NAME_SR.png, NAME_SRx3.png or NAME_LR3.png."


@final
@dataclass(frozen=True)
class Pictures:
    """Finished SR pictures, found by name."""

    folder: Path
    name: str
    weights_sha256: str | None = None
    fitted_on: str | None = None
    predicts: bool = False

    def faults(self, manifest: Manifest) -> list[D2csrError]:
        """Return the missing pictures in one fault, and one each for those that can't be used."""
        files = _pictures_by_stem(self.folder)
        found = {pair.name: _candidates(pair, files, scale=manifest.scale) for pair in manifest}
        faults = [fault for pair in manifest for fault in _picture_faults(pair, found[pair.name])]
        if missing := [name for name, paths in found.items() if not paths]:
            problem = f"{len(missing)} of {len(found)} pictures are missing: {', '.join(missing)}"
            faults.insert(0, DataError(self.folder, problem, remedy=REMEDY))
        return faults

    def open(self, manifest: Manifest) -> Enlarge:
        """Return the function that reads a pair's picture."""
        files = _pictures_by_stem(self.folder)
        scale = manifest.scale
        return lambda pair, _: Enlarged(read_rgb8(_candidates(pair, files, scale=scale)[0]))


def holds_pictures(folder: Path) -> bool:
    """Return whether any picture lies directly in `folder`."""
    return folder.is_dir() and bool(_pictures_by_stem(folder))


def _pictures_by_stem(folder: Path) -> dict[str, list[Path]]:
    """Return the pictures that lie directly in `folder`."""
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if is_image_name(path) and path.is_file():
            files.setdefault(path.stem, []).append(path)
    return files


def _candidates(pair: Pair, files: dict[str, list[Path]], *, scale: int) -> list[Path]:
    """Return the pictures that answer to a pair's name."""
    return [path for stem in _stems(pair, scale) for path in files.get(stem, [])]


def _stems(pair: Pair, scale: int) -> Iterator[str]:
    """Return the file names, without ending, that an SR picture of the pair may have."""
    lr_parts = ("", "_LR", f"_LR{scale}", f"_LRx{scale}", f"x{scale}")
    sr_parts = ("", "_SR", f"_SR{scale}", f"_SRx{scale}", f"_x{scale}", f"_X{scale}")
    stems = dict.fromkeys([*(pair.name + part for part in lr_parts), pair.lr.stem])
    yield from dict.fromkeys(stem + part for stem, part in product(stems, sr_parts))


def _picture_faults(pair: Pair, paths: list[Path]) -> Iterator[D2csrError]:
    """Return what is wrong with the pictures that answer to one pair."""
    if len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        problem = f"{len(paths)} pictures answer to {pair.name}: {names}"
        yield DataError(paths[0].parent, problem, remedy="Keep one of them.")
    elif paths:
        try:
            size = image_size(paths[0])
        except ImageError as fault:
            yield fault
            return
        if tuple(size) != tuple(pair.hr_size):
            told = "{}x{} px, HR is {}x{} px".format(*size, *pair.hr_size)
            yield DataError(paths[0], f"is {told}", remedy="Give a picture of the HR's size.")
