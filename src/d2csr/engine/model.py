"""A model for Python code: 8-bit images in, 8-bit images out; and the models by name."""

from pathlib import Path
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float32, UInt8

from d2csr.core.bundle import CARD_NAME, Bundle, read_bundle
from d2csr.core.error_model import find_error_model
from d2csr.core.errors import ImageError, ModelNameError
from d2csr.core.geometry import Size
from d2csr.engine.backends.base import PrecisionChoice
from d2csr.engine.engine import Engine, open_engine
from d2csr.engine.flat_regions import FlatRegionBlend
from d2csr.engine.tail import EngineOutput, disagreement
from d2csr.engine.uncertainty import uncertainty_map
from d2csr.images.pixels import to_uint8
from d2csr.images.resize import ResizedImage
from d2csr.images.strength import MODEL_STRENGTH, StrengthBlend

_WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
_RUN_BUNDLE = "bundle"  # folder of the bundle in a run


class Prediction(NamedTuple):
    """A super-resolved image and the predictions that it is made from.

    An LR image of h x w pixels becomes sh x sw pixels, with s the model's scale; p is the number
    of predictions.

    Attributes:
        sr: uint8 (sh, sw, 3), RGB: the fused image, as `Model.upscale` returns it at strength 1.
        predictions: uint8 (p, sh, sw, 3), RGB: one image per leaf of the network.
        weights: float32 (p, sh, sw): weight of each prediction in the fusion, range 0 to 1; they
            sum to 1 over the predictions.
        disagreement: float32 (sh, sw): standard deviation of the predictions, in gray levels (0 to
            255). Large values mark details that the model is uncertain of.
        uncertainty: float32 (sh, sw): expected absolute error of SR, mean over R, G and B, in gray
            levels (0 to 255); None if the model has no error model (`d2csr calibrate` fits one).
    """

    sr: UInt8[np.ndarray, "sh sw 3"]
    predictions: UInt8[np.ndarray, "p sh sw 3"]
    weights: Float32[np.ndarray, "p sh sw"]
    disagreement: Float32[np.ndarray, "sh sw"]
    uncertainty: Float32[np.ndarray, "sh sw"] | None = None


@final
class Model:
    """A super-resolution model, ready to run. `d2csr.load` opens one.

    Images are arrays of shape (height, width, 3), uint8, sRGB, of any size. Large images run in
    parts, with the same result, as memory allows.

    Several threads may use one model at the same time; each call takes the memory of its image.

    Example:
        ```python
        import d2csr

        model = d2csr.load("city100-nikon-x3")
        sr = model.upscale(lr)
        prediction = model.predict(lr)
        ```
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        """Hold a bundle and the engine that runs it; `load` makes both."""
        self.bundle = bundle
        self.engine = engine
        self._error_model = find_error_model(bundle)

    @property
    def name(self) -> str:
        """Return the model's name."""
        return self.bundle.card.name

    @property
    def scale(self) -> int:
        """Return the factor by which each side of an image grows."""
        return self.bundle.card.scale

    def upscale(
        self, rgb8: UInt8[np.ndarray, "h w 3"], *, strength: float = MODEL_STRENGTH
    ) -> UInt8[np.ndarray, "sh sw 3"]:
        """Return the super-resolved image, uint8 (scale * h, scale * w, 3).

        Args:
            rgb8: the image, uint8 (h, w, 3), RGB.
            strength: how much of what the model adds to the bicubic enlargement is kept: 0 is the
                bicubic enlargement, 1 the model's result, up to 1.5 exaggerates it.

        Raises:
            ImageError: the array has another shape or type, or no pixels.
            UsageError: the strength is out of range, or memory and disk are too small.
            OutOfMemoryError, MemoryError: the system has less memory than it reported.
        """
        lr = _to_rgb01(rgb8)
        height, width, _ = lr.shape
        sr = np.empty((height * self.scale, width * self.scale, 3), np.uint8)
        flat_regions = FlatRegionBlend(lr, scale=self.scale)
        bicubic = ResizedImage(np.asarray(rgb8), target=Size(width, height).times(self.scale))
        strength_blend = StrengthBlend(bicubic, strength=strength)
        for first, part in self.engine.iter_strips(lr):
            rows = flat_regions.blend(part.sr, first_row=first)
            rows = strength_blend.blend(rows, first_row=first)
            sr[first : first + len(rows)] = to_uint8(rows)
        return sr

    def predict(self, rgb8: UInt8[np.ndarray, "h w 3"]) -> Prediction:
        """Return the super-resolved image with predictions, weights, disagreement, uncertainty.

        Args:
            rgb8: the image, uint8 (h, w, 3), RGB.

        Raises:
            ImageError: the array has another shape or type, or no pixels.
            UsageError: memory and disk are too small for the image.
            OutOfMemoryError, MemoryError: the system has less memory than it reported.
        """
        lr = _to_rgb01(rgb8)
        output = self.engine.run(lr)
        sr = FlatRegionBlend(lr, scale=self.scale).blend(output.sr, first_row=0)
        return Prediction(
            sr=to_uint8(sr),
            predictions=to_uint8(output.predictions),
            weights=output.weights,
            disagreement=disagreement(output),
            uncertainty=self._uncertainty(lr, output._replace(sr=sr)),
        )

    def _uncertainty(
        self, lr01: Float32[np.ndarray, "h w 3"], output: EngineOutput
    ) -> Float32[np.ndarray, "sh sw"] | None:
        if self._error_model is None:
            return None
        return uncertainty_map(self._error_model, lr01, output=output, scale=self.scale)


