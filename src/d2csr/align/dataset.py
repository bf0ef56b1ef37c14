"""The training set: accepted pairs in their splits, with the manifest that training reads."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from d2csr.align.outcome import IMAGES, PairResult
from d2csr.align.pair_worker import move_image
from d2csr.core.files import sha256_file
from d2csr.core.geometry import Size
from d2csr.core.manifest import MANIFEST_NAME, Manifest, Pair, assign_splits, write_manifest

SPLITS = ("train", "val", "test")
Layout = Literal["splits", "realsr"]

# Folder of a split's images, by layout; RealSR V3 sorts by camera first.
FOLDERS: Mapping[Layout, Callable[[str, str, int], str]] = {
    "splits": lambda split, camera, scale: split,
    "realsr": lambda split, camera, scale: f"{camera}/{split.capitalize()}/{scale}",
}


@dataclass(frozen=True)
class DatasetLayout:
    """How a set is laid out and split.

    Attributes:
        scale: HR pixels to an LR pixel.
        layout: of the folders.
        seed: decides which scene goes where.
        val: share of the scenes for validation.
        test: share of the scenes for testing.
        licence: what the manifest says.
    """

    scale: int
    layout: Layout = "splits"
    seed: int = 0
    val: float = 0.1
    test: float = 0.1
    licence: str = ""


def write_set(
    outcomes: Sequence[PairResult], work: Path, *, out: Path, shape: DatasetLayout
) -> Manifest:
    """Move the accepted pairs' images to their places and write the manifest; return it."""
    accepted = [outcome for outcome in outcomes if outcome.verdict == "accepted"]
    splits = split_scenes([outcome.scene for outcome in accepted], shape)
    pairs = tuple(
        _placed(outcome, splits[outcome.scene], work=work, out=out, shape=shape)
        for outcome in accepted
    )
    manifest = Manifest(shape.scale, shape.licence, pairs, out)
    write_manifest(manifest, out / MANIFEST_NAME)
    return manifest


def split_scenes(scenes: Sequence[str], shape: DatasetLayout) -> dict[str, str]:
    """Return the split of each scene, drawn by a hash of its name with the seed."""
    shuffled = sorted(set(scenes), key=lambda scene: _hash(shape.seed, scene))
    return assign_splits(shuffled, val=shape.val, test=shape.test, fill_splits=True)


def _hash(seed: int, scene: str) -> str:
    return hashlib.sha256(f"{seed}:{scene}".encode()).hexdigest()


def place(outcome: PairResult, kind: str, *, split: str, out: Path, shape: DatasetLayout) -> Path:
    """Return where an image of a pair belongs."""
    if kind == "mask":
        return out / "masks" / f"{outcome.name}.png"
    folder = out / FOLDERS[shape.layout](split, outcome.camera, shape.scale)
    return folder / f"{outcome.name}_{kind if kind == 'HR' else f'LR{shape.scale}'}.png"


def locate(
    outcome: PairResult, kind: str, *, work: Path, out: Path, shape: DatasetLayout
) -> Path | None:
    """Return where an image lies now: in the work folder, or any split of any layout, or None.

    A file of that name with other contents, of an earlier run, is not it.
    """
    there = [work / f"{outcome.name}_{kind}.png", *_places(outcome, kind, out=out, shape=shape)]
    known = outcome.hashes[kind]
    return next((path for path in there if path.is_file() and sha256_file(path) == known), None)


def remove_stale(
    outcomes: Sequence[PairResult], manifest: Manifest, *, work: Path, shape: DatasetLayout
) -> None:
    """Remove images of these pairs, in work or set, that the set's manifest doesn't name."""
    named = {path for pair in manifest for path in (pair.lr, pair.hr, pair.mask)}
    for outcome in outcomes:
        for kind in IMAGES:
            places = _places(outcome, kind, out=manifest.folder, shape=shape)
            for path in (work / f"{outcome.name}_{kind}.png", *places):
                if path not in named:
                    path.unlink(missing_ok=True)


def _places(outcome: PairResult, kind: str, *, out: Path, shape: DatasetLayout) -> list[Path]:
    """Return where an image may lie, by split and layout."""
    shapes = [replace(shape, layout=layout) for layout in FOLDERS]
    places = [
        place(outcome, kind, split=split, out=out, shape=each)
        for each in shapes
        for split in SPLITS
    ]
    return list(dict.fromkeys(places))


def _placed(
    outcome: PairResult, split: str, *, work: Path, out: Path, shape: DatasetLayout
) -> Pair:
    paths = {}
    for kind in IMAGES:
        if kind not in outcome.hashes:
            continue
        now, paths[kind] = (
            locate(outcome, kind, work=work, out=out, shape=shape),
            place(outcome, kind, split=split, out=out, shape=shape),
        )
        if now is None:
            raise FileNotFoundError(paths[kind])
        if now != paths[kind]:
            move_image(now, paths[kind])
    return Pair(
        outcome.name,
        split,
        paths["LR"],
        paths["HR"],
        Size(*outcome.lr_size),
        Size(*outcome.hr_size),
        outcome.hashes["LR"],
        outcome.hashes["HR"],
        paths.get("mask"),
        outcome.scores,
        outcome.transform,
        outcome.camera,
    )
