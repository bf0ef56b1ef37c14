"""Scenes: textured planes made from photos or drawn procedurally, and how a view samples them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from d2csr.core.errors import DataError
from d2csr.core.geometry import Size
from d2csr.images.formats import is_image_name
from d2csr.images.pixels import LINEAR_OF_SRGB8
from d2csr.images.reader import read_rgb8
from d2csr.simulate.camera_config import SceneConfig
from d2csr.simulate.geometry import FACING, Slope, View

_FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)  # fmt: skip
_LETTERS = np.array(list("ABCDEFGHJKLMNPRSTUVXYZabcdefghkmnopqrstuvxyz0123456789"))


@dataclass(frozen=True)
class Plane:
    """A textured plane, centred in front of the camera.

    Attributes:
        texture: sRGB image.
        alpha: 255 where the plane is opaque, 0 where it is transparent; None: opaque everywhere.
        distance_m: from the nominal camera, in the middle.
        pitch_m: spacing of the texture's pixels in x and y.
        slope: change of the distance per metre to the right and down; 0 faces the camera.
    """

    texture: UInt8[np.ndarray, "h w 3"]
    alpha: UInt8[np.ndarray, "h w"] | None
    distance_m: float
    pitch_m: float
    slope: Slope = FACING

    @property
    def size(self) -> Size:
        """Return the texture's size."""
        return Size(self.texture.shape[1], self.texture.shape[0])


@dataclass(frozen=True)
class Scene:
    """The planes of a scene, the backdrop first, the nearest last."""

    planes: tuple[Plane, ...]

    @property
    def distance_m(self) -> float:
        """Return the distance of the backdrop, on which the lens focuses."""
        return self.planes[0].distance_m


def build_flat_scene(
    photo: UInt8[np.ndarray, "h w 3"], *, distance_m: float, pixel_rad: float
) -> Scene:
    """Return a photo as the backdrop; each of its pixels subtends `pixel_rad`."""
    return Scene((Plane(photo, None, distance_m, distance_m * pixel_rad),))


def build_layered_scene(
    photo: UInt8[np.ndarray, "h w 3"],
    settings: SceneConfig,
    *,
    pixel_rad: float,
    rng: np.random.Generator,
) -> Scene:
    """Return a photo as the backdrop, and mirrored pieces of it as planes in front."""
    scene = build_flat_scene(photo, distance_m=settings.distance_m, pixel_rad=pixel_rad)
    shares = sorted(rng.uniform(*settings.layer_distance, settings.layers), reverse=True)
    nearer = tuple(
        Plane(
            np.ascontiguousarray(np.roll(photo[:, ::-1], rng.integers(photo.shape[1]), axis=1)),
            blob_mask(
                Size(photo.shape[1], photo.shape[0]), rng.uniform(*settings.layer_area), rng=rng
            ),
            settings.distance_m * share,
            settings.distance_m * share * pixel_rad,
        )
        for share in shares
    )
    return Scene(scene.planes + nearer)


def tilt_planes(scene: Scene, tilt_deg: tuple[float, float], *, rng: np.random.Generator) -> Scene:
    """Return the scene with each plane turned by angles from a range, about its middle."""
    slopes = np.tan(np.radians(rng.uniform(*tilt_deg, (len(scene.planes), 2))))
    return Scene(
        tuple(
            replace(plane, slope=(float(x), float(y)))
            for plane, (x, y) in zip(scene.planes, slopes, strict=True)
        )
    )


def blob_mask(size: Size, share: float, *, rng: np.random.Generator) -> UInt8[np.ndarray, "h w"]:
    """Return a mask, 255 in smooth blobs that cover this share, with edges one pixel wide."""
    coarse = rng.standard_normal((12, 12)).astype(np.float32)
    height = cv2.resize(cv2.GaussianBlur(coarse, (0, 0), 1.2), size, interpolation=cv2.INTER_CUBIC)
    level = np.quantile(height[::4, ::4], 1 - share)
    slope = np.hypot(*np.gradient(height)) + 1e-6
    return (255 * np.clip((height - level) / slope + 0.5, 0, 1)).astype(np.uint8)