def load(
    name_or_folder: str | Path,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: PrecisionChoice = "auto",
    memory: int | None = None,
) -> Model:
    """Return a model by its name or folder, ready to run.

    Args:
        name_or_folder: name of a shipped model (`d2csr models` lists them), folder of a bundle, or
            folder of a training run that has exported one.
        backend: `openvino`, `onnxruntime`, `torch`, `reference` (the network as it was trained, in
            one piece), or `auto`: torch for an NVIDIA GPU, openvino otherwise.
        device: `cpu`, `gpu`, the index of a GPU, or `auto`: an NVIDIA GPU if the backend can use
            one, and the processor otherwise.
        precision: `fp32`, `bf16`, `int8`, or `auto`: the fastest that costs the model at most
            0.01 dB.
        memory: limit of the resident memory of the process while an image runs, in bytes, for one
            image at a time; None: what the process holds and a share of what is free.

    Raises:
        ModelNameError: there is neither a shipped model of that name nor a folder with a bundle.
        BundleError: the bundle is incomplete, damaged, or of an unknown format version.
        UsageError: there is no such backend, device or precision here.

    Example:
        ```python
        import d2csr

        model = d2csr.load("city100-nikon-x3", device="cpu")
        print(model.name, model.scale)
        ```
    """
    bundle = read_bundle(find_bundle(name_or_folder))
    engine = open_engine(bundle, backend=backend, device=device, precision=precision, memory=memory)
    return Model(bundle, engine)


def shipped_names() -> list[str]:
    """Return the names of the models that ship with the package, sorted."""
    return sorted(card.parent.name for card in _WEIGHTS.glob(f"*/{CARD_NAME}"))


def shipped_bundles() -> list[Bundle]:
    """Return the bundles that ship with the package, sorted by name.

    Raises:
        BundleError: one is incomplete or damaged.
    """
    return [read_bundle(_WEIGHTS / name) for name in shipped_names()]


def find_bundle(name_or_folder: str | Path) -> Path:
    """Return the folder of a bundle.

    Args:
        name_or_folder: a shipped model, the folder of a bundle, or the folder of a run that
            exported one.

    Raises:
        ModelNameError: it is none of these; the error lists the shipped names.
    """
    if str(name_or_folder) in shipped_names():
        return _WEIGHTS / str(name_or_folder)
    for folder in (Path(name_or_folder), Path(name_or_folder) / _RUN_BUNDLE):
        if (folder / CARD_NAME).is_file():
            return folder
    if Path(name_or_folder).is_dir():
        problem = f"contains neither {CARD_NAME} nor {_RUN_BUNDLE}/{CARD_NAME}"
        raise ModelNameError(name_or_folder, problem, "Make a bundle of it with `d2csr export`.")
    names = ", ".join(shipped_names()) or "none"
    remedy = f"Shipped models: {names}. Or give the folder of a bundle or a run."
    raise ModelNameError(name_or_folder, "is neither a shipped model nor a folder", remedy)


def _to_rgb01(rgb8: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """Return an image as the engine takes it, after checking that it is one."""
    given = np.asarray(rgb8)
    if given.dtype != np.uint8 or given.ndim != 3 or given.shape[2] != 3 or given.size == 0:
        problem = f"has shape {given.shape} and type {given.dtype}"
        raise ImageError("array", problem, "Give uint8 of shape (height, width, 3).")
    return given.astype(np.float32) / np.float32(255)
