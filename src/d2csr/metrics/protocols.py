"""The protocols of PSNR and SSIM in one table, and the scores of an image under each.

Sources: `y`, `rgb`, `rgb-full` are common practice, equal to scikit-image on the same pixels;
`official` and `cdc` are those of the authors' released evaluation and of CDC's.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from d2csr.core.errors import UsageError
from d2csr.images.pixels import to_uint8
from d2csr.metrics.ssim import WINDOW_PX, Border, ssim


def psnr_db(
    first: Float[np.ndarray, "..."], second: Float[np.ndarray, "..."], *, peak: float
) -> float:
    """Return 10 log10(peak^2 / mean squared error) in dB; inf where the two agree exactly."""
    return mse_to_psnr(float(np.mean(np.square(first - second))), peak=peak)


def mse_to_psnr(mean_squared_error: float, *, peak: float) -> float:
    """Return the PSNR in dB of a mean squared error; inf where it is 0."""
    if mean_squared_error == 0:
        return math.inf
    return 10 * math.log10(peak * peak / mean_squared_error)


Image = UInt8[np.ndarray, "h w 3"] | Float[np.ndarray, "h w 3"]
Weights = tuple[tuple[float, float, float], ...]

# Each row is a channel that is measured, as shares of R, G and B.
RGB: Weights = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
# Rec. ITU-R BT.601-7 luma of 8-bit RGB, as MATLAB's rgb2ycbcr.
LUMA: Weights = ((65.481 / 255, 128.553 / 255, 24.966 / 255),)
# The same in 1/256 and without the offset of 16, as in much SR code.
LUMA_256: Weights = ((65.738 / 256, 129.057 / 256, 25.064 / 256),)
# The authors apply the weights to images in B, G, R order: blue gets the weight of red.
LUMA_256_BGR: Weights = ((25.064 / 256, 129.057 / 256, 65.738 / 256),)


@dataclass(frozen=True)
class Protocol:
    """The rules by which PSNR and SSIM of two images are computed.

    Attributes:
        summary: the protocol in one line, for tables and files.
        psnr_color: the channels that PSNR is measured on, as shares of R, G and B.
        ssim_color: the channels that SSIM is measured on; the mean over them is taken.
        offset: added to each channel; it changes SSIM, but not PSNR.
        peak: 255 for 8-bit levels, 1 for 0..1.
        rounded: SR is clipped and rounded to 8 bit first.
        psnr_clipped: SR is clipped to 0..1 for PSNR (implied by `rounded`).
        psnr_cut: PSNR is measured without `scale` pixels on each side.
        ssim_cut: SSIM is measured without `scale` pixels on each side.
        ssim_border: whether SSIM's window stays inside the image or the image is padded with zeros.
    """

    summary: str
    psnr_color: Weights
    ssim_color: Weights
    offset: float = 0.0
    peak: float = 255.0
    rounded: bool = True
    psnr_clipped: bool = True
    psnr_cut: bool = True
    ssim_cut: bool = True
    ssim_border: Border = "valid"


PROTOCOLS: dict[str, Protocol] = {
    "y": Protocol(
        "BT.601 luma of 8-bit RGB, scale px cut", psnr_color=LUMA, ssim_color=LUMA, offset=16.0
    ),
    "rgb": Protocol("8-bit RGB, scale px cut", psnr_color=RGB, ssim_color=RGB),
    "official": Protocol(
        "the authors' code: luma shares on B, G, R, no rounding; PSNR cut, SSIM zero-padded",
        psnr_color=LUMA_256_BGR,
        ssim_color=LUMA_256_BGR,
        peak=1.0,
        rounded=False,
        ssim_cut=False,
        ssim_border="zero",
    ),
    "cdc": Protocol(
        "CDC's code: luma without rounding or clipping, cut; SSIM on RGB, zero-padded",
        psnr_color=LUMA_256,
        ssim_color=RGB,
        peak=1.0,
        rounded=False,
        psnr_clipped=False,
        ssim_cut=False,
        ssim_border="zero",
    ),
    "rgb-full": Protocol(
        "8-bit RGB, nothing cut", psnr_color=RGB, ssim_color=RGB, psnr_cut=False, ssim_cut=False
    ),
}


class Score(NamedTuple):
    """PSNR and SSIM of one image under one protocol."""

    psnr_db: float
    ssim: float


def check_protocols(names: tuple[str, ...]) -> None:
    """Check that all names are protocols, and that there is one.

    Raises:
        UsageError: a name is unknown, or none is given.
    """
    unknown = [name for name in names if name not in PROTOCOLS]
    if unknown or not names:
        problem = f"no such protocol: {', '.join(unknown)}" if unknown else "no protocol given"
        raise UsageError("protocol", problem, remedy=f"Choose among {', '.join(PROTOCOLS)}.")


def score(sr: Image, hr: UInt8[np.ndarray, "h w 3"], *, protocol: str, scale: int) -> Score:
    """Return PSNR in dB (inf for equal images) and SSIM of an SR image.

    Args:
        sr: RGB in 0..255, or float in 0..1, unclipped.
        hr: the HR image, RGB, of the same size.
        protocol: a name of `PROTOCOLS`.
        scale: SR pixels per LR pixel, which is also the border that some protocols cut.

    Raises:
        UsageError: no such protocol.
        ValueError: the sizes differ, or too little is left to compare.
    """
    check_protocols((protocol,))
    rules = PROTOCOLS[protocol]
    if sr.shape != hr.shape:
        raise ValueError(f"SR is {sr.shape}, HR is {hr.shape}")
    return Score(
        _psnr_db(sr, hr, rules=rules, scale=scale), _ssim(sr, hr, rules=rules, scale=scale)
    )


def smallest_side_px(scale: int) -> int:
    """Return the smallest side in SR pixels that every protocol can score."""
    return 2 * scale + WINDOW_PX


def to_levels(image: Image, *, rules: Protocol) -> Float[np.ndarray, "h w 3"]:
    """Return an image in float64 from 0 to the protocol's peak, rounded if the rules say so."""
    if image.dtype == np.uint8:
        return image.astype(np.float64) * (rules.peak / 255)
    if rules.rounded:
        return round_to_8_bit(image).astype(np.float64) * (rules.peak / 255)
    return image.astype(np.float64) * rules.peak


