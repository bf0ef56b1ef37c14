"""Images as they are found on web pages: reduced once or twice, sharpened or not, compressed.

HR is a part of a photo, itself reduced a little first, so that it is as crisp as such images are.
"""

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import pyvips
from jaxtyping import Float32, UInt8
from pydantic import Field

from d2csr.core.geometry import Size
from d2csr.core.yaml_config import ConfigBase, Share
from d2csr.images.pixels import linear_to_srgb, srgb_to_linear, to_uint8
from d2csr.images.resize import resize_bicubic
from d2csr.simulate.isp import sharpen

Kernel = Literal["matlab", "cubic", "lanczos3", "lanczos2", "mitchell", "linear", "area", "nearest"]
Codec = Literal["none", "jpeg", "webp"]
Range = tuple[float, float]
_MIN_HR_PX = 128  # a photo is not reduced below it first


class WebConfig(ConfigBase):
    """The ranges and probabilities that a web image's history is drawn from.

    Attributes:
        name: of the kind of image, also used in file names.
        crop_px: largest side of HR, a part of the photo at a random place.
        photo_reduction: factor by which the photo is reduced before HR is cut from it.
        kernels: kernels of the reductions, each with its probability. `matlab` is MATLAB's
            imresize, whose values are 8 bit between rows and columns; the others are those of
            libvips; `area` is a box of exactly the pixels' extent; `nearest` takes the pixel in the
            middle, or the mean of the middle ones.
        twice: probability of two reductions, one after the other.
        first_reduction: factor of the first of two.
        linear_light: probability that reductions are computed in linear light.
        sharpened: probability of an unsharp mask on LR.
        sharpening: its amount.
        sharpening_radius_px: its standard deviation.
        codecs: compression of LR, each with its probability.
        quality: of the compression, 0..100.
        subsampled: probability of chroma at every second row and column; WebP always has it.
    """

    name: str = "Web"
    crop_px: int = Field(default=1280, ge=_MIN_HR_PX)
    photo_reduction: Range = (1.0, 2.4)
    kernels: dict[Kernel, Share]
    twice: Share = 0.0
    first_reduction: Range = (1.25, 3.2)
    linear_light: Share = 0.0
    sharpened: Share = 0.0
    sharpening: Range = (0.2, 1.2)
    sharpening_radius_px: Range = (0.5, 1.2)
    codecs: dict[Codec, Share]
    quality: tuple[int, int] = (60, 95)
    subsampled: Share = 0.6


@dataclass(frozen=True)
class WebHistory:
    """What was drawn for one image; lengths in pixels.

    Attributes:
        photo_reduction: factor by which the photo was reduced first.
        kernels: of the one or two reductions.
        first_reduction: factor of the first of two; None if there is one.
        linear_light: whether they were computed in linear light.
        sharpening: amount and standard deviation of the unsharp mask, or None.
        codec: of LR.
        quality: of the codec.
        subsampled: whether chroma has half the resolution.
    """

    photo_reduction: float
    kernels: tuple[Kernel, ...]
    first_reduction: float | None
    linear_light: bool
    sharpening: tuple[float, float] | None
    codec: Codec
    quality: int
    subsampled: bool


def draw_history(config: WebConfig, rng: np.random.Generator) -> WebHistory:
    """Return a history drawn from the configuration."""
    twice = rng.random() < config.twice
    kernels = tuple(_draw(config.kernels, rng) for _ in range(2))
    first, reduction, amount, radius_px = (
        float(rng.uniform(*each))
        for each in (
            config.first_reduction,
            config.photo_reduction,
            config.sharpening,
            config.sharpening_radius_px,
        )
    )
    return WebHistory(
        photo_reduction=reduction,
        kernels=kernels if twice else kernels[:1],
        first_reduction=first if twice else None,
        linear_light=bool(rng.random() < config.linear_light),
        sharpening=(amount, radius_px) if rng.random() < config.sharpened else None,
        codec=_draw(config.codecs, rng),
        quality=int(rng.integers(config.quality[0], config.quality[1] + 1)),
        subsampled=bool(rng.random() < config.subsampled),
    )


def _draw(shares: dict[Any, float], rng: np.random.Generator) -> Any:
    names, weights = list(shares), np.array(list(shares.values()))
    return names[int(rng.choice(len(names), p=weights / weights.sum()))]


