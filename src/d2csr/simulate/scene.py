"""What stands before the camera: planes of texture, from a photo or made of chance."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from d2csr.core.grid import Size
from d2csr.simulate.camera import ScenePart

_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)  # fmt: skip
_LETTERS = np.array(list("ABCDEFGHJKLMNPRSTUVXYZabcdefghkmnopqrstuvxyz0123456789"))


@dataclass(frozen=True)
class Plane:
    """One textured plane, facing the camera and centred before it.

    Attributes:
        texture: sRGB picture.
        cover: 255 where the plane is, 0 where one sees through; None covers all.
        distance_m: from the nominal camera.
        pitch_m: distance of the texture's pixels.
    """

    texture: UInt8[np.ndarray, "h w 3"]
    cover: UInt8[np.ndarray, "h w"] | None
    distance_m: float
    pitch_m: float

    @property
    def size(self) -> Size:
        """Return the texture's size."""
        return Size(self.texture.shape[1], self.texture.shape[0])


@dataclass(frozen=True)
class Scene:
    """Planes from the backdrop to the nearest; the lens focuses on the backdrop."""

    planes: tuple[Plane, ...]

    @property
    def distance_m(self) -> float:
        """Return the distance of the backdrop."""
        return self.planes[0].distance_m


def flat_scene(photo: UInt8[np.ndarray, "h w 3"], *, distance_m: float, pixel_rad: float) -> Scene:
    """Return a photo as a backdrop, each pixel of it seen under an angle."""
    return Scene((Plane(photo, None, distance_m, distance_m * pixel_rad),))


def layered_scene(
    photo: UInt8[np.ndarray, "h w 3"],
    settings: ScenePart,
    *,
    pixel_rad: float,
    rng: np.random.Generator,
) -> Scene:
    """Return a photo as a backdrop, and mirrored pieces of it as planes in front."""
    scene = flat_scene(photo, distance_m=settings.distance_m, pixel_rad=pixel_rad)
    shares = sorted(rng.uniform(*settings.layer_distance, settings.layers), reverse=True)
    nearer = tuple(
        Plane(
            np.ascontiguousarray(np.roll(photo[:, ::-1], rng.integers(photo.shape[1]), axis=1)),
            blob(Size(photo.shape[1], photo.shape[0]), rng.uniform(*settings.layer_area), rng=rng),
            settings.distance_m * share,
            settings.distance_m * share * pixel_rad,
        )
        for share in shares
    )
    return Scene(scene.planes + nearer)


def blob(size: Size, share: float, *, rng: np.random.Generator) -> UInt8[np.ndarray, "h w"]:
    """Return a mask, 255 in smooth blobs that cover a share of it, with edges a pixel wide."""
    coarse = rng.standard_normal((12, 12)).astype(np.float32)
    height = cv2.resize(cv2.GaussianBlur(coarse, (0, 0), 1.2), size, interpolation=cv2.INTER_CUBIC)
    level = np.quantile(height[::4, ::4], 1 - share)
    slope = np.hypot(*np.gradient(height)) + 1e-6
    return (255 * np.clip((height - level) / slope + 0.5, 0, 1)).astype(np.uint8)


def procedural(size: Size, *, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Return a picture of texture, edges, lines and text, all of it drawn by chance."""
    image = _texture(size, rng=rng)
    area = size.width * size.height
    for _ in range(10 + area // 40_000):
        _draw_shape(image, rng=rng)
    for _ in range(10 + area // 30_000):
        _draw_text(image, rng=rng)
    grain = rng.integers(-3, 4, image.shape[:2], np.int8)[..., None]
    return np.clip(image.astype(np.int16) + grain, 0, 255).astype(np.uint8)


def _texture(size: Size, *, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Return smooth colours under noise whose power falls as in nature, 1 / frequency squared."""
    colour = cv2.resize(
        rng.uniform(30, 225, (5, 7, 3)).astype(np.float32), size, interpolation=cv2.INTER_CUBIC
    )
    noise = _octaves(size, rng=rng)
    strength = 25 * np.clip(1 + _octaves(size, rng=rng, finest=64), 0, None)
    return np.clip(colour + (strength * noise)[..., None], 0, 255).astype(np.uint8)


def _octaves(
    size: Size, *, rng: np.random.Generator, finest: int = 1
) -> Float32[np.ndarray, "h w"]:
    total = np.zeros((size.height, size.width), np.float32)
    step = 256
    while step >= finest:
        nodes = (size.height // step + 3, size.width // step + 3)
        octave = cv2.resize(
            rng.standard_normal(nodes).astype(np.float32),
            (nodes[1] * step, nodes[0] * step),
            interpolation=cv2.INTER_CUBIC,
        )
        total += octave[: size.height, : size.width] * (step / 256) ** 0.5
        step //= 2
    return total


def _draw_shape(image: UInt8[np.ndarray, "h w 3"], *, rng: np.random.Generator) -> None:
    height, width = image.shape[:2]
    centre = rng.uniform((0, 0), (width, height))
    radius = min(width, height) * 0.12 * rng.beta(1, 3) + 4
    colour = tuple(int(value) for value in rng.integers(0, 256, 3))
    corners = int(rng.integers(3, 8))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    points = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    kind = rng.integers(4)
    if kind == 0:
        _draw_grating(image, centre, radius=radius, rng=rng)
    elif kind == 1:
        thickness = int(rng.integers(1, 5))
        cv2.polylines(image, [points.astype(np.int32)], True, colour, thickness, cv2.LINE_AA)
    else:
        cv2.fillPoly(image, [(points * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)


def _draw_grating(
    image: UInt8[np.ndarray, "h w 3"],
    centre: np.ndarray,
    *,
    radius: float,
    rng: np.random.Generator,
) -> None:
    """Draw sine stripes in a square, finer towards one side."""
    (x, y), side = centre.astype(int), int(radius)
    part = image[max(y - side, 0) : y + side, max(x - side, 0) : x + side]
    rows, columns = np.mgrid[: part.shape[0], : part.shape[1]]
    angle = rng.uniform(0, np.pi)
    along = columns * np.cos(angle) + rows * np.sin(angle)
    period = rng.uniform(2.5, 16) * (1 + along / (4 * side))
    stripes = 0.5 + 0.5 * np.sin(2 * np.pi * along / period)
    low, high = rng.integers(0, 256, (2, 3))
    part[...] = low + stripes[..., None] * (high - low)


def _draw_text(image: UInt8[np.ndarray, "h w 3"], *, rng: np.random.Generator) -> None:
    height, width = image.shape[:2]
    words = "".join(rng.choice(_LETTERS, rng.integers(3, 12)))
    place = (int(rng.uniform(-0.05, 0.95) * width), int(rng.uniform(0, 1) * height))
    colour = tuple(int(value) for value in rng.choice([0, 30, 128, 225, 255], 3))
    font, size = _FONTS[rng.integers(len(_FONTS))], float(rng.choice([0.4, 0.6, 1.0, 2.0, 4.0]))
    cv2.putText(image, words, place, font, size, colour, max(1, int(size * 1.5)), cv2.LINE_AA)
