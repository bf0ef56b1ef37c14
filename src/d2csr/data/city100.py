"""City100's import: the authors' interpolated LR images resampled to an integer grid."""

import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from d2csr.core.errors import DataError, PairError
from d2csr.core.geometry import Size
from d2csr.core.manifest import MANIFEST_NAME, Manifest, Pair, write_manifest
from d2csr.images.reader import read_rgb8
from d2csr.images.writer import write_rgb8

LICENCE = "MIT (C. Chen et al., CVPR 2019, github.com/ngchc/CameraSR)"
TEST_SCENES = frozenset({1, 16, 48, 60, 98})  # the data set's own
VAL_SCENES = frozenset({5, 25, 50, 70, 90})
_SOURCE = re.compile(r"(?P<scene>\d{3})(?P<role>[HL])\.png", re.IGNORECASE)


@dataclass(frozen=True)
class Camera:
    """One of the two cameras: the authors' folder, and name, folder and scale here."""

    source: str
    name: str
    folder: str
    scale: int


CAMERAS = (
    Camera("City100_NikonD5500", "Nikon", "nikon_d5500_x3", 3),
    Camera("City100_iPhoneX", "iPhoneX", "iphone_x_x2", 2),
)


@dataclass(frozen=True)
class _Scene:
    """One scene of one camera: its two files, and the folder that its pair is written to."""

    number: int
    camera: Camera
    files: Mapping[str, Path]
    output: Path

    @property
    def split(self) -> str:
        """Return train, val or test."""
        if self.number in TEST_SCENES:
            return "test"
        return "val" if self.number in VAL_SCENES else "train"

    def target(self, role: str) -> Path:
        """Return the path that the HR or LR image is written to."""
        name = f"{self.camera.name}_{self.number:03d}_{role}.webp"
        return self.output / self.camera.folder / self.split / name


def import_city100(
    clone: Path, output: Path, *, scenes: frozenset[int] | None = None
) -> tuple[Manifest, ...]:
    """Write City100's pairs as lossless WebP, and return a manifest for each camera.

    HR images keep every pixel. The published LR images are interpolated to the HR size by a
    factor that is no integer. They hold next to nothing above the new grid's Nyquist frequency, so
    x3 keeps every third pixel from the second on, and x2 the mean of each 2x2 block, rounded half
    to even.

    Args:
        clone: a clone of the authors' repository; the camera folders are found at any depth.
        output: gets `nikon_d5500_x3` and `iphone_x_x2`, each with train, val, test and a manifest.
        scenes: numbers to take; None takes every scene.

    Raises:
        DataError: no camera folder is there, or scenes or files are missing; all are named.
        ImageError: an image can't be read.
    """
    found = list(_find_scenes(clone, output, wanted=scenes))
    _check_complete(clone, found, wanted=scenes)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        pairs = list(pool.map(_import_scene, found))
    manifests = []
    for camera in CAMERAS:
        own = [pair for scene, pair in zip(found, pairs, strict=True) if scene.camera == camera]
        if own:
            manifest = Manifest(camera.scale, LICENCE, tuple(own), output / camera.folder)
            write_manifest(manifest, manifest.folder / MANIFEST_NAME)
            manifests.append(manifest)
    return tuple(manifests)


def find_cameras(folder: Path) -> list[Camera]:
    """Return the cameras whose folders, named as the authors do, are in a folder at any depth."""
    return list(dict.fromkeys(camera for camera, _ in _find_camera_folders(folder)))


def recover_lr(published: UInt8[np.ndarray, "h w 3"], scale: int) -> UInt8[np.ndarray, "lh lw 3"]:
    """Return the LR image on the integer grid, from one interpolated to the HR size."""
    if scale == 3:
        return published[1::3, 1::3]
    height, width, _ = published.shape
    blocks = published.reshape(height // scale, scale, width // scale, scale, 3)
    return np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)


def read_scenes(path: Path) -> frozenset[int]:
    """Return the scene numbers in a text file, separated by spaces, commas or line breaks.

    Raises:
        DataError: the file can't be read, holds anything else, or is empty.
    """
    try:
        words = path.read_text(encoding="utf-8").replace(",", " ").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, "can't be read", remedy="Give a text file of numbers.") from error
    if wrong := [word for word in words if not (word.isascii() and word.isdigit())]:
        problem = f"holds {', '.join(map(repr, wrong))}, instead of scene numbers"
        raise DataError(path, problem, remedy="List numbers such as 1, 16, 48.")
    if not words:
        raise DataError(path, "contains no scene numbers", remedy="List some, such as 1, 16, 48.")
    return frozenset(int(word) for word in words)


def _find_camera_folders(clone: Path) -> Iterator[tuple[Camera, Path]]:
    for camera in CAMERAS:
        for folder in sorted({clone, *clone.rglob(camera.source)}):
            if folder.name == camera.source and folder.is_dir():
                yield camera, folder


def _find_scenes(clone: Path, output: Path, *, wanted: frozenset[int] | None) -> Iterator[_Scene]:
    for camera, folder in _find_camera_folders(clone):
        files: dict[int, dict[str, Path]] = {}
        for path in sorted(folder.iterdir()):
            if match := _SOURCE.fullmatch(path.name):
                files.setdefault(int(match["scene"]), {})[match["role"].upper()] = path
        for number, both in files.items():
            if wanted is None or number in wanted:
                yield _Scene(number, camera, both, output)


def _check_complete(clone: Path, found: list[_Scene], *, wanted: frozenset[int] | None) -> None:
    """Raise a DataError that names every missing scene and file, if there are any."""
    if not found:
        problem = "contains no scenes of City100_NikonD5500 or City100_iPhoneX"
        remedy = "Give a clone of github.com/ngchc/CameraSR."
        raise DataError(clone, problem, remedy=remedy)
    missing = [
        f"{scene.camera.source}/{scene.number:03d}{role}.PNG"
        for scene in found
        for role in "HL"
        if role not in scene.files
    ]
    absent = (wanted or frozenset()) - {scene.number for scene in found}
    missing += [f"scene {number}" for number in sorted(absent)]
    if missing:
        problem = f"lacks {', '.join(missing)}"
        raise DataError(clone, problem, remedy="Complete the clone, or choose other scenes.")


def _import_scene(scene: _Scene) -> Pair:
    """Write the pair of a scene, and return it."""
    scale = scene.camera.scale
    hr, published = read_rgb8(scene.files["H"]), read_rgb8(scene.files["L"])
    if hr.shape != published.shape or hr.shape[0] % scale or hr.shape[1] % scale:
        sizes = " and ".join(str(_size(image)) for image in (hr, published))
        problem = f"the two images are {sizes} px, not equal or no multiple of {scale}"
        raise PairError(scene.files["L"], problem, remedy="Use the authors' files unchanged.")
    lr = recover_lr(published, scale)
    lr_path, hr_path = scene.target(f"LR{scale}"), scene.target("HR")
    write_rgb8(lr_path, lr)
    write_rgb8(hr_path, hr)
    name = f"{scene.camera.name}_{scene.number:03d}"
    sizes = _size(lr), _size(hr)
    return Pair(name, scene.split, lr_path, hr_path, *sizes, camera=scene.camera.name)


def _size(image: UInt8[np.ndarray, "h w 3"]) -> Size:
    return Size(image.shape[1], image.shape[0])
