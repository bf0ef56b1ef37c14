"""Maker of README's image: one crop as bicubic, SR, HR.

D2CSR_DATA=DATA python docs/image.py
"""

import os
import sys
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

import d2csr
from d2csr.images.reader import read_rgb8
from d2csr.images.resize import enlarge_bicubic
from d2csr.images.writer import write_rgb8

IMAGE = Path(__file__).parent / "images" / "city100-nikon-x3.png"
MODEL, SCENE = "city100-nikon-x3", "city100/nikon_d5500_x3/test/Nikon_001"
TOP, LEFT, SIDE = 150, 120, 96  # of the crop, in LR pixels
GAP_PX = 6

UNSET = "D2CSR_DATA is not set: name the folder that holds city100/ in it"


def main() -> None:
    """Write the image: SR pixels at 1:1, bicubic, SR and HR side by side."""
    scene = Path(os.environ.get("D2CSR_DATA") or sys.exit(UNSET)) / SCENE
    lr = read_rgb8(scene.with_name(f"{scene.name}_LR3.webp"))
    hr = read_rgb8(scene.with_name(f"{scene.name}_HR.webp"))
    model = d2csr.load(MODEL)
    images = (enlarge_bicubic(lr, model.scale), model.upscale(lr), hr)
    write_rgb8(IMAGE, side_by_side([crop(image, model.scale) for image in images]))


def crop(image: UInt8[np.ndarray, "h w 3"], scale: int) -> UInt8[np.ndarray, "p p 3"]:
    """Return the part that the image shows."""
    rows, columns = (slice(at * scale, (at + SIDE) * scale) for at in (TOP, LEFT))
    return image[rows, columns]


def side_by_side(images: list[UInt8[np.ndarray, "h w 3"]]) -> UInt8[np.ndarray, "h _ 3"]:
    """Return images of one height in a row, with white between them."""
    gap = np.full((images[0].shape[0], GAP_PX, 3), 255, np.uint8)
    row = [part for image in images for part in (image, gap)]
    return np.concatenate(row[:-1], axis=1)


if __name__ == "__main__":
    main()
