"""The model of a run: the one that is named, or the default for the enlargement that is asked for.

Separate so that the choice can be tested and used without the executors.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from d2csr.core.bundle import Bundle, read_bundle
from d2csr.core.errors import ImageError, ModelNameError, UsageError
from d2csr.engine.model import Model, find_bundle, shipped_bundles
from d2csr.images.reader import read_size
from d2csr.upscale.inputs import list_inputs
from d2csr.upscale.options import NATIVE_SIZE, OutputSize
from d2csr.upscale.storage import is_url

_DEFAULT_FACTOR = 2.0


def select_bundle(
    model: "str | Path | Bundle | Model | None",
    scale: int | None = None,
    *,
    size: OutputSize = NATIVE_SIZE,
    inputs: Sequence[str] = (),
    output: str = "",
) -> Bundle:
    """Return the bundle to upscale with.

    Args:
        model: name of a shipped model, folder of a bundle or run, or a loaded model; None takes the
            shipped model for photographs, `photo-x` and the scale.
        scale: scale that the model must have; None, without a model, takes the smallest scale that
            reaches `size`, and 2 for the model's own size.
        size: of the results.
        inputs: the images and folders, whose sizes decide where `size` is a width or height.
        output: folder of the results, which is no input; empty if there is none.

    Raises:
        ModelNameError: there is no such model, or no shipped model for photographs of this scale.
        UsageError: the model has another scale.
    """
    if model is None:
        return _default_bundle(scale, size, inputs=inputs, output=output)
    bundle = _to_bundle(model)
    if scale not in {None, bundle.card.scale}:
        problem = f"is a model for x{bundle.card.scale}, not x{scale}"
        remedy = f"Replace -s {scale} by --outscale {scale}, or choose another model."
        raise UsageError(bundle.card.name, problem, remedy)
    return bundle


def _default_bundle(
    scale: int | None, size: OutputSize, *, inputs: Sequence[str], output: str
) -> Bundle:
    shipped = {each.card.name: each for each in shipped_bundles()}
    scales = sorted(
        each.card.scale for name, each in shipped.items() if name == f"photo-x{each.card.scale}"
    )
    if scale is None:
        factor = _needed_factor(size, inputs, output=output)
        scale = _nearest_scale(scales, factor)
    if scale not in scales:
        problem = "no model for photographs has this scale"
        remedy = "Shipped models: none. Name the folder of a model with -n."
        if scales:
            name = f"photo-x{_nearest_scale(scales, float(scale))}"
            remedy = (
                f"Replace -s {scale} by --outscale {scale}, which resizes the result of {name}."
            )
        raise ModelNameError(f"x{scale}", problem, remedy)
    return shipped[f"photo-x{scale}"]


def _nearest_scale(scales: Sequence[int], factor: float) -> int:
    """Return the smallest of the scales, in ascending order, that reaches a factor, or the last."""
    return next((each for each in scales if each >= factor), scales[-1] if scales else 2)


def _to_bundle(model: "str | Path | Bundle | Model") -> Bundle:
    if isinstance(model, Model):
        return model.bundle
    return model if isinstance(model, Bundle) else read_bundle(find_bundle(model))


def _needed_factor(size: OutputSize, inputs: Sequence[str], *, output: str) -> float:
    """Return the largest enlargement that the size asks for."""
    if size.outscale is not None:
        return size.outscale
    if size.width is None and size.height is None:
        return _DEFAULT_FACTOR
    images = [source for source, _ in list_inputs(inputs, output, errors=[], results=[])]
    return max(_factors(images, size), default=_DEFAULT_FACTOR)


def _factors(images: Iterable[str], size: OutputSize) -> Iterable[float]:
    """Yield the enlargement of each image; files that can't be read are reported by the run."""
    for image in images:
        if is_url(image):  # its size is unknown before it is downloaded
            yield math.inf
            continue
        try:
            lr = read_size(Path(image))
        except ImageError:
            continue
        factor = size.factor(lr)
        if factor is not None:
            yield factor