def draw_procedural_image(size: Size, *, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image of random texture, edges, lines, gratings and text."""
    image = _texture(size, rng=rng)
    area = size.width * size.height
    for _ in range(10 + area // 40_000):
        _draw_shape(image, rng=rng)
    for _ in range(10 + area // 30_000):
        _draw_text(image, rng=rng)
    grain = rng.integers(-3, 4, image.shape[:2], np.int8)[..., None]
    return np.clip(image.astype(np.int16) + grain, 0, 255).astype(np.uint8)


def _texture(size: Size, *, rng: np.random.Generator) -> UInt8[np.ndarray, "h w 3"]:
    """Return smooth colors with noise whose power falls as 1 / frequency squared, as in nature."""
    color = cv2.resize(
        rng.uniform(30, 225, (5, 7, 3)).astype(np.float32), size, interpolation=cv2.INTER_CUBIC
    )
    noise = _octaves(size, rng=rng)
    strength = 25 * np.clip(1 + _octaves(size, rng=rng, finest=64), 0, None)
    return np.clip(color + (strength * noise)[..., None], 0, 255).astype(np.uint8)


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
    color = tuple(int(value) for value in rng.integers(0, 256, 3))
    corners = int(rng.integers(3, 8))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    points = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    kind = rng.integers(4)
    if kind == 0:
        _draw_grating(image, centre, radius=radius, rng=rng)
    elif kind == 1:
        thickness = int(rng.integers(1, 5))
        cv2.polylines(image, [points.astype(np.int32)], True, color, thickness, cv2.LINE_AA)
    else:
        cv2.fillPoly(image, [(points * 16).astype(np.int32)], color, cv2.LINE_AA, 4)


def _draw_grating(
    image: UInt8[np.ndarray, "h w 3"],
    centre: np.ndarray,
    *,
    radius: float,
    rng: np.random.Generator,
) -> None:
    """Draw a sinusoidal grating in a square, finer towards one side."""
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
    text = "".join(rng.choice(_LETTERS, rng.integers(3, 12)))
    position = (int(rng.uniform(-0.05, 0.95) * width), int(rng.uniform(0, 1) * height))
    color = tuple(int(value) for value in rng.choice([0, 30, 128, 225, 255], 3))
    font, size = _FONTS[rng.integers(len(_FONTS))], float(rng.choice([0.4, 0.6, 1.0, 2.0, 4.0]))
    cv2.putText(image, text, position, font, size, color, max(1, int(size * 1.5)), cv2.LINE_AA)


_OVERSAMPLING = 4  # of the texture, by Lanczos; linear interpolation between its samples
_NODE_STEP_PX = 8  # between exactly computed positions; cubic interpolation between them


def sample_plane(
    plane: Plane, view: View, *, x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " m"]
) -> Float32[np.ndarray, "m n c"] | None:
    """Return the plane's linear RGB at the grid of positions x and y, mirrored beyond its edges.

    A plane with alpha gives RGB multiplied by alpha, and alpha as the fourth channel; or None, if
    it is transparent at all these positions.
    """
    u, v = map_to_texture(plane, view, x=x, y=y)
    left, right = _span(u)
    top, bottom = _span(v)
    columns = _reflect(np.arange(left, right), plane.size.width)
    rows = _reflect(np.arange(top, bottom), plane.size.height)
    part = LINEAR_OF_SRGB8[plane.texture[rows[:, None], columns]]
    if plane.alpha is not None:
        inside = (np.arange(top, bottom) == rows)[:, None] & (np.arange(left, right) == columns)
        alpha = np.where(inside, plane.alpha[rows[:, None], columns], 0).astype(np.float32) / 255
        if not alpha.any():
            return None
        part = np.concatenate([part * alpha[..., None], alpha[..., None]], axis=-1)
    fine = cv2.resize(
        part, None, fx=_OVERSAMPLING, fy=_OVERSAMPLING, interpolation=cv2.INTER_LANCZOS4
    )
    shift = 0.5 * _OVERSAMPLING - 0.5
    return cv2.remap(
        fine,
        ((u - left) * _OVERSAMPLING + shift).astype(np.float32),
        ((v - top) * _OVERSAMPLING + shift).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _span(positions: np.ndarray) -> tuple[int, int]:
    return int(np.floor(positions.min())) - 6, int(np.ceil(positions.max())) + 7


def _reflect(index: np.ndarray, length: int) -> np.ndarray:
    """Return indices into a row that is continued by its mirror image."""
    index = index % (2 * length)
    return np.where(index < length, index, 2 * length - 1 - index)


def map_to_texture(
    plane: Plane, view: View, *, x: Float64[np.ndarray, " n"], y: Float64[np.ndarray, " m"]
) -> tuple[Float64[np.ndarray, "m n"], Float64[np.ndarray, "m n"]]:
    """Return the columns and rows of the texture that the grid of positions x and y sees."""
    nodes_x, weights_x = _interpolation_nodes(x)
    nodes_y, weights_y = _interpolation_nodes(y)
    pixels = np.stack(np.meshgrid(nodes_x, nodes_y), axis=-1)
    seen = view.on_plane(pixels, plane.distance_m, slope=plane.slope) / plane.pitch_m
    u, v = (weights_y @ seen[..., axis] @ weights_x.T for axis in (0, 1))
    return u + (plane.size.width - 1) / 2, v + (plane.size.height - 1) / 2


def _interpolation_nodes(
    x: Float64[np.ndarray, " n"],
) -> tuple[np.ndarray, Float64[np.ndarray, "n nodes"]]:
    """Return sparse positions around x, and the weights of cubic Lagrange interpolation to x."""
    position = (x - x[0]) / _NODE_STEP_PX
    cell = np.floor(position).astype(int)
    t = position - cell
    weights = np.zeros((len(x), cell[-1] + 4))
    steps = (-1, 0, 1, 2)
    for step in steps:
        terms = [(t - other) / (step - other) for other in steps if other != step]
        weights[np.arange(len(x)), cell + 1 + step] = np.prod(terms, axis=0)
    return x[0] + _NODE_STEP_PX * np.arange(-1, cell[-1] + 3), weights


@dataclass(frozen=True)
class Photo:
    """A photo, in a file, to make a scene from."""

    path: Path

    @property
    def name(self) -> str:
        """Return the name of the file."""
        return self.path.name

    def load(self) -> UInt8[np.ndarray, "h w 3"]:
        """Return the photo.

        Raises:
            ImageError: it can't be read.
        """
        return read_rgb8(self.path)


@dataclass(frozen=True)
class Procedural:
    """A random scene of shapes and text."""

    size: Size
    seed: tuple[int, ...]

    @property
    def name(self) -> str:
        """Return a name made from the seed."""
        return f"procedural {'-'.join(map(str, self.seed))}"

    def load(self) -> UInt8[np.ndarray, "h w 3"]:
        """Return the image, always the same for the same seed."""
        return draw_procedural_image(self.size, rng=np.random.default_rng(self.seed))


Source = Photo | Procedural


def find_photos(paths: Sequence[Path], *, output: Path) -> tuple[Photo, ...]:
    """Return the photos in files and folders, which are searched recursively.

    Raises:
        DataError: a path does not exist, a folder holds no images, or the output folder is inside.
    """
    photos: list[Path] = []
    for path in paths:
        if output.resolve().is_relative_to(path.resolve()):
            remedy = "Choose a folder outside; a second run would take its images for photos."
            raise DataError(output, "lies among the photos", remedy)
        if path.is_dir():
            inside = sorted(each for each in path.rglob("*") if is_image_name(each))
            if not inside:
                raise DataError(path, "contains no images", "Give a folder of photos.")
            photos += inside
        elif path.exists():
            photos.append(path)
        else:
            raise DataError(path, "does not exist", "Check the name.")
    return tuple(Photo(path) for path in photos)
