"""Options of an upscaling run: which files are made, what computes them, how a run proceeds.

Nothing here imports the engine when it is loaded, so that `d2csr upscale --help` is quick.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from d2csr.core.errors import UsageError
from d2csr.core.geometry import Size
from d2csr.images.formats import DEFAULT_LIMIT_MP, FORMATS, WRITABLE_FORMATS
from d2csr.images.strength import MODEL_STRENGTH, check_strength

if TYPE_CHECKING:
    from d2csr.core.bundle import Bundle
    from d2csr.engine.engine import Engine

Extension = Literal["png", "jpg", "webp", "tif", "avif", "same"]
ComparisonKind = Literal["image", "html"]
Precision = Literal["auto", "fp32", "bf16", "int8"]
WRITABLE = tuple(suffix for name in WRITABLE_FORMATS for suffix in FORMATS[name])
LOSSLESS_EXTENSIONS = ("png", "tif")
_WRITER_BYTES = 64 << 20  # of the allowed memory: rows queued for the encoders, and the encoders


@dataclass(frozen=True)
class OutputSize:
    """Size of the results; the model's own unless one of these is given.

    Attributes:
        outscale: Enlarge by this factor instead of the model's scale, for example 1.5 or 0.75.
        width: Width of the results in pixels. With a height, the largest size that fits into both.
        height: Height of the results in pixels.
        stretch: Make results exactly as wide as --width and as high as --height, without keeping
            their proportions.
    """

    outscale: float | None = None
    width: int | None = None
    height: int | None = None
    stretch: bool = False

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UsageError: a factor together with a side, `stretch` without both sides, or a number
                that isn't above 0.
        """
        if self.outscale is not None and (self.width or self.height):
            remedy = "Give --outscale alone, or --width and --height."
            raise UsageError("--outscale", "contradicts --width or --height", remedy)
        if self.stretch and not (self.width and self.height):
            remedy = "Give --width and --height."
            raise UsageError("--stretch", "has no effect without a width and a height", remedy)
        for name in ("outscale", "width", "height"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"--{name}", f"can't be {value}", "Give a number above 0.")

    def of(self, lr: Size, *, scale: int) -> Size:
        """Return the size of an image's result, each side rounded and at least 1.

        Args:
            lr: size of the image.
            scale: scale of the model.
        """
        if self.stretch and self.width and self.height:
            return Size(self.width, self.height)
        factor = self.factor(lr) or scale
        return Size(*(max(1, round(factor * side)) for side in lr))

    def factor(self, lr: Size) -> float | None:
        """Return the factor by which an image is enlarged; None for that of the model.

        Of stretched results, it is the larger of the two factors.
        """
        sides = [
            wanted / side
            for wanted, side in zip((self.width, self.height), lr, strict=True)
            if wanted is not None
        ]
        if sides:
            return max(sides) if self.stretch else min(sides)
        return self.outscale

    def describe(self, *, scale: int) -> str:
        """Return the size in words, to follow "enlarged"; `scale` is that of the model."""
        if self.width and self.height:
            return f"to {'' if self.stretch else 'fit '}{Size(self.width, self.height)}"
        if self.width:
            return f"to a width of {self.width}"
        if self.height:
            return f"to a height of {self.height}"
        return f"x{scale if self.outscale is None else self.outscale:g}"

    def name_suffix(self, *, scale: int) -> str:
        """Return the end of the names of results that lie beside their originals, such as `_x2`."""
        if self.width and self.height:
            return f"_{Size(self.width, self.height)}"
        if self.width:
            return f"_{self.width}w"
        if self.height:
            return f"_{self.height}h"
        return f"_{self.describe(scale=scale)}"


NATIVE_SIZE = OutputSize()


@dataclass(frozen=True)
class OutputOptions:
    """Which files are made from each image.

    Attributes:
        suffix: Append this to every file name, before the extension; by default the enlargement,
            such as _x2, for results beside their originals, and nothing in a folder of results.
        ext: Format of the images: png, jpg, webp, tif, avif, or same as each input (the default;
            PNG where that format can't be written).
        quality: Quality of JPEG, WebP and AVIF files, 1 to 100; by default that of the input, if it
            has the same format, otherwise 95 (JPEG), 90 (AVIF) or without loss (WebP).
        predictions: Also write each prediction.
        weight_maps: Also write the weights of each prediction: dark violet is 0, teal an equal
            share, yellow twice that or more.
        uncertainty: Also write the expected error of each pixel, in gray levels (0 to 255), as a
            map with a legend: dark violet is 0.5 or less, yellow 32 or more.
        disagreement: Also write how much the predictions differ: dark violet is 0, yellow 4 gray
            levels or more. This is not an error in gray levels; --uncertainty is.
        bicubic: Also write the bicubic enlargement, for comparison.
        compare: Also write a comparison with the bicubic enlargement: both side by side (image, the
            kind without a value), or a page for the browser with a slider between them (html).
        self_ensemble: Average the results of the image's eight flips and rotations.
        strength: How much of what the model adds to the bicubic enlargement is kept, from 0
            (bicubic) over 1 (the model's result) to 1.5 (exaggerated). Predictions, weight maps and
            disagreement are those of the model in any case.
        size: Size of SR and of the bicubic enlargement.
    """

    suffix: str | None = None
    ext: Extension | None = None
    quality: int | None = None
    predictions: bool = False
    weight_maps: bool = False
    uncertainty: bool = False
    disagreement: bool = False
    bicubic: bool = False
    compare: ComparisonKind | None = None
    self_ensemble: bool = False
    strength: float = MODEL_STRENGTH
    size: OutputSize = NATIVE_SIZE

    def __post_init__(self) -> None:
        """Check strength and quality, and that predictions and maps belong to the result.

        Raises:
            UsageError: the strength or the quality is out of range, or has no effect; or
                predictions or maps are wanted, but the result is resized, an average of several
                runs, or, for the uncertainty, of another strength.
        """
        check_strength(self.strength)
        self._check_quality()
        if self.needs_predictions and (self.self_ensemble or self.size != NATIVE_SIZE):
            problem = "exist only for one run at the model's own size"
            remedy = "Remove -x, --outscale, --width and --height."
            subject = "predictions, weight maps, uncertainty and disagreement"
            raise UsageError(subject, problem, remedy)
        if self.uncertainty and self.strength != MODEL_STRENGTH:
            problem = (
                f"is the expected error of the model's own result, at strength {MODEL_STRENGTH:g}"
            )
            raise UsageError("--uncertainty", problem, "Remove --strength.")

    def _check_quality(self) -> None:
        if self.quality is None:
            return
        if not 1 <= self.quality <= 100:
            raise UsageError(
                "--quality", f"can't be {self.quality}", "Give a number from 1 to 100."
            )
        if self.ext in LOSSLESS_EXTENSIONS:
            problem = f"has no effect on {self.ext}, which is stored without loss"
            raise UsageError("--quality", problem, "Remove it, or choose jpg, webp or avif.")

    @property
    def needs_predictions(self) -> bool:
        """Return whether files are made from the predictions themselves."""
        return self.predictions or self.weight_maps or self.uncertainty or self.disagreement

    def content_settings(self) -> dict[str, Any]:
        """Return the options that the contents of the files depend on; names are not among them."""
        values = asdict(self)
        return {name: values[name] for name in values if name not in {"suffix", "ext"}}