def round_to_8_bit(image: Image) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image as 8-bit levels: floats in 0..1 clipped and rounded, 8 bit as it is."""
    if image.dtype == np.uint8:
        return image
    return to_uint8(image.astype(np.float64))  # in double precision, as scikit-image rounds


def to_channels(
    image: Float[np.ndarray, "h w 3"], color: Weights, *, offset: float
) -> Float[np.ndarray, "c h w"]:
    """Return the channels that a protocol measures: luma, or R, G and B."""
    return np.stack([image @ np.array(shares) + offset for shares in color])


def _psnr_db(sr: Image, hr: Image, *, rules: Protocol, scale: int) -> float:
    """Return the PSNR in dB over all channels that the protocol measures."""
    first, second = to_levels(sr, rules=rules), to_levels(hr, rules=rules)
    if rules.psnr_clipped:
        first = np.clip(first, 0, rules.peak)
    first, second = (_cut(image, scale if rules.psnr_cut else 0) for image in (first, second))
    measured = (
        to_channels(each, rules.psnr_color, offset=rules.offset) for each in (first, second)
    )
    return psnr_db(*measured, peak=rules.peak)


def _ssim(sr: Image, hr: Image, *, rules: Protocol, scale: int) -> float:
    """Return the mean SSIM over the channels that the protocol measures."""
    cut_px = scale if rules.ssim_cut else 0
    images = (_cut(to_levels(image, rules=rules), cut_px) for image in (sr, hr))
    first, second = (to_channels(each, rules.ssim_color, offset=rules.offset) for each in images)
    each_channel = [
        ssim(one, other, peak=rules.peak, border=rules.ssim_border)
        for one, other in zip(first, second, strict=True)
    ]
    return math.fsum(each_channel) / len(each_channel)


def _cut(image: Float[np.ndarray, "h w 3"], border_px: int) -> Float[np.ndarray, "_ _ 3"]:
    """Return the image without `border_px` rows and columns on each side.

    Raises:
        ValueError: nothing would be left.
    """
    height, width = image.shape[:2]
    if min(height, width) <= 2 * border_px:
        raise ValueError(f"cutting {border_px} px from {width}x{height} px leaves nothing")
    return image[border_px : height - border_px, border_px : width - border_px]
