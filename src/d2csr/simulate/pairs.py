"""Training pairs: the wide picture as it is, the tele one as perfect registration would make it."""

from dataclasses import dataclass
from pathlib import Path

from d2csr.core.grid import Size
from d2csr.core.manifest import Pair
from d2csr.images.write import write_rgb8
from d2csr.simulate.camera import Camera
from d2csr.simulate.develop import through_jpeg
from d2csr.simulate.matching import matched
from d2csr.simulate.shots import couple
from d2csr.simulate.sources import Source
from d2csr.simulate.truth import drawn


@dataclass(frozen=True)
class Order:
    """One scene to take: of what, what with, and every draw decided.

    Attributes:
        source: the photo, or the procedural scene.
        name: of its files.
        split: train, val or test.
        scale: tele by wide focal length.
        camera: what it is taken with.
        seed: numbers that decide every draw.
        number: its place among all, from 0.
    """

    source: Source
    name: str
    split: str
    scale: int
    camera: Camera
    seed: tuple[int, ...]
    number: int


def make_pair(order: Order, folder: Path) -> Pair:
    """Write `SPLIT/NAME_HR.png` and `SPLIT/NAME_LRs.png`; return the manifest's entry."""
    both = couple(
        order.source.picture(), order.camera, scale=order.scale, fields=1.0, seed=order.seed
    )
    settings = order.camera.development
    lr = through_jpeg(both.wide.take(both.scene), settings)
    hr = through_jpeg(matched(both.registered.take(both.scene), lr), settings)
    lr_path = folder / order.split / f"{order.name}_LR{order.scale}.png"
    hr_path = folder / order.split / f"{order.name}_HR.png"
    write_rgb8(lr_path, lr)
    write_rgb8(hr_path, hr)
    return Pair(
        order.name,
        order.split,
        lr_path,
        hr_path,
        Size(lr.shape[1], lr.shape[0]),
        Size(hr.shape[1], hr.shape[0]),
        transform={
            "simulated_from": order.source.name,
            "view": both.wide.shot.view.to_json(),
            "planes_m": [plane.distance_m for plane in both.scene.planes],
            "wide": drawn(both.wide),
            "tele": drawn(both.tele),
        },
        camera=order.camera.exif.model,
    )
