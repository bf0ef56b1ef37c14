"""The sets of pairs of the suite, by scale; those that aren't stored as pairs are made here."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyvips

from d2csr.core.errors import DataError
from d2csr.core.files import atomic_folder
from d2csr.core.manifest import (
    MANIFEST_NAME,
    Manifest,
    Pair,
    read_manifest,
    with_hashes,
    write_manifest,
)
from d2csr.data.sources import open_pairs
from d2csr.data.synthetic import make_bicubic_pairs
from d2csr.data.validation import check_pairs
from d2csr.images.reader import read_rgb8

CITY100 = {  # by scale: folder, camera, how LR was made
    3: ("city100/nikon_d5500_x3", "Nikon", "photographed with a third of the focal length"),
    2: ("city100/iphone_x_x2", "iPhone", "photographed from twice the distance"),
}
REALSR = "realsr_x4_crops/test"
REDUCED = ("Set5", "Set14", "B100")
JPEG_QUALITIES = (90, 75)
SIMULATED = {"camera": "simulated cameras", "phone": "simulated phones"}
CHOOSING = 20  # of the RealSR crops, the first by name, may choose settings
UNSET_PAIRS = "no pairs in `$D2CSR_PAIRS/x{scale}/{name}`"


@dataclass(frozen=True)
class PairSet:
    """Pairs to score.

    Attributes:
        name: key in the results.
        title: name in tables.
        kind: `real`, `reduced`, `jpeg` or `simulated`.
        manifest: the pairs.
        data: where they are, the same on every machine.
        lr: how the LR images were made.
        fit: pairs for the linear filter, and where they are on every machine; None for none.
    """

    name: str
    title: str
    kind: str
    manifest: Manifest
    data: str
    lr: str
    fit: tuple[Path, str] | None = None

    @property
    def is_real(self) -> bool:
        """Return whether both images of a pair were photographed, so that they are registered."""
        return self.kind == "real"

    def limited(self, count: int | None) -> "PairSet":
        """Return the first pairs only; all of them for None."""
        return replace(self, manifest=replace(self.manifest, pairs=self.manifest.pairs[:count]))

    def sha256(self) -> str:
        """Return one hash of all images, which names the contents of the set."""
        parts = [f"{pair.name} {pair.sha256_lr} {pair.sha256_hr}" for pair in self.manifest]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Folders:
    """Folders of the suite.

    Attributes:
        data: D2CSR_DATA.
        build: for the sets that are made.
        pairs: D2CSR_PAIRS, see `photo_pairs.py`; None if it isn't set.
    """

    data: Path
    build: Path
    pairs: Path | None = None


def find_sets(scale: int, folders: Folders) -> tuple[list[PairSet], dict[str, str]]:
    """Return the sets of a scale, hashed, and the reason for each set that is left out.

    Raises:
        D2csrError: a set in D2CSR_DATA is missing, or images of any set can't be used.
    """
    sets = [
        replace(each, manifest=with_hashes(each.manifest))
        for each in (*_real(scale, folders), *_reduced(scale, folders))
    ]
    left_out: dict[str, str] = {}
    for name, title in SIMULATED.items():
        folder = _simulated_folder(scale, folders, name=name)
        if folder is None:
            left_out[name] = f"{title} ({UNSET_PAIRS.format(scale=scale, name=name)})"
        else:
            fit = _camera_fit(scale, folders)
            sets.append(_simulated(folder, scale=scale, title=title, fit=fit))
    errors = [error for each in sets for error in check_pairs(each.manifest, patch_px=None)]
    if errors:
        lines = "\n  ".join([f"{len(errors)} images can't be used", *map(str, errors)])
        raise DataError(folders.data, lines.removesuffix("."), remedy="Restore these files.")
    return sets, left_out


def _real(scale: int, folders: Folders) -> Iterator[PairSet]:
    """Yield the pairs of photographs at this scale."""
    if scale == 4:
        manifest = open_pairs(folders.data / REALSR, scale=scale)
        pairs = tuple(sorted(manifest, key=lambda pair: pair.name))
        yield PairSet(
            name="realsr",
            title=f"RealSR crops, all {len(pairs)}",
            kind="real",
            manifest=replace(manifest, pairs=pairs),
            data=f"$D2CSR_DATA/{REALSR}",
            lr="photographed with a quarter of the focal length",
            fit=_camera_fit(scale, folders),
        )
    if scale in CITY100:
        folder, camera, lr = CITY100[scale]
        yield PairSet(
            name="city100",
            title=f"City100 test, {camera}",
            kind="real",
            manifest=open_pairs(folders.data / folder / "test", scale=scale),
            data=f"$D2CSR_DATA/{folder}/test",
            lr=lr,
            fit=(folders.data / folder / "train", f"$D2CSR_DATA/{folder}/train"),
        )


def _reduced(scale: int, folders: Folders) -> Iterator[PairSet]:
    """Yield the benchmarks reduced by bicubic, and the same after JPEG."""
    for title in REDUCED:
        source = folders.data / "benchmarks" / title
        clean = PairSet(
            name=title.lower(),
            title=title,
            kind="reduced",
            manifest=_reduced_pairs(source, scale, output=folders.build / title),
            data=f"$D2CSR_DATA/benchmarks/{title}",
            lr="reduced by bicubic as MATLAB's imresize does it",
            fit=_camera_fit(scale, folders),
        )
        yield clean
        for quality in JPEG_QUALITIES:
            folder = folders.build / f"{title}_jpeg{quality}"
            yield replace(
                clean,
                name=f"{clean.name}-jpeg{quality}",
                title=f"{title}, JPEG {quality}",
                kind="jpeg",
                manifest=compress_lr(clean.manifest, folder, quality=quality),
                lr=f"{clean.lr}, then JPEG of quality {quality}, 4:2:0, by libvips",
            )


def _reduced_pairs(source: Path, scale: int, *, output: Path) -> Manifest:
    """Return the published pairs of a benchmark, or pairs that are made from its HR images."""
    if (source / "LR_bicubic").is_dir():
        return open_pairs(source, scale=scale)
    if (output / MANIFEST_NAME).is_file():
        return read_manifest(output / MANIFEST_NAME)
    with atomic_folder(output) as folder:
        make_bicubic_pairs(source / "HR", folder, scale=scale)
    return read_manifest(output / MANIFEST_NAME)


def compress_lr(manifest: Manifest, output: Path, *, quality: int) -> Manifest:
    """Return pairs whose LR images are JPEG files in a folder; they are written if missing."""
    if (output / MANIFEST_NAME).is_file():
        return read_manifest(output / MANIFEST_NAME, allow_outside=True)
    with atomic_folder(output) as folder:
        pairs = [_compressed(pair, folder, quality=quality) for pair in manifest]
        made = Manifest(manifest.scale, manifest.licence, tuple(pairs), folder)
        write_manifest(made, folder / MANIFEST_NAME)
    return read_manifest(output / MANIFEST_NAME, allow_outside=True)


def _compressed(pair: Pair, folder: Path, *, quality: int) -> Pair:
    """Write the LR image of a pair as JPEG, and return the pair with it."""
    path = folder / f"{pair.name}_LR.jpg"
    image = pyvips.Image.new_from_array(read_rgb8(pair.lr), interpretation="srgb")
    image.jpegsave(str(path), Q=quality, subsample_mode="on")  # "on": 4:2:0 at any quality
    return replace(pair, lr=path, sha256_lr="")


def _simulated_folder(scale: int, folders: Folders, *, name: str) -> Path | None:
    """Return the folder of simulated pairs; None if they weren't made."""
    folder = None if folders.pairs is None else folders.pairs / f"x{scale}" / name
    return folder if folder is not None and (folder / MANIFEST_NAME).is_file() else None


def _simulated(folder: Path, *, scale: int, title: str, fit: tuple[Path, str] | None) -> PairSet:
    """Return the test split of simulated pairs."""
    return PairSet(
        name=folder.name,
        title=title,
        kind="simulated",
        manifest=read_manifest(folder / MANIFEST_NAME).of_split("test"),
        data=f"$D2CSR_PAIRS/x{scale}/{folder.name}, split test",
        lr=f"by `d2csr simulate --preset {folder.name}`",
        fit=fit,
    )


def _camera_fit(scale: int, folders: Folders) -> tuple[Path, str] | None:
    """Return the pairs that the linear filter is fitted to where no real ones exist."""
    folder = _simulated_folder(scale, folders, name="camera")
    return None if folder is None else (folder, f"$D2CSR_PAIRS/x{scale}/camera, split train")
