"""A model for Python code: images in, images of the same kind out; and the models by name."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, final, overload, runtime_checkable

import numpy as np
from jaxtyping import Float32, Shaped

from d2csr.core.bundle import CARD_NAME, Bundle, read_bundle
from d2csr.core.error_model import find_error_model
from d2csr.core.errors import ImageError, ModelNameError, shorten
from d2csr.core.files import is_file, is_folder
from d2csr.core.geometry import Size
from d2csr.engine.backends.base import PrecisionChoice
from d2csr.engine.engine import Engine, open_engine
from d2csr.engine.flat_regions import FlatRegionBlend
from d2csr.engine.tail import EngineOutput, StripOutput, disagreement, require_predictions
from d2csr.engine.uncertainty import uncertainty_map
from d2csr.images.pixels import StoredPixels, to_engine_rgb, to_file_rows
from d2csr.images.reader import read_image
from d2csr.images.resize import ResizedImage
from d2csr.images.strength import MODEL_STRENGTH, StrengthBlend

_WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
_TYPES = ("uint8", "uint16", "float16", "float32", "float64")  # of arrays
_UNSUPPORTED_MODES = ("1", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "La", "RGBa", "I", "F")
_RUN_BUNDLE = "bundle"  # folder of the bundle in a run


@runtime_checkable
class SupportsArray(Protocol):
    """What `numpy.asarray` takes: arrays of NumPy, images of Pillow."""

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """Return the memory of the array, as NumPy describes it."""
        ...


Image = SupportsArray | str | Path
Pixels = Shaped[np.ndarray, "h w *channels"]


class Prediction(NamedTuple):
    """A super-resolved image and the predictions that it is made from.

    An LR image of h x w pixels becomes sh x sw pixels, with s the model's scale; p is the number
    of predictions.

    Attributes:
        sr: the fused image, as `Model.upscale` returns it at strength 1.
        predictions: (p, *sr.shape), of the same type: one image per leaf of the network.
        weights: float32 (p, sh, sw): weight of each prediction in the fusion, range 0 to 1; they
            sum to 1 over the predictions.
        disagreement: float32 (sh, sw): standard deviation of the predictions, in gray levels (0 to
            255). Large values mark details that the model is uncertain of.
        uncertainty: float32 (sh, sw): expected absolute error of SR, mean over R, G and B, in gray
            levels (0 to 255); None if the model has no error model (`d2csr calibrate` fits one).
    """

    sr: Shaped[np.ndarray, "sh sw *channels"]
    predictions: Shaped[np.ndarray, "p sh sw *channels"]
    weights: Float32[np.ndarray, "p sh sw"]
    disagreement: Float32[np.ndarray, "sh sw"]
    uncertainty: Float32[np.ndarray, "sh sw"] | None = None


@final
class Model:
    """A super-resolution model, ready to run. `d2csr.load` opens one.

    An image is an array, an image of Pillow, or the path of a file, of any size:

    - shape (h, w) or (h, w, 1): gray; (h, w, 3): RGB; with a channel more, (h, w, 2) or (h, w, 4):
      alpha, not premultiplied;
    - type uint8 or uint16; or float16, float32 or float64, with values in 0..1; sRGB.

    The result has the same channels and type, and alpha is upscaled with the model like a gray
    image, exactly as `d2csr upscale` does. A file gives an array of its own depth and channels, and
    warnings about what it holds besides. Large images run in parts, with the same result, as memory
    allows.

    Several threads may use one model at the same time; each call takes the memory of its image.

    Example:
        ```python
        import d2csr

        model = d2csr.load("city100-nikon-x3")
        sr = model.upscale(lr)
        sr = model.upscale("photo.jpg")
        several = model.upscale([lr, "photo.jpg"])
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

    @overload
    def upscale(self, image: Image, *, strength: float = ...) -> Pixels: ...
    @overload
    def upscale(self, image: Sequence[Image], *, strength: float = ...) -> list[Pixels]: ...
    def upscale(
        self, image: Image | Sequence[Image], *, strength: float = MODEL_STRENGTH
    ) -> Pixels | list[Pixels]:
        """Return the super-resolved image, (scale * h, scale * w) pixels; of a list, a list.

        Args:
            image: an image, or a list or tuple of images, of any kinds and sizes.
            strength: how much of what the model adds to the bicubic enlargement is kept: 0 is the
                bicubic enlargement, 1 the model's result, up to 1.5 exaggerates it.

        Raises:
            ImageError: an array has another shape, type or range, or no pixels; or a file can't be
                read.
            UsageError: the strength is out of range, or memory and disk are too small.
            OutOfMemoryError, MemoryError: the system has less memory than it reported.
        """
        if isinstance(image, Sequence) and not isinstance(image, str):
            return [self.upscale(each, strength=strength) for each in image]
        lr = _LrImage.of(image)
        blend = StrengthBlend(lr.bicubic(self.scale), strength=strength)
        sr = np.empty((*lr.size.times(self.scale)[::-1], lr.stored.channels), lr.stored.dtype)
        for first, output in self._iter_strips(lr.rgb01):
            rows = blend.blend(output.sr, first_row=first)
            sr[first : first + len(rows)] = to_file_rows(rows, stored=lr.stored, alpha=None)
        return lr.to_array(sr, self._upscale_alpha(lr))

    def predict(self, image: Image) -> Prediction:
        """Return the super-resolved image with predictions, weights, disagreement, uncertainty.

        Args:
            image: the image.

        Raises:
            ImageError: the array has another shape, type or range, or no pixels; or the file can't
                be read.
            UsageError: the model makes one prediction, or memory and disk are too small for the
                image.
            OutOfMemoryError, MemoryError: the system has less memory than it reported.
        """
        require_predictions(self.bundle)
        lr = _LrImage.of(image)
        output = self.engine.run(lr.rgb01)
        sr = FlatRegionBlend(lr.rgb01, scale=self.scale).blend(output.sr, first_row=0)
        alpha = self._upscale_alpha(lr)
        images = [
            lr.to_array(to_file_rows(each, stored=lr.stored, alpha=None), alpha)
            for each in (sr, *output.predictions)
        ]
        return Prediction(
            sr=images[0],
            predictions=np.stack(images[1:]),
            weights=output.weights,
            disagreement=disagreement(output),
            uncertainty=self._uncertainty(lr.rgb01, output._replace(sr=sr)),
        )

    def _iter_strips(self, lr01: Float32[np.ndarray, "h w 3"]) -> Iterator[StripOutput]:
        """Yield the engine's output with flat regions blended."""
        blend = FlatRegionBlend(lr01, scale=self.scale).blend
        for first, output in self.engine.iter_strips(lr01):
            yield StripOutput(first, output._replace(sr=blend(output.sr, first_row=first)))

    def _upscale_alpha(self, lr: "_LrImage") -> Shaped[np.ndarray, "sh sw"] | None:
        """Return alpha upscaled by the model like a gray image; None without alpha."""
        if lr.alpha is None:
            return None
        if lr.alpha.min() == lr.stored.white:
            return np.full(lr.size.times(self.scale)[::-1], lr.stored.white, lr.alpha.dtype)
        strips = self._iter_strips(to_engine_rgb(lr.alpha[..., None], None))
        return np.concatenate([lr.stored.quantize(each.output.sr.mean(axis=2)) for each in strips])

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
        if is_file(folder / CARD_NAME):
            return folder
    if is_folder(Path(name_or_folder)):
        problem = f"contains neither {CARD_NAME} nor {_RUN_BUNDLE}/{CARD_NAME}"
        raise ModelNameError(name_or_folder, problem, "Make a bundle of it with `d2csr export`.")
    names = ", ".join(shipped_names()) or "none"
    remedy = f"Shipped models: {names}. Or give the folder of a bundle or a run."
    raise ModelNameError(
        shorten(str(name_or_folder), 100), "is neither a shipped model nor a folder", remedy
    )


@dataclass(frozen=True)
class _LrImage:
    """One image as the engine takes it, and the kind of array that results are returned as.

    Attributes:
        rgb01: the image for the engine, RGB in 0..1, transparent pixels filled in.
        stored: channels and type of the pixels.
        pixels: the pixels as given, without alpha.
        alpha: as given, or None.
        is_flat: whether the array of a gray image has two axes, without one for the channel.
    """

    rgb01: Float32[np.ndarray, "h w 3"]
    stored: StoredPixels
    pixels: Shaped[np.ndarray, "h w c"]
    alpha: Shaped[np.ndarray, "h w"] | None
    is_flat: bool

    @classmethod
    def of(cls, image: Image) -> "_LrImage":
        """Return an image, checked.

        Raises:
            ImageError: it is none, or its file can't be read.
        """
        if isinstance(image, str | Path):
            decoded = read_image(Path(image))
            for warning in decoded.warnings:
                warnings.warn(f"{image}: {warning}", stacklevel=3)
            pixels, alpha = decoded.pixels, decoded.alpha
            is_flat = pixels.shape[2] == 1 and alpha is None
        else:
            array = _check_array(image)
            is_flat = array.ndim == 2
            array = array.reshape(*array.shape[:2], -1)
            colors = 1 if array.shape[2] < 3 else 3
            pixels = array[..., :colors]
            alpha = array[..., colors] if array.shape[2] > colors else None
        rgb01 = to_engine_rgb(pixels, alpha)
        return cls(rgb01, StoredPixels.of(pixels), pixels, alpha, is_flat)

    @property
    def size(self) -> Size:
        """Return width and height."""
        return Size(self.pixels.shape[1], self.pixels.shape[0])

    def bicubic(self, scale: int) -> ResizedImage:
        """Return the bicubic enlargement; of 8 bit without alpha, that of the evaluation."""
        if self.alpha is None and self.pixels.dtype == np.uint8:
            rgb8 = np.broadcast_to(self.pixels, self.rgb01.shape)
            return ResizedImage(rgb8, target=self.size.times(scale))
        return ResizedImage(self.rgb01, target=self.size.times(scale))

    def to_array(
        self, rows: Shaped[np.ndarray, "sh sw c"], alpha: Shaped[np.ndarray, "sh sw"] | None
    ) -> Pixels:
        """Return a result as an array of the image's kind."""
        if alpha is not None:
            rows = np.concatenate([rows, alpha[..., None]], axis=2)
        return rows[..., 0] if self.is_flat else rows


def _check_array(image: object) -> Pixels:
    """Return an image as an array in native byte order.

    Raises:
        ImageError: its shape, type or values aren't those of an image.
    """
    mode = getattr(image, "mode", "RGB")  # of Pillow
    if mode in _UNSUPPORTED_MODES:
        raise ImageError("image", f"has Pillow's mode {mode}", 'Use image.convert("RGB").')
    array = np.asarray(image)
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 2, 3, 4))
    if not is_image or array.size == 0 or array.dtype.name not in _TYPES:
        problem = f"has shape {array.shape} and type {array.dtype}"
        remedy = f"Give (height, width) or (height, width, channels) of {', '.join(_TYPES)}."
        raise ImageError("array", problem, remedy)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind == "f" and not (array.min() >= 0 and array.max() <= 1):  # NaN is neither
        problem = f"has values from {array.min():g} to {array.max():g}"
        remedy = "Floating-point values must be in 0..1: divide by 255, for example, or clip them."
        raise ImageError("array", problem, remedy)
    return array
