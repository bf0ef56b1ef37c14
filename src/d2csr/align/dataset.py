"""Training set on disk: images of accepted pairs in their splits, and the manifest."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from d2csr.align.outcome import IMAGES, PairResult
from d2csr.core.files import sha256_file
from d2csr.core.geometry import Size
from d2csr.core.manifest import MANIFEST_NAME, Manifest, Pair, assign_splits, write_manifest

SPLITS = ("train", "val", "test")
FolderLayout = Literal["splits", "realsr"]

# Folder of the images of a split, by layout; RealSR V3 has a folder per camera.
FOLDERS: Mapping[FolderLayout, Callable[[str, str, int], str]] = {
    "splits": lambda split, camera, scale: split,
    "realsr": lambda split, camera, scale: f"{camera}/{split.capitalize()}/{scale}",
}


@dataclass(frozen=True)
class DatasetLayout:
    """Folders, names and splits of a training set.

    Attributes:
        scale: HR pixels per LR pixel, along one axis.
        folders: arrangement of the folders: `splits`, or that of RealSR V3.
        seed: of the assignment of scenes to splits.
        val: share of the scenes for validation.
        test: share of the scenes for testing.
        licence: licence of the photographs, for the manifest.
    """

    scale: int
    folders: FolderLayout = "splits"
    seed: int = 0
    val: float = 0.1
    test: float = 0.1
    licence: str = ""


def write_set(
    results: Sequence[PairResult], work: Path, *, output: Path, layout: DatasetLayout
) -> Manifest:
    """Move the images of accepted pairs to their splits, write the manifest and return it."""
    accepted = [result for result in results if result.is_accepted]
    splits = split_scenes([result.photos.scene for result in accepted], layout)
    pairs = tuple(
        _place_pair(result, splits[result.photos.scene], work=work, output=output, layout=layout)
        for result in accepted
    )
    manifest = Manifest(layout.scale, layout.licence, pairs, output)
    write_manifest(manifest, output / MANIFEST_NAME)
    return manifest


def split_scenes(scenes: Sequence[str], layout: DatasetLayout) -> dict[str, str]:
    """Return the split of each scene, assigned by a hash of its name and the seed."""
    shuffled = sorted(set(scenes), key=lambda scene: _hash(layout.seed, scene))
    return assign_splits(shuffled, val=layout.val, test=layout.test, fill_splits=True)


def _hash(seed: int, scene: str) -> str:
    return hashlib.sha256(f"{seed}:{scene}".encode()).hexdigest()


def target_path(
    result: PairResult, kind: str, *, split: str, output: Path, layout: DatasetLayout
) -> Path:
    """Return the path of an image of a pair in the set."""
    if kind == "mask":
        return output / "masks" / f"{result.name}.png"
    folder = output / FOLDERS[layout.folders](split, result.camera, layout.scale)
    return folder / f"{result.name}_{kind if kind == 'HR' else f'LR{layout.scale}'}.png"


def locate(
    result: PairResult, kind: str, *, work: Path, output: Path, layout: DatasetLayout
) -> Path | None:
    """Return the present path of an image: in the work folder, or in any split of any layout.

    Files with the same name but other contents are ignored; None if there is no other.
    """
    paths = [
        work / f"{result.name}_{kind}.png",
        *_possible_paths(result, kind, output=output, layout=layout),
    ]
    digest = result.images.hashes[kind]
    return next((path for path in paths if path.is_file() and sha256_file(path) == digest), None)


def remove_stale(
    results: Sequence[PairResult], manifest: Manifest, *, work: Path, layout: DatasetLayout
) -> None:
    """Remove images of these pairs, from work folder and set, that aren't in the manifest."""
    used = {path for pair in manifest for path in (pair.lr, pair.hr, pair.mask)}
    for result in results:
        for kind in IMAGES:
            paths = _possible_paths(result, kind, output=manifest.folder, layout=layout)
            for path in (work / f"{result.name}_{kind}.png", *paths):
                if path not in used:
                    path.unlink(missing_ok=True)


def _possible_paths(
    result: PairResult, kind: str, *, output: Path, layout: DatasetLayout
) -> list[Path]:
    """Return the paths of an image in every split of every layout."""
    layouts = [replace(layout, folders=folders) for folders in FOLDERS]
    paths = [
        target_path(result, kind, split=split, output=output, layout=each)
        for each in layouts
        for split in SPLITS
    ]
    return list(dict.fromkeys(paths))


def _place_pair(
    result: PairResult, split: str, *, work: Path, output: Path, layout: DatasetLayout
) -> Pair:
    """Move the images of a pair to their split and return its entry for the manifest."""
    paths = {}
    for kind in result.images.hashes:
        source = locate(result, kind, work=work, output=output, layout=layout)
        paths[kind] = target_path(result, kind, split=split, output=output, layout=layout)
        if source is None:
            raise FileNotFoundError(paths[kind])
        paths[kind].parent.mkdir(parents=True, exist_ok=True)
        source.replace(paths[kind])
    return Pair(
        result.name,
        split,
        paths["LR"],
        paths["HR"],
        Size(*result.images.lr_size),
        Size(*result.images.hr_size),
        result.images.hashes["LR"],
        result.images.hashes["HR"],
        paths.get("mask"),
        result.registration.scores,
        result.registration.transform,
        result.camera,
    )
