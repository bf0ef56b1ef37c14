"""Commands `data check`, `data import city100` and `data bicubic`: pairs checked and made."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import PositiveInt
from cyclopts.validators import Number

from d2csr.core.console import print_error, print_line


def check(
    folder: Path,
    /,
    *,
    scale: PositiveInt | None = None,
    patch: Annotated[PositiveInt | None, Parameter(name="--patch")] = None,
    mask_limit: Annotated[float, Parameter(validator=Number(gte=0, lte=1))] = 0.0,
    allow_outside: bool = False,
) -> int:
    """Find every error in a set of pairs: missing, damaged, mislabelled, of the wrong size.

    Args:
        folder: A manifest, a list of pairs, or a folder in any layout that training takes.
        scale: Scale to check, if there are several.
        patch: Side of the LR crops that training will cut; smaller images are then errors.
        mask_limit: Largest masked share of a crop, 0..1; a pair that allows no crop is an error.
        allow_outside: Allow manifests whose pairs lie outside their folder.
    """
    from d2csr.data.sources import open_pairs
    from d2csr.data.validation import check_pairs

    manifest = open_pairs(folder, scale=scale, allow_outside=allow_outside)
    errors = check_pairs(manifest, patch_px=patch, mask_limit=mask_limit)
    for error in errors:
        print_error(error)
    splits = [name or "no split" for name in manifest.splits]
    found = f"{len(manifest)} pairs of scale {manifest.scale} ({', '.join(splits)})"
    print_line(f"{folder}: {found}, {len(errors) or 'no'} error{'' if len(errors) == 1 else 's'}")
    return 2 if errors else 0


def city100(
    clone: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    scenes: Path | None = None,
) -> int:
    """Write City100's pairs on an integer grid, with a manifest for each camera.

    Args:
        clone: A clone of github.com/ngchc/CameraSR; the camera folders are found at any depth.
        output: Folder that gets `nikon_d5500_x3` and `iphone_x_x2`.
        scenes: Text file of the scene numbers to take; all scenes without it.
    """
    from d2csr.core.console import console
    from d2csr.data.city100 import import_city100, read_scenes

    wanted = None if scenes is None else read_scenes(scenes)
    with console().status("Importing; all 200 pairs take minutes"):
        manifests = import_city100(clone, output, scenes=wanted)
    for manifest in manifests:
        splits = [f"{len(manifest.of_split(name))} {name}" for name in ("train", "val", "test")]
        print_line(f"{manifest.folder}: {', '.join(splits)}")
    return 0


def bicubic(
    photos: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    scale: Annotated[PositiveInt, Parameter(name=["--scale", "-s"])],
    split: str = "",
    licence: str = "",
) -> int:
    """Make pairs from photos and their bicubic reductions, as MATLAB's imresize reduces.

    Args:
        photos: Folder of sharp images, searched at any depth.
        output: Folder that gets the pairs and their manifest.
        scale: How many times smaller the LR images are.
        split: Name of the split in the manifest: train, val or test.
        licence: The photos' licence, for the manifest.
    """
    from d2csr.data.synthetic import make_bicubic_pairs

    manifest = make_bicubic_pairs(photos, output, scale=scale, split=split, licence=licence)
    print_line(f"{output}: {len(manifest)} pairs of scale {scale}")
    return 0