def cut_hr(
    photo: UInt8[np.ndarray, "h w 3"],
    config: WebConfig,
    *,
    history: WebHistory,
    scale: int,
    rng: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "sh sw 3"], tuple[int, int]]:
    """Return a part of the photo, reduced first, and the part's top left corner (x, y).

    Its sides are multiples of the scale.
    """
    factor = min(history.photo_reduction, min(photo.shape[:2]) / _MIN_HR_PX)
    if factor > 1:
        size = Size(*(round(side / factor) for side in photo.shape[1::-1]))
        reduced = reduce_image(photo.astype(np.float32) / 255, size, kernel="lanczos3")
        photo = to_uint8(reduced)
    height, width = (min(side, config.crop_px) // scale * scale for side in photo.shape[:2])
    top = int(rng.integers(photo.shape[0] - height + 1))
    left = int(rng.integers(photo.shape[1] - width + 1))
    return np.ascontiguousarray(photo[top : top + height, left : left + width]), (left, top)


def make_lr(
    hr: UInt8[np.ndarray, "sh sw 3"], history: WebHistory, *, scale: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Return the LR image with a history: reduced, sharpened, compressed."""
    size = Size(hr.shape[1] // scale, hr.shape[0] // scale)
    if history.kernels == ("matlab",) and not history.linear_light:
        lr = resize_bicubic(hr, scale=(size.height, size.width))
    else:
        lr = _reduce(hr, size, history=history)
    if history.sharpening is not None:
        amount, radius_px = history.sharpening
        lr = to_uint8(sharpen(lr.astype(np.float32) / 255, amount=amount, radius_px=radius_px))
    return _compress(lr, history)


def _reduce(
    hr: UInt8[np.ndarray, "sh sw 3"], size: Size, *, history: WebHistory
) -> UInt8[np.ndarray, "h w 3"]:
    image = hr.astype(np.float32) / 255
    image = srgb_to_linear(image) if history.linear_light else image
    if history.first_reduction is not None:
        sides = (round(side / history.first_reduction) for side in hr.shape[1::-1])
        between = Size(*(max(side, least) for side, least in zip(sides, size, strict=True)))
        image = reduce_image(image, between, kernel=history.kernels[0]).clip(0, 1)
    image = reduce_image(image, size, kernel=history.kernels[-1]).clip(0, 1)
    return to_uint8(linear_to_srgb(image) if history.linear_light else image)


def reduce_image(
    image: Float32[np.ndarray, "sh sw 3"], size: Size, *, kernel: Kernel
) -> Float32[np.ndarray, "h w 3"]:
    """Return an image reduced to a size, its grid centred on the image's."""
    if kernel == "area":
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if kernel == "nearest":
        rows, columns = (
            _middle_pixels(*lengths)
            for lengths in zip(image.shape[:2], (size.height, size.width), strict=True)
        )
        in_rows = (image[rows[0]] + image[rows[1]]) / 2
        return (in_rows[:, columns[0]] + in_rows[:, columns[1]]) / 2
    reduced = pyvips.Image.new_from_array(image).reduce(
        image.shape[1] / size.width,
        image.shape[0] / size.height,
        kernel="cubic" if kernel == "matlab" else kernel,
        gap=0,  # otherwise a box reduces large factors most of the way
    )
    return np.ascontiguousarray(reduced.numpy())


def _middle_pixels(length: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the two pixels at the centre of each of `target` equal parts; the same if one is."""
    centres = (np.arange(target) + 0.5) * length / target - 0.5
    return np.ceil(centres - 0.5).astype(int), np.floor(centres + 0.5).astype(int)


def _compress(lr: UInt8[np.ndarray, "h w 3"], history: WebHistory) -> UInt8[np.ndarray, "h w 3"]:
    if history.codec == "none":
        return lr
    if history.codec == "webp":
        options = [cv2.IMWRITE_WEBP_QUALITY, history.quality]
    else:
        sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        if history.subsampled:
            sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
        options = [cv2.IMWRITE_JPEG_QUALITY, history.quality]
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    contents = cv2.imencode(f".{history.codec}", lr[..., ::-1], options)[1]
    decoded = cv2.imdecode(contents, cv2.IMREAD_COLOR)
    if decoded is None:
        raise RuntimeError(f"OpenCV can't decode the {history.codec} file that it has encoded")
    return np.ascontiguousarray(decoded[..., ::-1])
