"""Verification of a bundle: its outputs against the network's, lower precisions against fp32."""

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from d2csr.core.bundle import Bundle, PrecisionError
from d2csr.core.errors import BundleError, format_beyond
from d2csr.engine import open_engine
from d2csr.engine.backends.base import has_graphs, load_backend
from d2csr.engine.tail import EngineOutput
from d2csr.metrics.protocols import mse_to_psnr
from d2csr.models.d2csr import D2CSR

LIMIT = 1e-5  # of the largest value: a tenth of a percent of one gray level
_SIDE_PX = 96  # images are cut to this, so that the expanded network's time stays small
_STRIP_ROWS = 7  # so that even small images have strips between other strips
_BACKEND = "openvino"  # which every installation has
_TINY = ((1, 1), (1, 7), (2, 3), (5, 4))  # where borders meet

_MIN_SQUARED_ERROR = 1e-15  # 150 dB, where two precisions agree exactly

Image = UInt8[np.ndarray, "_ _ 3"]  # each of its own size


def verify_against_network(bundle: Bundle, network: D2CSR, *, images: Iterable[Image]) -> float:
    """Return the largest difference between bundle and network, relative to the largest value.

    Args:
        bundle: run by the engine, whole and in short strips, which must change nothing.
        network: run by torch, expanded or collapsed.
        images: real LR images, of which the middle is compared; tiny crops of the first one too.

    Raises:
        BundleError: SR, a prediction or a weight differs by more than `LIMIT`.
    """
    network = deepcopy(network).cpu().float().eval()  # a GPU's convolutions round to 10 bits
    engine = open_engine(bundle, backend=_BACKEND, precision="fp32")
    engines = (engine, engine.with_strips(_STRIP_ROWS))
    differences: list[float] = []
    for lr8 in _crops(images):
        lr01 = lr8.astype(np.float32) / np.float32(255)
        expected = _run(network, lr01)
        differences += [_difference(engine.run(lr01), expected) for engine in engines]
    worst = float(np.max(differences))  # `max` would pass over NaN
    if not worst <= LIMIT:  # NaN is not
        shown = format_beyond(worst, LIMIT, spec=".1e")
        problem = f"differs from its network by {shown} of the largest value, over {LIMIT:.0e}"
        raise BundleError(bundle.card.name, problem, remedy="Report this as an error of d2csr.")
    return worst


def measure_precision_errors(
    bundle: Bundle, *, images: Sequence[Image]
) -> dict[str, PrecisionError]:
    """Return the error of each lower precision that this machine has, measured against float32.

    Args:
        bundle: run by the engine.
        images: real LR images, of which the middle is compared; without any, an image of noise.
    """
    backend = load_backend(_BACKEND)
    exact = open_engine(bundle, backend=_BACKEND, precision="fp32")
    crops = [middle_crop(each) / np.float32(255) for each in images or [noise_image()]]
    expected = [exact.run(crop).sr for crop in crops]
    errors: dict[str, PrecisionError] = {}
    for precision in backend.precisions("CPU"):
        if precision == "fp32" or not has_graphs(bundle.card, precision):
            continue
        engine = open_engine(bundle, backend=_BACKEND, precision=precision)
        squared_errors = [
            np.square(engine.run(crop).sr - sr, dtype=np.float64).mean()
            for crop, sr in zip(crops, expected, strict=True)
        ]
        mean_squared = max(float(np.mean(squared_errors)), _MIN_SQUARED_ERROR)
        psnr_db = mse_to_psnr(mean_squared, peak=1.0)
        errors[precision] = PrecisionError(round(psnr_db, 2), len(images))
    return errors


def noise_image() -> Image:
    """Return an image of noise, the same in every call, for use without photographs."""
    return np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)


def _crops(images: Iterable[Image]) -> Iterator[Image]:
    for index, image in enumerate(images):
        crop = middle_crop(image)
        yield crop
        if index == 0:
            yield from (crop[:height, :width] for height, width in _TINY)


def middle_crop(image: Image) -> UInt8[np.ndarray, "crop_h crop_w 3"]:
    """Return the middle of an image, at most 96x96 pixels."""
    top, left = (max(0, side - _SIDE_PX) // 2 for side in image.shape[:2])
    return image[top : top + _SIDE_PX, left : left + _SIDE_PX]


def _run(network: D2CSR, lr01: Float32[np.ndarray, "h w 3"]) -> EngineOutput:
    """Return the outputs of the network in torch, in the layout of the engine."""
    with torch.inference_mode():
        output = network(torch.from_numpy(lr01).permute(2, 0, 1)[None])
    return EngineOutput(
        sr=output.sr[0].permute(1, 2, 0).numpy(),
        predictions=output.predictions[0].permute(0, 2, 3, 1).numpy(),
        weights=output.weights[0].numpy(),
    )


def _difference(ours: EngineOutput, expected: EngineOutput) -> float:
    differences = [
        np.abs(one - other).max() / max(1.0, np.abs(other).max())
        for one, other in zip(ours, expected, strict=True)
    ]
    return float(np.max(differences))
