"""Verification of a bundle: its outputs against the network's, lower precisions against fp32."""

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8

from d2csr.core.bundle import Bundle, PrecisionError
from d2csr.core.errors import BundleError
from d2csr.engine import open_engine
from d2csr.engine.backends.base import has_graphs, load_backend
from d2csr.engine.tail import EngineOutput
from d2csr.metrics.protocols import mse_to_psnr
from d2csr.models.d2csr import D2CSR

LIMIT = 1e-5  # of the largest value: a tenth of a percent of one gray level
_ROUNDING = 3.0  # times the error of the network in float32
_OUTPUTS = ("SR", "predictions", "weights")
_SIDE_PX = 96  # images are cut to this, so that the expanded network's time stays small
_STRIP_ROWS = 7  # so that even small images have strips between other strips
_BACKEND = "openvino"  # which every installation has
_TINY = ((1, 1), (1, 7), (2, 3), (5, 4))  # where borders meet

_MIN_SQUARED_ERROR = 1e-15  # 150 dB, where two precisions agree exactly

Image = UInt8[np.ndarray, "_ _ 3"]  # each of its own size


def verify_against_network(bundle: Bundle, network: D2CSR, *, images: Iterable[Image]) -> float:
    """Return the largest difference between bundle and network, relative to the largest value.

    The network is computed in float64. Each output may differ from it by `LIMIT`, or by `_ROUNDING`
    times as much as the network in float32 does: where predictions are nearly the same, the weights
    are the difference of nearly equal numbers.

    Args:
        bundle: run by the engine, whole and in short strips, which must change nothing.
        network: run by torch, expanded or collapsed.
        images: real LR images, of which the middle is compared; tiny crops of the first one too.

    Raises:
        BundleError: SR, a prediction or a weight differs by more.
    """
    network = deepcopy(network).cpu().float().eval()  # a GPU's convolutions round to 10 bits
    exact = deepcopy(network).double()
    engine = open_engine(bundle, backend=_BACKEND, precision="fp32")
    engines = (engine, engine.with_strips(_STRIP_ROWS))
    differences: list[float] = []
    for lr8 in iter_crops(images):
        lr01 = lr8.astype(np.float32) / np.float32(255)
        expected = _run(exact, lr01)
        limits = np.maximum(LIMIT, _ROUNDING * _differences(_run(network, lr01), expected))
        for engine in engines:
            found = _differences(engine.run(lr01), expected)
            if not np.all(found <= limits):  # NaN is not
                worst = int(np.argmax(found / limits))
                problem = f"differs from its network by {found[worst]:.1e} of the largest value"
                remedy = "Report this as an error of d2csr."
                raise BundleError(bundle.card.name, f"{problem}, in {_OUTPUTS[worst]}", remedy)
            differences += found.tolist()
    return max(differences)


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


def iter_crops(images: Iterable[Image]) -> Iterator[Image]:
    """Yield the middle of each image, and of the first one tiny crops too."""
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
    dtype = next(network.parameters()).dtype
    with torch.inference_mode():
        output = network(torch.from_numpy(lr01).to(dtype).permute(2, 0, 1)[None])
    return EngineOutput(
        sr=output.sr[0].permute(1, 2, 0).float().numpy(),
        predictions=output.predictions[0].permute(0, 2, 3, 1).float().numpy(),
        weights=output.weights[0].float().numpy(),
    )


def _differences(ours: EngineOutput, expected: EngineOutput) -> Float64[np.ndarray, "3"]:
    """Return the largest difference of each output, relative to its largest value."""
    return np.array(
        [
            np.abs(one - other).max() / max(1.0, np.abs(other).max())
            for one, other in zip(ours, expected, strict=True)
        ],
        np.float64,
    )
