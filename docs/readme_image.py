"""Maker of the images of README and docs/photo-models.md: a crop as bicubic, SR, and HR if any.

    D2CSR_DATA=DATA D2CSR_PAIRS=PAIRS python docs/readme_image.py [NAME ...]

makes the images of all shipped models, or those named. `--model BUNDLE --output FOLDER` tries them
with models that don't ship yet.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

import d2csr
from d2csr.core.errors import D2csrError, UsageError
from d2csr.engine.model import Model, shipped_names
from d2csr.images.reader import read_rgb8
from d2csr.images.resize import enlarge_bicubic
from d2csr.images.writer import write_rgb8

IMAGES = Path(__file__).parent / "images"
GAP_PX = 6
SUFFIX = ".png"
VARIABLES = ("D2CSR_DATA", "D2CSR_PAIRS")  # pairs: benchmarks/photo_pairs.py makes them


class Figure(NamedTuple):
    """An image: a square crop of a photograph, enlarged, at one pixel of SR per pixel.

    Attributes:
        model: its name.
        lr: path of the LR image below a variable, as `$VARIABLE/path`.
        hr: path of the HR image; None for a photograph without one.
        corner: left and top of the crop, in LR pixels.
        side: width and height of the crop, likewise.
    """

    model: str
    lr: str
    hr: str | None
    corner: tuple[int, int]
    side: int


NIKON = "$D2CSR_DATA/city100/nikon_d5500_x3/test/Nikon_001"
PHONE = "$D2CSR_DATA/tele_wide_unaligned"  # photographs of a phone, MIT License
BOAT = "$D2CSR_DATA/photos/free/mei_03.avif"  # held back: `photo_pairs.py` has it in split test
FIGURES = {
    "city100-nikon-x3": Figure(
        "city100-nikon-x3", f"{NIKON}_LR3.webp", f"{NIKON}_HR.webp", (120, 150), 96
    ),
    "photo-x4-boat": Figure("photo-x4", BOAT, None, (540, 300), 96),
    "photo-x4-phone": Figure("photo-x4", f"{PHONE}/08_wide.jpg", None, (8, 182), 100),
    "photo-x4-bridge": Figure(
        "photo-x4",
        "$D2CSR_PAIRS/x4/camera/test/Broad_195_LR4.png",
        "$D2CSR_PAIRS/x4/camera/test/Broad_195_HR.png",
        (50, 25),
        64,
    ),
    "photo-x3-phone": Figure("photo-x3", f"{PHONE}/08_wide.jpg", None, (0, 165), 130),
    "photo-x2-phone": Figure("photo-x2", f"{PHONE}/08_wide.jpg", None, (0, 130), 180),
    "photo-x2-boat": Figure(
        "photo-x2",
        "$D2CSR_PAIRS/x2/camera/test/Slr_058_LR2.png",
        "$D2CSR_PAIRS/x2/camera/test/Slr_058_HR.png",
        (205, 85),
        120,
    ),
}


def main() -> None:
    """Make the images that are asked for."""
    arguments = parse(sys.argv[1:])
    try:
        models = {model.name: model for model in map(d2csr.load, arguments.model)}
        figures = choose(arguments.name, models)
        for name, figure in figures.items():
            check_files(name, figure)
        for name, figure in figures.items():
            model = models.get(figure.model) or d2csr.load(figure.model)
            path = arguments.output / f"{name}{SUFFIX}"
            write_rgb8(path, draw(figure, model))
            print(f"{path}: {path.stat().st_size // 1000} kB")
    except D2csrError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def parse(words: list[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="*", help=f"one of {', '.join(FIGURES)}")
    parser.add_argument("--model", nargs="+", default=[], help="bundles or runs")
    parser.add_argument("--output", type=Path, default=IMAGES)
    return parser.parse_args(words)


def choose(names: Sequence[str], models: dict[str, Model]) -> dict[str, Figure]:
    """Return the figures that are named; without names, those of the models that are there.

    Raises:
        UsageError: there is no figure of a name, or its model doesn't ship and isn't given.
    """
    there = {*models, *shipped_names()}
    if unknown := [name for name in names if name not in FIGURES]:
        problem = f"{', '.join(unknown)}: no such image"
        raise UsageError("name", problem, remedy=f"Choose from {', '.join(FIGURES)}.")
    figures = {name: each for name, each in FIGURES.items() if name in names}
    if missing := {each.model for each in figures.values()} - there:
        problem = f"{', '.join(sorted(missing))} doesn't ship"
        raise UsageError("name", problem, remedy="Give the bundle with --model.")
    return figures or {name: each for name, each in FIGURES.items() if each.model in there}


def check_files(name: str, figure: Figure) -> None:
    """Raise a UsageError if a file of a figure isn't there."""
    for text in (figure.lr, figure.hr):
        if text is not None and not find(text).is_file():
            remedy = f"Set {' and '.join(VARIABLES)} to the folders of photographs and of pairs."
            raise UsageError(name, f"{text} isn't there", remedy=remedy)


def find(text: str) -> Path:
    """Return the path of a file below a variable; a variable that isn't set stays."""
    return Path(os.path.expandvars(text))


def draw(figure: Figure, model: Model) -> UInt8[np.ndarray, "h w 3"]:
    """Return the crop as bicubic, SR and, if there is one, HR, side by side.

    The model runs on the whole image, as it does for users.
    """
    lr = read_rgb8(find(figure.lr))
    images = [enlarge_bicubic(lr, model.scale), model.upscale(lr)]
    if figure.hr is not None:
        images.append(read_rgb8(find(figure.hr)))
    return side_by_side([crop(image, figure, scale=model.scale) for image in images])


def crop(
    image: UInt8[np.ndarray, "h w 3"], figure: Figure, *, scale: int
) -> UInt8[np.ndarray, "p p 3"]:
    """Return the part that a figure shows."""
    columns, rows = (slice(at * scale, (at + figure.side) * scale) for at in figure.corner)
    return image[rows, columns]


def side_by_side(images: list[UInt8[np.ndarray, "h w 3"]]) -> UInt8[np.ndarray, "h _ 3"]:
    """Return images of one height in a row, with white between them."""
    gap = np.full((images[0].shape[0], GAP_PX, 3), 255, np.uint8)
    row = [part for image in images for part in (image, gap)]
    return np.concatenate(row[:-1], axis=1)


if __name__ == "__main__":
    main()