@dataclass(frozen=True)
class ComputeOptions:
    """What computes the results, and its limits.

    Attributes:
        backend: auto, openvino, onnxruntime, torch, or reference (the network as it was trained, in
            one piece); auto is torch for an NVIDIA GPU, openvino otherwise.
        device: auto, cpu, gpu, or the index of a GPU, where -1 is the processor; auto is an NVIDIA
            GPU if the backend can use one, otherwise the processor.
        precision: auto, fp32, bf16, or int8; auto is the fastest that keeps the model's accuracy.
        memory: Memory that the process may use, in bytes, or for example 4GiB or 500MB; by default
            a share of what is free.
        limit_mp: Largest image accepted, in megapixels; larger ones are refused before they are
            decoded.
    """

    backend: str = "auto"
    device: str = "auto"
    precision: Precision = "auto"
    memory: int | None = None
    limit_mp: float = DEFAULT_LIMIT_MP

    def __post_init__(self) -> None:
        """Check the limit.

        Raises:
            UsageError: it isn't above 0.
        """
        if not 0 < self.limit_mp < float("inf"):
            remedy = "Give a number of megapixels above 0."
            raise UsageError("--limit-mp", f"can't be {self.limit_mp:g}", remedy)

    def open(self, bundle: "Bundle") -> "Engine":
        """Return an engine for a model.

        Raises:
            UsageError: the backend, device or precision isn't available.
            BundleError: a graph can't be read.
        """
        from d2csr.engine.engine import open_engine  # imports OpenVINO

        return open_engine(
            bundle,
            backend=self.backend,
            device=self.device,
            precision=self.precision,
            memory=None if self.memory is None else self.memory - _WRITER_BYTES,
        )


@dataclass(frozen=True)
class BatchOptions:
    """How a run over many images proceeds; the contents of the results don't depend on it.

    Attributes:
        overwrite: Replace files that exist already. Without it they are kept: an image whose result
            is finished, with the same options, is skipped; any other is reported.
        resume: Continue an earlier run: skip the images that it has finished, and replace its
            results whose image or options have changed since.
        json: Print a line of JSON for each image and one for the run, on standard output.
        executor: What does the work: this process (local), or a Ray cluster (ray), which is the one
            that RAY_ADDRESS names, or a local one. With ray, inputs and output may be URLs of
            object storage.
        workers: With ray, the number of processes that share the work; one per machine by default.
        dry_run: Print what would be done, how, and with how much memory, and write nothing.
    """

    overwrite: bool = False
    resume: bool = False
    json: bool = False
    executor: Literal["local", "ray"] = "local"
    workers: int | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        """Check that workers belong to a cluster.

        Raises:
            UsageError: workers are given for the local executor.
        """
        if self.workers is not None and self.executor == "local":
            remedy = "Remove it, or add --executor ray."
            raise UsageError("--workers", "is the number of processes of a Ray cluster", remedy)

    @property
    def skips_finished(self) -> bool:
        """Return whether images that an earlier run has finished are left as they are."""
        return self.resume or not self.overwrite


DEFAULT_OUTPUT = OutputOptions()
DEFAULT_COMPUTE = ComputeOptions()
DEFAULT_BATCH = BatchOptions()


def parse_bytes(text: str) -> int:
    """Return the number of bytes that `4GiB`, `500MB` or `1048576` stands for.

    Raises:
        UsageError: the text is no number of bytes above 0.
    """
    from pydantic import ByteSize, TypeAdapter, ValidationError  # slow to import

    try:
        size = int(TypeAdapter(ByteSize).validate_python(text.strip()))
    except ValidationError:
        size = 0
    if size < 1:
        remedy = "Write it as 4GiB, 500MB, or a number of bytes."
        raise UsageError("--memory", f"{text!r} is not an amount of memory", remedy)
    return size
